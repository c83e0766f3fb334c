// The candidates of a search, and what becomes of the best (search_impl.h).
#include <filesystem>

#include "adapters/method_graph.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "search/candidates.h"
#include "search/choices.h"
#include "search/search_impl.h"
#include "train/run_summary.h"

namespace graft {

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
    prefixes_.emplace(
        *validation_,
        InferenceOptions(plain, model_.params, model_.config, *validation_, "", PassesOf(c_)),
        kSharedPrefixBytes, hooks_.group);
  }
  std::vector<std::vector<Prefix>> expected(candidates.size());
  ParamStore params;
  const bool shares = candidates.size() > 1 && !model_.is_bert();
  for (size_t i = 0; shares && i < candidates.size(); ++i) {
    const Graph graph = GraphOf(candidates[i], &params);
    expected[i] = PrefixesOf(graph, params);
    if (Stops()) throw Interrupted();
  }
  prefixes_->Expect(std::move(expected));
  const EvolutionOptions& o = search_.evolution;
  for (Evaluated& e : candidates) {
    const Graph graph = GraphOf(e, &params);
    const Metrics metrics = prefixes_->Measure(graph, params);
    e.fitness = FitnessOf(metrics);
    measured_.push_back(e), ++replayed_;
    dir_.Write(kCandidatesFile, CandidateLines(measured_));
    search_seconds_ += Since(std::exchange(start, Clock::now()));
    SaveSeconds();
    if (hooks_.on_candidate)
      hooks_.on_candidate({std::ssize(measured_), o.population * (1 + o.generations),
                           &measured_.back(), measured_[BestOf(measured_)]});
    if (Stops()) throw Interrupted();
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
  progress.epochs = progress.best_epoch = c_.epochs;  // it is measured when all have trained
  checkpoints_.SetNames(std::move(trained), std::move(state));
  checkpoints_.SaveBest(params);
  checkpoints_.SaveState(params, params, progress, steps_);
  const RunSummary summary{steps_,
                           TrainableCount(g),
                           StoredCount(model_.config, space_->MethodOf(best.genes), params),
                           0,
                           PeakResidentBytes(),
                           0,
                           true,
                           false,
                           hooks_.command};
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

}  // namespace graft
