#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "adapters/base_hash.h"
#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "ops/isa.h"
#include "runtime/cpu.h"
#include "runtime/cut_batch.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "train/calibrate.h"
#include "train/capacity.h"
#include "train/child_masks.h"
#include "train/class_weights.h"
#include "train/example_memory.h"
#include "train/parameter_words.h"
#include "train/run_examples.h"
#include "train/run_summary.h"
#include "train/same_everywhere.h"
#include "train/target_scale.h"
#include "train/trainer_impl.h"

namespace graft {

void Trainer::Open() {
  model_ = OpenAdapted(c_);
  checkpoints_.BaseIsOpen();
  for (const std::string& notice : model_.notices) Note(notice);
  for (const std::string& notice : model_.training_notices) Note(notice);
  Dataset data(c_);
  for (const std::string& notice : data.notices()) Note(notice);
  if (data.num_classes() > std::ssize(c_.labels))
    Fail("{}: {} classes, but the run began with {}; hint: resume with the data that it began with",
         c_.data, data.num_classes(), c_.labels.size());
  if (!c_.new_head && data.num_classes() == std::ssize(c_.labels))
    data.NumberClassesAs(c_.labels, c_.model);
  data.OnProgress([this](size_t done, size_t total) {
    if (hooks_.on_work) hooks_.on_work("looking at", done, total, "images");
  });
  train_ = data.Load(c_.train_split, c_.limit, model_, c_);
  const std::string test = data.DefaultEvalSplit();
  measurable_ = !c_.val_split.empty() || (!test.empty() && test != c_.train_split);
  if (!c_.val_split.empty()) validation_ = data.Load(c_.val_split, 0, model_, c_);
  for (BatchSource* examples : {train_.get(), validation_.get()})
    if (examples) examples->KeepDecoded();
  const Augment augment = ParseAugment(c_.augment);
  if (augment.any()) train_->SetAugment(augment, static_cast<uint64_t>(c_.seed));
  skipped_ = data.skipped();
  for (const Skipped& one : skipped_) Note("left out: " + one.reason);
  FitMaskRows();
  CheckExamples(data.labels(), train_.get(), validation_.get(), &dir_);
  method_ = ParseMethod(c_.method);
  const int64_t n = static_cast<int64_t>(train_->size());
  steps_per_epoch_ = (n + c_.batch_size - 1) / c_.batch_size;
  steps_ = steps_per_epoch_ * c_.epochs;
  schedule_steps_ = steps_per_epoch_ * (c_.schedule_epochs > 0 ? c_.schedule_epochs : c_.epochs);
  if (const MethodTerm* term = SearchedTerm(method_)) {
    if (hooks_.group)
      Fail(
          "--method {}: '{}' has no gradients, which several processes could share; hint: start "
          "one",
          c_.method, term->name);
    const SearchLimits limits = LimitsOf(*term);
    steps_per_epoch_ = limits.round, steps_ = limits.generations;
  }
  const uint64_t seed = static_cast<uint64_t>(c_.seed);
  graph_ = MethodGraph(model_.config,
                       {.loss = true,
                        .label_smoothing = c_.label_smoothing,
                        .drop_path = c_.drop_path,
                        .seed = c_.seed,
                        .mixed = augment.mixes()},
                       method_, model_.params, seed, nullptr, dir_.HasState());
  int64_t parameters = 0;
  for (const auto& [name, entry] : model_.params.entries()) parameters += entry.shape.size();
  const auto trainable = TrainableRanks(graph_);
  CheckRateRules(c_.lr_scale, trainable), CheckDecayWords(c_.no_decay, trainable);
  WeightClasses();
  ScaleTargets();
  trainable_count_ = stored_count_ = TrainableCount(graph_);
  if (ReducedMethod(method_) != method_)
    stored_count_ = StoredCount(model_.config, method_, model_.params, seed);
  // The initial state belongs to the run before its first step: a resumed run overwrites it here.
  loaded_state_ = dir_.LoadState(model_.params, progress_);
  if (WantsCalibration(method_)) shift_ = model_.params.Mutable(kCalibrationShift);
  progress_.finished = false, progress_.epochs = c_.epochs;
  dir_.TruncateMetrics(progress_.step);
  if (progress_.step > steps_)
    Fail("{}: the state is of step {}, but the run has {}", dir_.path(), progress_.step, steps_);
  if (!c_.trace.empty() && !dir_.resumed() && IsFirst()) CreateFreshDirectory(c_.trace);
  if (hooks_.on_start)
    hooks_.on_start({&c_, &model_, n, validation_ ? static_cast<int64_t>(validation_->size()) : 0,
                     train_->unit(), progress_.step, steps_, steps_per_epoch_, parameters,
                     trainable_count_});
}

// Where the head trains; one that stays as it is has a unit of its own.
void Trainer::ScaleTargets() {
  scaled_ = c_.scale_targets && !SearchedTerm(method_) && HeadTakesScale(graph_);
  if (!scaled_) return;
  MeasureTargets(*train_, Classes(model_.config), &model_.params);
  StandardiseTargets(&graph_);
  if (!c_.new_head && !dir_.HasState()) TakeScaleOffHead(&model_.params);
  Note(TargetScaleText(model_.params, c_.labels));
}

void Trainer::WeightClasses() {
  if (c_.class_weights.empty()) return;
  std::vector<int64_t> counts(Classes(model_.config));
  for (size_t i = 0; i < train_->size(); ++i) ++counts[train_->label(i)];
  class_weights_ = ClassWeights(c_.class_weights, counts);
  WeightLosses(&graph_, &model_.params, class_weights_, c_.label_smoothing);
}

// Sets how many rows of each text the head reads: as many as are masked in any.
void Trainer::FitMaskRows() {
  int64_t rows = 0;
  for (BatchSource* data : {train_.get(), validation_.get()})
    if (data) rows = std::max(rows, data->mask_rows());
  if (rows == 0) return;
  for (BatchSource* data : {train_.get(), validation_.get()})
    if (data) data->SetMaskRows(rows);
  model_.bert().mask_rows = rows;
}

// Begins the trace once the run can begin: the directory of a run that cannot stays empty.
void Trainer::BeginTrace(const Graph& whole) {
  if (c_.trace.empty() || !IsFirst()) return;
  if (progress_.step == 0)
    trace_ = Trace::Begin(c_, whole, model_.params, *train_, dir_.resumed());
  else if (hooks_.note)
    hooks_.note(fmt::format("{}: not continued, a trace covers whole runs only", c_.trace));
}

// Makes the masks of a run that begins; one that is resumed finds them in its state.
void Trainer::MakeMasks() {
  std::optional<ChildMasks> wanted = WantedChildMasks(method_);
  if (!wanted || loaded_state_) return;
  const int64_t micro = c_.memory_budget.empty() ? c_.micro_batch : 1;
  const Counts capacity = ChooseCapacity(model_.config, train_->longest(), c_.batch_size, micro);
  if (c_.clip > 0) wanted->clip = c_.clip;  // else the authors' max_grad_norm
  const auto masks =
      MakeChildMasks(graph_, model_.params, *wanted, capacity, c_.batch_size, *train_);
  if (hooks_.note)
    hooks_.note(fmt::format("Fisher information of {} {}: masks of {} parameters", train_->size(),
                            train_->unit(), masks.size()));
}

void Trainer::Compile() {
  const Graph whole = graph_;
  const Counts wanted = ChooseTrainingCapacity(model_.config, graph_, PassesOf(c_),
                                               train_->longest(), c_.batch_size, c_.micro_batch);
  BudgetRequest request{.wanted = wanted,
                        .longest = train_->longest(),
                        .budget = c_.memory_budget,
                        .held_bytes = ExampleBytes(c_, *train_, validation_.get(), wanted),
                        .passes = PassesOf(c_)};
  const std::string hash = GraphHash(graph_), plan = dir_.file("plan.json");
  // A run goes on with the plan that it began with, even if it was killed before its first
  // checkpoint.
  if (dir_.resumed() && (progress_.step > 0 || std::filesystem::exists(plan)))
    request.keep = ReadSumOrder(plan, hash, c_.batch_size, train_->longest());
  if (request.keep.lanes == 0) request.keep.lanes = static_cast<int>(c_.lanes);
  Graph inference, plain;
  if (validation_) {
    inference =
        EvaluationGraph(model_.config, method_, model_.params, static_cast<uint64_t>(c_.seed));
    if (scaled_) StandardiseTargets(&inference);
    plain = inference;
    InferencePasses(PassesOf(c_)).Run(inference);
    request.between = &inference, request.longest_between = validation_->longest();
  }
  KeepFeatures(request);
  if (!interrupted_ && features_ && validation_) KeepValidationFeatures(plain, &inference);
  if (interrupted_) return;
  if (validation_) request.longest_between = validation_->longest();
  MakeMasks();
  compiled_.emplace(CompileWithinBudget(graph_, model_.params, OptimizerOf(c_), request));
  step_ = &compiled_->step;
  TellProducts(step_->graph());
  if (hooks_.group) Share();
  const size_t more = ShareSpare(c_, compiled_->needed_bytes, features_ ? nullptr : train_.get(),
                                 validation_.get());
  if (hooks_.note && !c_.memory_budget.empty())
    hooks_.note(fmt::format("memory budget {}: {}{}", c_.memory_budget, PlanText(*compiled_),
                            more >> 20 ? fmt::format("; {} MiB more for images", more >> 20) : ""));
  std::vector<std::string> resumes = step_->optimizer_names();
  for (const auto& [name, entry] : model_.params.entries())
    if (name.starts_with(kChildMask)) resumes.push_back(name);
  if (scaled_) resumes.insert(resumes.end(), {kTargetMean, kTargetDeviation});
  RecordNames(whole, step_->trainable_names(), resumes);
  if (validation_) {
    evaluator_.emplace(inference, model_.params, compiled_->between, PassNames());
    evaluator_->OnProgress("validation", hooks_.on_work);
    evaluator_->ShareWith(hooks_.group);
  }
  dir_.Write("plan.json", DumpJson(PlanJson(*compiled_, hash, features_.has_value()), 1) + "\n");
  WriteSummary();
  if (hooks_.on_plan)
    hooks_.on_plan({step_->session().planned_bytes(), step_->micro_batch(), features_.has_value(),
                    &c_, products_});
}

// Where features are kept, all of the model but its end was in the graph that made them.
void Trainer::TellProducts(const Graph& compiled) {
  if (products_.empty() || products_ == "f32") products_ = DtypeOfProducts(compiled);
  if (const std::string none = NoneIsIn(c_.dtype, products_); hooks_.note && !none.empty())
    hooks_.note(none);
}

void Trainer::Share() {
  step_->ShareWith(hooks_.group);
  // All examples are read for a trace, which looks at each of them, and for mixing, which looks at
  // those of other processes.
  if (!c_.trace.empty() || ParseAugment(c_.augment).mixes()) return;
  train_->ReadOnly(c_.batch_size, [this](int64_t batch) { return step_->OwnOf(batch); });
}

// Every process has planned for itself, from the files that it finds. Gradients of different
// kernels, examples or weights must not be summed, so all processes compare what they have.
void Trainer::CheckOthers() {
  ProcessGroup& group = *hooks_.group;
  interrupted_ = group.Meet(interrupted_);
  if (interrupted_) return;
  const std::string plan = DumpJson(PlanJson(*compiled_, GraphHash(graph_), features_.has_value()));
  const std::string mine = fmt::format("{} {} {} {} {}", progress_.step, c_.examples_sha256,
                                       BaseHash(c_.model), ActiveIsa(), plan);
  CheckSameEverywhere(group, mine);
  const SessionOptions& session = step_->session().options();
  const int64_t parts =
      std::min(int64_t{session.lanes}, std::ssize(CutBatch(c_.batch_size, session.capacity, {})));
  Note(fmt::format("{} processes share each batch", group.size()));
  if (parts < group.size())
    Note(fmt::format(
        "a step has {} parts (docs/cli.md), so {} processes have no work in it; hint: --lanes or "
        "a smaller --micro-batch make more",
        parts, group.size() - parts));
}

// Records what is saved: what trains and what the method owns, and in the state also what a resume
// needs.
void Trainer::RecordNames(const Graph& whole, std::vector<std::string> kept,
                          const std::vector<std::string>& more) {
  for (const std::string& name : OwnedNames(whole, method_)) kept.push_back(name);
  std::vector<std::string> state = kept;
  state.insert(state.end(), more.begin(), more.end());
  checkpoints_.SetNames(std::move(kept), std::move(state));
  CheckLoadedState();
}

// Refuses a state that lacks a tensor: that one would go on from its initial value.
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

// Keeps the features of frozen layers, unless the budget is too small for them; a resumed run does
// as it did before.
void Trainer::KeepFeatures(BudgetRequest& request) {
  if (MasksWords(c_)) return;  // a text has other masks in every epoch
  std::optional<FeatureCut> cut = CutFeatures(graph_, c_, *train_);
  if (!cut) return;
  if (!c_.augment.empty())
    return Note(
        "the features of frozen layers are not kept: --augment makes other images in every "
        "epoch");
  const bool before = request.keep.capacity.sequences > 0;
  if (before && !request.keep.features) return;
  if (!c_.memory_budget.empty()) {
    const BudgetFit fit = FeaturesFit(*cut, model_, c_, *train_, request);
    if (!fit.fits && !before) {
      request.otherwise = fit.smallest;
      return;
    }
  }
  ShareSpare(c_, SIZE_MAX, train_.get(), nullptr);
  features_ = ComputeFeatures(*cut, model_, c_, *train_, request.held_bytes, hooks_.stop,
                              hooks_.on_work, hooks_.group);
  graph_ = std::move(cut->rest);
  products_ = DtypeOfProducts(cut->frozen);
  request.held_bytes += cut->bytes;
  interrupted_ = features_->interrupted;
  progress_.seconds += features_->seconds;
  session_seconds_ += features_->seconds;
  if (hooks_.note && !interrupted_)
    hooks_.note(
        features_->from_cache
            ? fmt::format("features of the frozen layers of {} {}: kept since an earlier run",
                          train_->size(), train_->unit())
            : fmt::format("features of the frozen layers kept for {} {} ({:.1f} s, once)",
                          train_->size(), train_->unit(), features_->seconds));
}

// Keeps the features of validation examples, too; within a budget these examples are read anew each
// time.
void Trainer::KeepValidationFeatures(const Graph& plain, Graph* inference) {
  if (!c_.memory_budget.empty()) return;
  std::optional<FeatureCut> cut = CutFeatures(plain, c_, *validation_);
  if (!cut) return;
  Features features =
      ComputeFeatures(*cut, model_, c_, *validation_, 0, hooks_.stop, hooks_.on_work, hooks_.group);
  interrupted_ = features.interrupted;
  validation_ = MakeFeatureData(std::move(features), *validation_);
  *inference = std::move(cut->rest);
  InferencePasses(PassesOf(c_)).Run(*inference);
}

TrainSummary Trainer::Summary() const {
  const bool early = StopsEarly() && progress_.step < steps_;
  std::optional<double> best;
  if (progress_.best_epoch > 0) best = MetricOfScore(c_.best_metric, progress_.best_metric);
  return {c_,
          progress_.step,
          trainable_count_,
          stored_count_,
          progress_.last_loss,
          progress_.val_accuracy,
          progress_.seconds,
          session_seconds_ > 0 ? static_cast<double>(examples_seen_) / session_seconds_ : 0,
          step_     ? step_->session().planned_bytes()
          : search_ ? search_->session().planned_bytes()
                    : 0,
          interrupted_,
          early,
          start_seconds_,
          model_.layout,
          skipped_,
          best,
          progress_.best_epoch,
          measurable_,
          products_};
}

namespace {

// The summary of a run that has nothing left to do, which needs neither its model nor its data.
std::optional<TrainSummary> FinishedRun(const RunDir& dir) {
  ParamStore state;
  Progress p;
  if (!dir.LoadState(state, p) || !IsFinished(dir.config(), p)) return {};
  if (!std::filesystem::exists(dir.file("last.safetensors"))) return {};  // made again
  int64_t trainable = 0;
  const ParamStore last = SafetensorsFile::Open(dir.file("last.safetensors")).LoadAll();
  for (const auto& [name, entry] : last.entries())
    if (name != kCalibrationShift) trainable += entry.shape.size();  // that does not train
  const nlohmann::json summary = ReadSummary(dir.path());
  const auto stored = summary.find("stored_parameters");
  const bool known = summary.is_object() && stored != summary.end() && stored->is_number_integer();
  return TrainSummary{.config = dir.config(),
                      .steps = p.step,
                      .trainable_parameters = trainable,
                      .stored_parameters = known ? stored->get<int64_t>() : trainable,
                      .final_train_loss = p.last_loss,
                      .val_accuracy = p.val_accuracy,
                      .seconds = p.seconds,
                      .stopped_early = StoppedEarly(dir.path()),
                      .best = p.best_epoch > 0 ? std::optional(MetricOfScore(
                                                     dir.config().best_metric, p.best_metric))
                                               : std::nullopt,
                      .best_epoch = p.best_epoch};
}

TrainSummary TrainHere(RunDir& dir, const TrainHooks& hooks) {
  dir.Lock();
  const std::optional<TrainSummary> done = FinishedRun(dir);
  if (hooks.group && hooks.group->Meet(done.has_value()) && !done)
    Fail("{}: finished, as another process sees it; hint: all need the same files", dir.path());
  if (done) return *done;
  Trainer trainer(dir, hooks);
  if (!dir.resumed()) return trainer.Run();
  return OfFile(dir.file("config.json"), [&] { return trainer.Run(); });
}

}  // namespace

TrainSummary Train(RunDir& dir, const TrainHooks& hooks) {
  if (!hooks.group) return TrainHere(dir, hooks);
  TrainSummary summary;
  hooks.group->Together([&] { summary = TrainHere(dir, hooks); });
  return summary;
}

}  // namespace graft
