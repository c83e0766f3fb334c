#include "search/search_run.h"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "adapters/method_graph.h"
#include "runtime/cpu.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "search/candidates.h"
#include "search/choices.h"
#include "search/shared_prefix.h"
#include "search/supernet.h"
#include "train/capacity.h"
#include "train/checkpoints.h"
#include "train/complete_config.h"
#include "train/example_memory.h"
#include "train/parameter_words.h"
#include "train/run_summary.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Interrupted {};

class Searcher {
 public:
  Searcher(RunDir& dir, const SearchConfig& search, const SearchHooks& hooks)
      : dir_(dir), hooks_(hooks), c_(dir.config()), search_(search), checkpoints_(dir) {}

  SearchSummary Run() {
    Open();
    LoadSupernet();
    try {
      while (step_ < steps_) Epoch();
      std::vector<Evaluated> all = Evolve(PopulationOf(*space_), search_.evolution,
                                          [&](std::span<Evaluated> next) { Measure(next); });
      if (all.empty()) Fail("{}: nothing was measured", dir_.path());
      if (!std::filesystem::exists(dir_.file(kMethodFile))) Finish(all);
      return Summary(all);
    } catch (const Interrupted&) {
      SearchSummary summary;
      summary.config = c_, summary.steps = step_, summary.evaluated = std::ssize(measured_);
      summary.interrupted = true;
      return summary;
    }
  }

 private:
  void Open();
  void CheckLimit() const;
  void CheckRates() const;
  void LoadSupernet();
  void SaveSupernet();
  void SaveSeconds() const;
  void Epoch();
  double Step(std::span<const size_t> rows);
  void Measure(std::span<Evaluated> generation);
  void MeasureNew(std::span<Evaluated> candidates);
  Graph GraphOf(const Evaluated& e, ParamStore* params) const {  // as inference runs it
    *params = CandidateParams(*space_, model_.config, e.genes, model_.params);
    return FoldedCandidate(model_.config, space_->MethodOf(e.genes), *params,
                           static_cast<uint64_t>(c_.seed), InferencePasses(PassesOf(c_)));
  }
  void Finish(const std::vector<Evaluated>& all);
  void WriteRun(const Evaluated& best);
  SearchSummary Summary(const std::vector<Evaluated>& all) const;
  void Note(const std::string& notice) const {
    if (!notice.empty() && hooks_.note) hooks_.note("note: " + notice);
  }

  RunDir& dir_;
  const SearchHooks& hooks_;
  const RunConfig& c_;
  const SearchConfig& search_;
  Checkpoints checkpoints_;
  LoadedModel model_;
  std::unique_ptr<BatchSource> train_, validation_;
  std::optional<BoundSpace> space_;
  std::optional<Supernet> supernet_;
  std::optional<SharedPrefixes> prefixes_;
  std::vector<Evaluated> measured_;  // in order; of an earlier session, too
  size_t replayed_ = 0;              // of them, what this session's evolution has asked for
  nlohmann::json epochs_ = nlohmann::json::array();
  int64_t step_ = 0, steps_ = 0, steps_per_epoch_ = 0;
  double loss_sum_ = 0, train_seconds_ = 0, search_seconds_ = 0, session_seconds_ = 0;
  double step_flops_ = 0;  // of the last step
  int64_t examples_ = 0;
};

void Searcher::Open() {
  model_ = OpenAdapted(c_);
  checkpoints_.BaseIsOpen();
  for (const std::string& notice : model_.notices) Note(notice);
  for (const std::string& notice : model_.training_notices) Note(notice);
  Dataset data(c_);
  for (const std::string& notice : data.notices()) Note(notice);
  if (!c_.new_head && data.num_classes() == std::ssize(c_.labels))
    data.NumberClassesAs(c_.labels, c_.model);
  train_ = data.Load(c_.train_split, c_.limit, model_, c_);
  validation_ = data.Load(c_.val_split, 0, model_, c_);
  train_->KeepDecoded(), validation_->KeepDecoded();
  const Augment augment = ParseAugment(c_.augment);
  if (augment.any()) train_->SetAugment(augment, static_cast<uint64_t>(c_.seed));
  const std::string hash = HashOfExamples(data.labels(), train_.get(), validation_.get());
  if (!c_.examples_sha256.empty() && hash != c_.examples_sha256)
    Fail(
        "{}: the examples or their classes have changed since {} began; hint: resume with the "
        "data that it began with",
        c_.data, dir_.path());
  if (c_.examples_sha256.empty()) dir_.RecordExamples(hash);
  ShareSpare(c_, SIZE_MAX, train_.get(), validation_.get());
  const int64_t n = static_cast<int64_t>(train_->size());
  steps_per_epoch_ = (n + c_.batch_size - 1) / c_.batch_size;
  steps_ = steps_per_epoch_ * c_.epochs;
  space_.emplace(ParseSpace(search_.space), model_.config, model_.params);
  CheckLimit();
  CheckRates();
  SupernetOptions options{
      .build = {.loss = true,
                .label_smoothing = c_.label_smoothing,
                .drop_path = c_.drop_path,
                .seed = c_.seed,
                .mixed = augment.mixes()},
      .optimizer = OptimizerOf(c_),
      .capacity = ChooseCapacity(model_.config, train_->longest(), c_.batch_size, c_.micro_batch),
      .passes = PassesOf(c_),
      .seed = static_cast<uint64_t>(c_.seed)};
  supernet_.emplace(*space_, model_.config, model_.params, std::move(options));
  if (hooks_.on_start)
    hooks_.on_start({&c_, &model_, n, static_cast<int64_t>(validation_->size()), steps_,
                     train_->unit(), space_->genes().size(), space_->log10_candidates(),
                     space_->SmallestParameters()});
}

void Searcher::CheckRates() const {
  std::map<std::string, int> trainable{{"head.weight", 2}, {"head.bias", 1}};
  for (const auto& [name, shape] : space_->storage()) trainable[name] = shape.rank;
  CheckRateRules(c_.lr_scale, trainable);
}

void Searcher::CheckLimit() const {
  const int64_t limit = search_.evolution.max_parameters;
  const int64_t smallest = limit > 0 ? space_->SmallestParameters() : 0;
  if (smallest > limit)
    FailUsage(
        "--max-params {}: the smallest candidate of the space trains {} numbers besides the "
        "head",
        limit, smallest);
}

// --- the supernet

void Searcher::LoadSupernet() {
  const std::string file = dir_.file("supernet.safetensors");
  if (!std::filesystem::exists(file)) return;
  const SafetensorsFile stored = SafetensorsFile::Open(file);
  const ParamStore values = stored.LoadAll();
  for (const auto& [name, entry] : values.entries())
    model_.params.Set(name, entry.shape, entry.values());
  const auto it = stored.metadata().find("graft.search");
  if (it == stored.metadata().end()) Fail("{}: no 'graft.search' in its metadata", file);
  const Json state = ParseJson(it->second, file);
  step_ = GetInt(state, "step", 0, steps_, file);
  loss_sum_ = GetNumber(state, "loss_sum", 0, 1e300, file);
  epochs_ = GetArray(state, "epochs", file);
  const Json& updates = GetObject(state, "updates", file);
  for (const auto& [name, count] : updates.items())
    supernet_->updates()[name] = GetInt(updates, name, 0, steps_, file);
  measured_ = ReadCandidates(dir_.file(kCandidatesFile), *space_);
  const std::string times = dir_.file("seconds.json");
  if (!std::filesystem::exists(times)) return;
  const Json seconds = ReadJson(times);
  train_seconds_ = GetNumber(seconds, "supernet", 0, 1e12, times);
  search_seconds_ = GetNumber(seconds, "candidates", 0, 1e12, times);
}

// Seconds have a file of their own, so that equal searches write equal files otherwise.
void Searcher::SaveSeconds() const {
  dir_.Write("seconds.json",
             DumpJson({{"supernet", train_seconds_}, {"candidates", search_seconds_}}) + "\n");
}

void Searcher::SaveSupernet() {
  checkpoints_.CheckBase();
  const nlohmann::json state{{"step", step_},
                             {"loss_sum", loss_sum_},
                             {"epochs", epochs_},
                             {"updates", supernet_->updates()}};
  dir_.SaveWeights("supernet", model_.params, supernet_->StateNames(),
                   {{"graft.search", DumpJson(state)}, {"graft.space", search_.space}});
  std::string lines;
  for (const nlohmann::json& line : epochs_) lines += DumpJson(line) + "\n";
  dir_.Write("supernet.jsonl", lines);
  SaveSeconds();
}

double Searcher::Step(std::span<const size_t> rows) {
  const double lr = LearningRate(c_, step_, steps_);
  TrainStep& step = supernet_->StepOf(supernet_->PathAt(step_));
  train_->Take(rows.size());
  const Counts& full = step.session().options().capacity;
  const std::vector<Counts> parts = train_->Parts(full);
  const double share = full.tokens ? static_cast<double>(full.tokens) : 0;
  double work = 0;  // in full micro-batches
  for (const Counts& part : parts)
    work += share > 0 ? static_cast<double>(part.tokens) / share
                      : static_cast<double>(part.sequences) / static_cast<double>(full.sequences);
  step_flops_ = work * step.session().cost(Phase::kMain).flops;
  const StepResult result = step.Run(
      parts, step_, lr,
      [&](int64_t first, int64_t count, int worker) {
        train_->Fill(step.session(), first, count, worker);
      },
      static_cast<double>(train_->Losses()));
  if (!std::isfinite(result.loss))
    checkpoints_.StopNonFinite(fmt::format("the loss is {} at step {} of {} (learning rate {:.3g})",
                                           std::fabs(result.loss), step_ + 1, steps_, lr));
  ++step_;
  return result.loss;
}

void Searcher::Epoch() {
  const int64_t epoch = step_ / steps_per_epoch_;
  const StreamKey key{MakeKey(static_cast<uint64_t>(c_.seed), Purpose::kOrder, ""),
                      static_cast<uint64_t>(epoch), 0};
  const std::vector<int32_t> drawn = Permutation(static_cast<int32_t>(train_->size()), key);
  const std::vector<size_t> order(drawn.begin(), drawn.end());
  const size_t batch = static_cast<size_t>(c_.batch_size);
  const size_t done = static_cast<size_t>(step_ % steps_per_epoch_) * batch;
  train_->SetEpoch(epoch);
  train_->Start({order.begin() + static_cast<ptrdiff_t>(done), order.end()});
  for (size_t at = done; at < order.size(); at += batch) {
    const Clock::time_point start = Clock::now();
    const size_t count = std::min(batch, order.size() - at);
    const double loss = Step({&order[at], count});
    loss_sum_ += loss * static_cast<double>(count);
    const double seconds = Since(start);
    train_seconds_ += seconds, session_seconds_ += seconds;
    examples_ += static_cast<int64_t>(count);
    const double rate = static_cast<double>(examples_) / session_seconds_;
    if (hooks_.on_step)
      hooks_.on_step(
          {step_, steps_, epoch + 1, c_.epochs, loss, LearningRate(c_, step_ - 1, steps_),
           static_cast<double>(count) / seconds, step_flops_ / seconds * 1e-9,
           static_cast<double>(c_.batch_size * (steps_ - step_)) / rate, train_->unit()});
    const bool ends = at + count == order.size();
    if (ends) {
      const double mean = std::exchange(loss_sum_, 0) / static_cast<double>(train_->size());
      epochs_.push_back({{"epoch", epoch + 1}, {"step", step_}, {"train_loss", mean}});
      if (hooks_.on_epoch)
        hooks_.on_epoch({epoch + 1, c_.epochs, mean, session_seconds_, rate, train_->unit()});
    }
    const bool stop = hooks_.stop && hooks_.stop();
    if (stop || ends || (c_.save_every && step_ % c_.save_every == 0)) SaveSupernet();
    if (stop) throw Interrupted();
  }
}

// --- candidates

// What an earlier session has measured is not measured again.
void Searcher::Measure(std::span<Evaluated> generation) {
  size_t known = 0;
  for (; known < generation.size() && replayed_ < measured_.size(); ++known, ++replayed_) {
    if (measured_[replayed_].genes != generation[known].genes)
      Fail("{}: candidate {} is not the one that this search draws; the file is of another search",
           dir_.file(kCandidatesFile), replayed_ + 1);
    generation[known].fitness = measured_[replayed_].fitness;
  }
  MeasureNew(generation.subspan(known));
}

void Searcher::MeasureNew(std::span<Evaluated> candidates) {
  if (candidates.empty()) return;
  Clock::time_point start = Clock::now();
  if (!prefixes_) {
    const Graph plain = InferenceGraph(model_.config, {{"linear", {}}}, model_.params, 0, true);
    prefixes_.emplace(*validation_, InferenceOptions(plain, model_.params, model_.config,
                                                     *validation_, "", PassesOf(c_)));
  }
  std::vector<std::vector<Prefix>> expected(candidates.size());
  ParamStore params;
  const bool shares = candidates.size() > 1 && !model_.is_bert();
  for (size_t i = 0; shares && i < candidates.size(); ++i) {
    const Graph graph = GraphOf(candidates[i], &params);
    expected[i] = PrefixesOf(graph, params);
    if (hooks_.stop && hooks_.stop()) throw Interrupted();
  }
  prefixes_->Expect(std::move(expected));
  const EvolutionOptions& o = search_.evolution;
  for (Evaluated& e : candidates) {
    const Graph graph = GraphOf(e, &params);
    const Metrics metrics = prefixes_->Measure(graph, params);
    e.fitness = {metrics.accuracy, metrics.loss};
    measured_.push_back(e), ++replayed_;
    dir_.Write(kCandidatesFile, CandidateLines(measured_));
    search_seconds_ += Since(std::exchange(start, Clock::now()));
    SaveSeconds();
    if (hooks_.on_candidate)
      hooks_.on_candidate({std::ssize(measured_), o.population * (1 + o.generations),
                           &measured_.back(), measured_[BestOf(measured_)]});
    if (hooks_.stop && hooks_.stop()) throw Interrupted();
  }
}

// --- the result

// Writes the candidate's tensors as a run that has not begun to train: --resume trains it on.
void Searcher::WriteRun(const Evaluated& best) {
  ParamStore params = CandidateParams(*space_, model_.config, best.genes, model_.params);
  const Graph g = MethodGraph(model_.config, {}, space_->MethodOf(best.genes), params,
                              static_cast<uint64_t>(c_.seed), nullptr, true);
  std::vector<std::string> trained, state;
  for (ValueId v : g.Trainable()) trained.push_back(g.value(v).name);
  for (const std::string& name : OwnedNames(g, space_->MethodOf(best.genes)))
    trained.push_back(name);
  state = trained;
  for (ValueId v : g.Trainable())
    for (const char* kind : {"m.", "v.", "buf."})
      if ((std::string_view(kind) == "buf.") == (c_.optimizer == "sgd")) {
        state.push_back("opt." + std::string(kind) + g.value(v).name);
        params.Allocate(state.back(), At(g.shape(v), {}));
      }
  Progress progress;
  progress.best_metric = c_.best_metric == "loss" ? -best.fitness.loss : best.fitness.accuracy;
  progress.val_accuracy = best.fitness.accuracy;
  progress.epochs = c_.epochs;
  checkpoints_.SetNames(std::move(trained), std::move(state));
  checkpoints_.SaveBest(params);
  checkpoints_.SaveState(params, params, progress, steps_);
  const RunSummary summary{steps_, TrainableCount(g), 0, PeakResidentBytes(), 0, true,
                           false,  hooks_.command};
  dir_.Write("summary.json",
             DumpJson(SummaryJson(c_, progress, summary, ReadSummary(dir_.path())), 1) + "\n");
}

void Searcher::Finish(const std::vector<Evaluated>& all) {
  const Evaluated& best = all[BestOf(all)];
  const std::string method = ToString(space_->MethodOf(best.genes));
  dir_.RecordMethod(method);
  WriteRun(best);
  dir_.Write("candidates.json", CandidatesJson(all, *space_));
  dir_.Write("candidates.csv", CandidatesCsv(all));
  dir_.Write("choices.txt", ChoicesText(*space_, best.genes));
  dir_.Write("choices.svg", ChoicesSvg(*space_, best.genes));
  dir_.Write(kMethodFile, method + "\n");
}

SearchSummary Searcher::Summary(const std::vector<Evaluated>& all) const {
  const Evaluated& best = all[BestOf(all)];
  SearchSummary s;
  s.config = c_;
  s.choices = ChoicesText(*space_, best.genes);
  s.parameters = best.parameters;
  ParamStore scratch = model_.params;
  const Graph g =
      MethodGraph(model_.config, {}, space_->MethodOf(best.genes), scratch, 0, nullptr, true);
  s.trainable_parameters = TrainableCount(g);
  s.evaluated = std::ssize(all), s.fitness = best.fitness;
  s.steps = step_, s.compiled = supernet_->compiled();
  s.seconds = train_seconds_ + search_seconds_;
  s.compile_seconds = supernet_->compile_seconds();
  if (prefixes_) s.passes = prefixes_->passes(), s.shared_passes = prefixes_->shared_passes();
  s.front = ParetoFront(all), s.layout = model_.layout;
  return s;
}

}  // namespace

RunConfig CompleteSearch(RunConfig config, const SearchConfig& search,
                         std::vector<std::string>* notes) {
  CheckEvolution(search.evolution);
  config.method = ToString(SampleOf(ParseSpace(search.space)));
  RunConfig c = CompleteRunConfig(std::move(config), notes);
  if (c.val_split.empty())
    FailUsage(
        "search: candidates are compared on a validation split, and there is none; hint: "
        "--val-split, or --holdout 0.2");
  if (Dataset data(c); c.val_split == data.DefaultTestSplit())
    FailUsage(
        "--val-split {}: what is chosen on the test split cannot be tested any more; hint: "
        "--holdout 0.2",
        c.val_split);
  return c;
}

SearchSummary Search(RunDir& dir, const SearchConfig& search, const SearchHooks& hooks) {
  dir.Lock();
  return Searcher(dir, search, hooks).Run();
}

}  // namespace graft
