#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>

#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "runtime/cpu.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/rng.h"
#include "train/budget.h"
#include "train/capacity.h"
#include "train/checkpoints.h"
#include "train/dataset.h"
#include "train/example_memory.h"
#include "train/features.h"
#include "train/trace.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One run in progress. Steps are numbered from 0 over all epochs.
class Trainer {
 public:
  Trainer(RunDir& dir, const TrainHooks& hooks)
      : dir_(dir), hooks_(hooks), c_(dir.config()), checkpoints_(dir) {}

  TrainSummary Run() {
    Open();
    const Graph whole = graph_;
    Compile();
    if (!interrupted_) BeginTrace(whole);
    start_seconds_ = SecondsSinceStart();
    while (progress_.step < steps_ && !interrupted_) OneEpoch();
    if (!interrupted_) Finish();
    return Summary();
  }

 private:
  void Open();
  void Compile();
  void CheckExamples(const std::vector<std::string>& classes);
  void CheckLoadedState() const;
  void KeepFeatures(BudgetRequest& request);
  void BeginTrace(const Graph& whole);
  void OneEpoch();
  double OneStep(std::span<const size_t> rows);  // its loss
  StepResult StepOnFeatures(std::span<const size_t> rows, double lr);
  StepResult StepOnExamples(std::span<const size_t> rows, double lr);
  void EndEpoch(int64_t epoch);
  void Note(const std::string& notice) const {
    if (!notice.empty() && hooks_.note) hooks_.note("note: " + notice);
  }
  void CheckFinite() { checkpoints_.CheckFinite(model_.params, progress_.step, steps_); }
  void SaveState() { checkpoints_.SaveState(model_.params, progress_, steps_); }
  void Finish();
  TrainSummary Summary() const;

  int64_t epoch_of(int64_t step) const { return step / steps_per_epoch_; }
  double Batches(size_t examples) const {
    return static_cast<double>(examples) / static_cast<double>(c_.batch_size);
  }
  // Kept features stand for the examples, unless a trace draws masks of their rows.
  bool ReadsExamples() const { return !features_ || (trace_ && trace_->draws_masks()); }
  std::vector<size_t> EpochOrder(int64_t epoch) const;

  RunDir& dir_;
  const TrainHooks& hooks_;
  const RunConfig& c_;
  Checkpoints checkpoints_;
  LoadedModel model_;
  Method method_;
  std::unique_ptr<BatchSource> train_, validation_;
  Graph graph_;
  std::optional<CompiledStep> compiled_;
  TrainStep* step_ = nullptr;  // of compiled_
  std::optional<Evaluator> evaluator_;
  std::unique_ptr<Trace> trace_;
  std::optional<Features> features_;  // of the training examples, if the first layers are frozen
  std::optional<std::vector<std::string>> loaded_state_;  // names, if there was one
  Progress progress_;
  int64_t steps_ = 0, steps_per_epoch_ = 0, trainable_count_ = 0, examples_seen_ = 0;
  double session_seconds_ = 0, start_seconds_ = 0;
  double work_ = 0;  // of the last step, in full micro-batches
  bool interrupted_ = false, told_ = false;
};

void Trainer::Open() {
  model_ = OpenAdapted(c_);
  checkpoints_.BaseIsOpen();
  for (const std::string& notice : model_.notices) Note(notice);
  Dataset data(c_.data, c_.columns);
  Note(data.notice());
  if (data.num_classes() > static_cast<int64_t>(c_.labels.size()))
    Fail("{}: {} classes, but the run began with {}; hint: resume with the data that it began with",
         c_.data, data.num_classes(), c_.labels.size());
  if (!c_.new_head && data.num_classes() == std::ssize(c_.labels))
    data.NumberClassesAs(c_.labels, c_.model);
  train_ = data.Load(c_.train_split, static_cast<size_t>(c_.limit), model_, c_);
  if (!c_.val_split.empty()) validation_ = data.Load(c_.val_split, 0, model_, c_);
  CheckExamples(data.labels());
  method_ = ParseMethod(c_.method);
  const int64_t n = static_cast<int64_t>(train_->size());
  steps_per_epoch_ = (n + c_.batch_size - 1) / c_.batch_size;
  steps_ = steps_per_epoch_ * c_.epochs;
  const uint64_t seed = static_cast<uint64_t>(c_.seed);
  graph_ = MethodGraph(model_.config,
                       {.loss = true,
                        .label_smoothing = c_.label_smoothing,
                        .drop_path = c_.drop_path,
                        .seed = c_.seed},
                       method_, model_.params, seed);
  trainable_count_ = TrainableCount(graph_);
  // The initial state belongs to the run before its first step: a resumed run overwrites it here.
  loaded_state_ = dir_.LoadState(model_.params, progress_);
  dir_.TruncateMetrics(progress_.step);
  if (progress_.step > steps_)
    Fail("{}: the state is of step {}, but the run has {}", dir_.path(), progress_.step, steps_);
  if (!c_.trace.empty() && !dir_.resumed()) CreateFreshDirectory(c_.trace);
}

// Once the run can begin: of one that cannot, the directory stays empty.
void Trainer::BeginTrace(const Graph& whole) {
  if (c_.trace.empty()) return;
  if (progress_.step == 0)
    trace_ = Trace::Begin(c_, whole, model_.params, *train_, dir_.resumed());
  else if (hooks_.note)
    hooks_.note(fmt::format("{}: not continued, a trace covers whole runs only", c_.trace));
}

// The order of a run's examples is a function of their number: with others, what a checkpoint says
// of its position means nothing.
void Trainer::CheckExamples(const std::vector<std::string>& classes) {
  const std::string hash = HashOfExamples(classes, train_.get(), validation_.get());
  if (c_.examples_sha256.empty()) return dir_.RecordExamples(hash);
  if (hash != c_.examples_sha256)
    Fail(
        "{}: the examples or their classes have changed since {} began; hint: resume with the data "
        "that it began with",
        c_.data, dir_.path());
}

void Trainer::Compile() {
  const Counts wanted =
      ChooseCapacity(model_.config, train_->longest(), c_.batch_size, c_.micro_batch);
  BudgetRequest request{.wanted = wanted,
                        .longest = train_->longest(),
                        .budget = c_.memory_budget,
                        .held_bytes = ExampleBytes(c_, *train_, validation_.get(), wanted),
                        .disabled = c_.disabled_passes};
  const std::string hash = GraphHash(graph_), plan = dir_.file("plan.json");
  // A run goes on as it began, also if it did not come to a checkpoint.
  if (dir_.resumed() && (progress_.step > 0 || std::filesystem::exists(plan)))
    request.keep = ReadSumOrder(plan, hash, c_.batch_size, train_->longest());
  Graph inference;
  if (validation_) {
    inference = MethodGraph(model_.config, {.loss = true}, method_, model_.params,
                            static_cast<uint64_t>(c_.seed));
    InferencePasses(c_.disabled_passes).Run(inference);
    request.between = &inference, request.longest_between = validation_->longest();
  }
  KeepFeatures(request);
  if (interrupted_) return;
  compiled_.emplace(CompileWithinBudget(graph_, model_.params, OptimizerOf(c_), request));
  step_ = &compiled_->step;
  const size_t more = ShareSpare(c_, compiled_->needed_bytes, features_ ? nullptr : train_.get(),
                                 validation_.get());
  if (hooks_.note && !c_.memory_budget.empty())
    hooks_.note(fmt::format("memory budget {}: {}{}", c_.memory_budget, PlanText(*compiled_),
                            more >> 20 ? fmt::format("; {} MiB more for images", more >> 20) : ""));
  std::vector<std::string> state = step_->trainable_names();
  for (const std::string& name : step_->optimizer_names()) state.push_back(name);
  checkpoints_.SetNames(step_->trainable_names(), std::move(state));
  CheckLoadedState();
  if (validation_) evaluator_.emplace(inference, model_.params, compiled_->between, PassNames());
  dir_.Write("plan.json", DumpJson(PlanJson(*compiled_, hash, features_.has_value()), 1) + "\n");
}

// What the state lacks would go on from its initial value.
void Trainer::CheckLoadedState() const {
  if (!loaded_state_) return;
  const std::set<std::string> found(loaded_state_->begin(), loaded_state_->end());
  for (const std::string& name : checkpoints_.state())
    if (!found.contains(name))
      Fail("{}: no tensor '{}', which {} trains", dir_.file("state.safetensors"), name, c_.method);
  if (found.size() != checkpoints_.state().size())
    Fail("{}: {} tensors, expected the {} that {} trains", dir_.file("state.safetensors"),
         found.size(), checkpoints_.state().size(), c_.method);
}

// Unless the budget is too small for them; a resumed run does as it did before.
void Trainer::KeepFeatures(BudgetRequest& request) {
  std::optional<FeatureCut> cut = CutFeatures(graph_, c_, *train_);
  if (!cut) return;
  const bool before = request.keep.lanes > 0;
  if (before && !request.keep.features) return;
  if (!c_.memory_budget.empty()) {
    const BudgetFit fit = FeaturesFit(*cut, model_, c_, *train_, request);
    if (!fit.fits && !before) {
      request.otherwise = fit.smallest;
      return;
    }
  }
  ShareSpare(c_, SIZE_MAX, train_.get(), nullptr);
  features_ = ComputeFeatures(*cut, model_, c_, *train_, request.held_bytes, hooks_.stop);
  graph_ = std::move(cut->rest);
  request.held_bytes += cut->bytes;
  interrupted_ = features_->interrupted;
  progress_.seconds += features_->seconds;
  session_seconds_ += features_->seconds;
  if (hooks_.note && !interrupted_)
    hooks_.note(fmt::format("features of the frozen layers kept for {} {} ({:.1f} s, once)",
                            train_->size(), train_->unit(), features_->seconds));
}

std::vector<size_t> Trainer::EpochOrder(int64_t epoch) const {
  const StreamKey key{MakeKey(static_cast<uint64_t>(c_.seed), Purpose::kOrder, ""),
                      static_cast<uint64_t>(epoch), 0};
  const std::vector<int32_t> order = Permutation(static_cast<int32_t>(train_->size()), key);
  return {order.begin(), order.end()};
}

StepResult Trainer::StepOnFeatures(std::span<const size_t> rows, double lr) {
  Session& session = step_->session();
  if (ReadsExamples()) train_->Take(rows.size());
  work_ = static_cast<double>(rows.size()) / static_cast<double>(step_->micro_batch());
  return step_->Run(static_cast<int64_t>(rows.size()), progress_.step, lr,
                    [&](int64_t first, int64_t count, int worker) {
                      float* input = session.Input("features", worker).f32();
                      int32_t* labels = session.Input("labels", worker).i32();
                      for (const size_t row :
                           rows.subspan(static_cast<size_t>(first), static_cast<size_t>(count))) {
                        *labels++ = train_->label(row);
                        input = std::copy_n(features_->of(row), features_->size, input);
                      }
                    });
}

StepResult Trainer::StepOnExamples(std::span<const size_t> rows, double lr) {
  Session& session = step_->session();
  train_->Take(rows.size());
  const Counts& full = session.options().capacity;
  const std::vector<Counts> parts = train_->Parts(full);
  work_ = 0;
  for (const Counts& part : parts)
    work_ += full.tokens
                 ? static_cast<double>(part.tokens) / static_cast<double>(full.tokens)
                 : static_cast<double>(part.sequences) / static_cast<double>(full.sequences);
  return step_->Run(parts, progress_.step, lr, [&](int64_t first, int64_t count, int worker) {
    train_->Fill(session, first, count, worker);
  });
}

double Trainer::OneStep(std::span<const size_t> rows) {
  const int64_t step = progress_.step;
  const double lr = LearningRate(c_, step, steps_);
  const StepResult result = features_ ? StepOnFeatures(rows, lr) : StepOnExamples(rows, lr);
  if (!std::isfinite(result.loss))  // the sign of a NaN means nothing
    checkpoints_.StopNonFinite(
        fmt::format("the loss is {} at step {} of {} (epoch {}, learning rate {:.3g})",
                    std::fabs(result.loss), step + 1, steps_, epoch_of(step) + 1, lr));
  if (trace_) trace_->Step(step, rows, result.loss, lr, *train_);
  progress_.epoch_loss_sum += result.loss * Batches(rows.size());
  ++progress_.step;
  return result.loss;
}

void Trainer::OneEpoch() {
  const int64_t epoch = epoch_of(progress_.step);
  const std::vector<size_t> order = EpochOrder(epoch);
  const size_t batch = static_cast<size_t>(c_.batch_size);
  const size_t done = static_cast<size_t>(progress_.step % steps_per_epoch_) * batch;
  if (ReadsExamples()) train_->Start({order.begin() + static_cast<ptrdiff_t>(done), order.end()});
  const double flops = step_->session().cost(Phase::kMain).flops;  // of a full micro-batch
  for (size_t at = done; at < order.size(); at += batch) {
    const Clock::time_point start = Clock::now();
    const size_t count = std::min(batch, order.size() - at);
    const double loss = OneStep({&order[at], count});
    const double seconds = Since(start);
    progress_.seconds += seconds, session_seconds_ += seconds;
    examples_seen_ += static_cast<int64_t>(count);
    if (hooks_.on_step)
      hooks_.on_step({progress_.step, steps_, epoch + 1, c_.epochs, loss,
                      LearningRate(c_, progress_.step - 1, steps_),
                      static_cast<double>(count) / seconds, flops * work_ / seconds * 1e-9,
                      session_seconds_ / static_cast<double>(examples_seen_) *
                          static_cast<double>(c_.batch_size * (steps_ - progress_.step)),
                      train_->unit()});
    const bool ends = at + count == order.size();
    if (ends) EndEpoch(epoch);
    if (ends && !std::exchange(told_, true)) Note(train_->notice());  // all have been read
    if (hooks_.stop && hooks_.stop()) {
      interrupted_ = progress_.step < steps_;
      SaveState();
      return;
    }
    if (ends || (c_.save_every && progress_.step % c_.save_every == 0)) SaveState();
  }
}

void Trainer::EndEpoch(int64_t epoch) {
  CheckFinite();
  progress_.last_loss = progress_.epoch_loss_sum / Batches(train_->size());
  progress_.epoch_loss_sum = 0;
  EpochReport report{epoch + 1,
                     c_.epochs,
                     progress_.last_loss,
                     session_seconds_,
                     static_cast<double>(examples_seen_) / std::max(session_seconds_, 1e-9),
                     train_->unit()};
  nlohmann::json line{{"epoch", epoch + 1},
                      {"step", progress_.step},
                      {"train_loss", progress_.last_loss},
                      {"lr", LearningRate(c_, progress_.step - 1, steps_)},
                      {"seconds", progress_.seconds}};
  if (evaluator_) {
    report.validated = true;
    report.validation = evaluator_->Run(*validation_);
    progress_.val_accuracy = report.validation.accuracy;
    line["val_accuracy"] = report.validation.accuracy;
    line["val_loss"] = report.validation.loss;
    line["val_macro_f1"] = report.validation.macro_f1;
    line["val_matthews"] = report.validation.matthews;
  }
  checkpoints_.CheckBase();
  if (evaluator_ && report.validation.accuracy > progress_.best_metric) {
    progress_.best_metric = report.validation.accuracy;
    checkpoints_.SaveBest(model_.params);
  }
  dir_.AppendMetrics(DumpJson(line));
  if (hooks_.on_epoch) hooks_.on_epoch(report);
}

void Trainer::Finish() {
  checkpoints_.CheckBase();
  if (!evaluator_) checkpoints_.SaveBest(model_.params);  // without validation, best is last
  if (trace_) trace_->Finish(model_.params, checkpoints_.trainable());
  progress_.finished = true;
  SaveState();
}

TrainSummary Trainer::Summary() const {
  return {c_,
          progress_.step,
          trainable_count_,
          progress_.last_loss,
          progress_.val_accuracy,
          progress_.seconds,
          session_seconds_ > 0 ? static_cast<double>(examples_seen_) / session_seconds_ : 0,
          step_ ? step_->session().planned_bytes() : 0,
          interrupted_,
          start_seconds_,
          model_.layout};
}

// Of a run that has nothing left to do, which then needs neither its model nor its data.
std::optional<TrainSummary> FinishedRun(const RunDir& dir) {
  ParamStore state;
  Progress p;
  if (!dir.LoadState(state, p) || !p.finished) return {};
  if (!std::filesystem::exists(dir.file("last.safetensors"))) return {};  // made again
  int64_t trainable = 0;
  const ParamStore last = SafetensorsFile::Open(dir.file("last.safetensors")).LoadAll();
  for (const auto& [name, entry] : last.entries()) trainable += entry.shape.size();
  return TrainSummary{.config = dir.config(),
                      .steps = p.step,
                      .trainable_parameters = trainable,
                      .final_train_loss = p.last_loss,
                      .val_accuracy = p.val_accuracy,
                      .seconds = p.seconds};
}

}  // namespace

TrainSummary Train(RunDir& dir, const TrainHooks& hooks) {
  dir.Lock();
  if (const std::optional<TrainSummary> done = FinishedRun(dir)) return *done;
  Trainer trainer(dir, hooks);
  if (!dir.resumed()) return trainer.Run();
  return OfFile(dir.file("config.json"), [&] { return trainer.Run(); });
}

}  // namespace graft
