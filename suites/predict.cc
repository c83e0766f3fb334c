#include "suites/predict.h"

#include <algorithm>
#include <map>
#include <optional>

#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "train/capacity.h"
#include "train/complete_config.h"
#include "train/dataset.h"
#include "train/features.h"

namespace graft {
namespace {

struct Needs {
  bool known = true;
  double seconds = 0;  // on the nominal machine of ModelSeconds
  size_t bytes = 0, disk_bytes = 0;
};

// The seconds of one run of a session at its capacity, and those of an update.
struct RunCost {
  double main = 0, update = 0;
};
RunCost CostOfRun(const Session& session) {
  RunCost cost;
  for (const StepInfo& info : session.steps())
    if (!info.once)
      (info.phase == Phase::kMain ? cost.main : cost.update) += ModelSeconds(info.cost);
  return cost;
}

// How many runs at this capacity the examples take.
double RunsOf(const BatchSource& data, const Counts& capacity) {
  if (capacity.tokens == 0)
    return static_cast<double>(data.size()) / static_cast<double>(capacity.sequences);
  int64_t tokens = 0;
  for (size_t i = 0; i < data.size(); ++i) tokens += data.length(i);
  return static_cast<double>(tokens) / static_cast<double>(capacity.tokens);
}

class Predictor {
 public:
  explicit Predictor(const Unit& unit) : unit_(unit) {
    std::vector<std::string> notes;
    c_ = CompleteRunConfig(unit.config, &notes);
    model_ = OpenAdapted(c_);
  }

  Needs Run() {
    const Method method = ParseMethod(c_.method);
    if (SearchedTerm(method)) return {.known = false};
    Dataset data(c_);
    data.NumberClassesAs(c_.labels, c_.model);
    const auto train = data.Load(c_.train_split, c_.limit, model_, c_);
    Graph graph = MethodGraph(model_.config,
                              {.loss = true,
                               .label_smoothing = c_.label_smoothing,
                               .drop_path = c_.drop_path,
                               .seed = c_.seed},
                              method, model_.params, static_cast<uint64_t>(c_.seed));
    const auto trainable = static_cast<size_t>(TrainableCount(graph));
    std::optional<FeatureCut> cut;
    if (c_.augment.empty()) cut = CutFeatures(graph, c_, *train);
    if (cut) needs_.seconds += Inference(cut->frozen, *train);
    if (cut) graph = cut->rest;
    // The run keeps features, or else images after resize and crop.
    const size_t images = c_.epochs > 1 ? train->size() * train->ExampleBytes() : 0;
    held_ = cut ? cut->bytes : std::min(images, SpareMemory().bytes);
    Train(graph, *train);
    held_ = 0;
    Tests(method);
    // The files last, best, and the state, which holds what trains and two moments of it.
    constexpr size_t kCopies = 5, kOtherFiles = 64 << 10;
    needs_.disk_bytes = trainable * sizeof(float) * kCopies + kOtherFiles;
    const ParamStore::Bytes weights = model_.params.bytes();
    needs_.bytes += weights.owned + weights.viewed;
    return needs_;
  }

 private:
  void Train(const Graph& graph, const BatchSource& data) {
    const Counts capacity = ChooseTrainingCapacity(model_.config, graph, PassesOf(c_),
                                                   data.longest(), c_.batch_size, c_.micro_batch);
    const Graph step =
        TrainStep::BuildGraph(graph, model_.params, OptimizerOf(c_), TrainingPasses(PassesOf(c_)));
    SessionOptions options = TrainStep::Options(step, capacity, {0, 0, 0});
    options.plan_only = true;
    const Session session(step, model_.params, options);
    const RunCost cost = CostOfRun(session);
    const double steps =
        std::ceil(static_cast<double>(data.size()) / static_cast<double>(c_.batch_size));
    needs_.seconds +=
        static_cast<double>(c_.epochs) * (RunsOf(data, capacity) * cost.main + steps * cost.update);
    Hold(session);
  }

  double Inference(const Graph& optimised, const BatchSource& data) {
    const auto n = static_cast<int64_t>(std::max<size_t>(data.size(), 1));
    const Counts capacity = ChooseCapacity(model_.config, data.longest(), n);
    const Session session(optimised, model_.params, {.capacity = capacity, .plan_only = true});
    Hold(session);
    return RunsOf(data, capacity) * CostOfRun(session).main;
  }

  void Tests(const Method& method) {
    Graph graph =
        InferenceGraph(model_.config, method, model_.params, static_cast<uint64_t>(c_.seed), true);
    InferencePasses(PassesOf(c_)).Run(graph);
    for (const Measurement& m : unit_.measure) {
      Dataset data(m.data, {m.columns, "", c_.skip_bad});
      const auto examples = data.Load(m.split, m.limit, model_, c_);
      needs_.seconds += Inference(graph, *examples);
    }
  }

  // Sessions come one after the other, so the largest one counts.
  void Hold(const Session& session) {
    needs_.bytes = std::max(needs_.bytes, held_ + session.planned_bytes());
  }

  const Unit& unit_;
  RunConfig c_;
  LoadedModel model_;
  size_t held_ = 0;  // by the examples
  Needs needs_;
};

// A key for units whose graphs and data have the same sizes: these take the same time, whatever
// their seed and rate.
std::string SizesOf(const Unit& unit) {
  const RunConfig& c = unit.config;
  std::string key =
      fmt::format("{}\n{}\n{} {} {} {} {}\n{}\n{} {}", c.method, c.data, c.train_split, c.epochs,
                  c.batch_size, c.micro_batch, c.limit, c.augment, c.optimizer, c.max_length);
  for (const Measurement& m : unit.measure) key += fmt::format("\n{} {}", m.data, m.split);
  return key;
}

// What has run beside what was predicted of it.
struct Correction {
  double seconds = 1;  // the ratio of the sums
  int64_t bytes =
      0;  // the most that a process held beyond what was planned: code, files, libraries
};
Correction CorrectionBy(const std::vector<Prediction>& predictions,
                        const std::vector<UnitRow>& ledger) {
  Correction c;
  double measured = 0, predicted = 0;
  for (const Prediction& p : predictions) {
    const auto row = std::ranges::find(ledger, p.unit->row.hash, &UnitRow::hash);
    if (row == ledger.end() || row->state != UnitState::kDone || !p.known) continue;
    measured += row->seconds, predicted += p.seconds;
    c.bytes = std::max(c.bytes, row->peak_bytes - static_cast<int64_t>(p.bytes));
  }
  if (predicted > 0 && measured > 0) c.seconds = measured / predicted;
  return c;
}

}  // namespace

std::vector<Prediction> Predict(const SuitePlan& plan, const std::vector<UnitRow>& ledger,
                                const WorkHook& progress) {
  std::vector<Prediction> predictions;
  for (const Unit& unit : plan.units) predictions.push_back({.unit = &unit});
  for (const Selection& selection : plan.selections) {
    const std::optional<size_t> best = Best(selection, ledger);
    const size_t all = selection.candidates.size();
    if (best && *best == all) continue;  // all failed
    for (const Unit& unit : selection.candidates[best.value_or(0)].finals)
      predictions.push_back({.unit = &unit, .maybe = !best});
  }
  std::map<std::string, Needs> known;
  for (size_t i = 0; i < predictions.size(); ++i) {
    Prediction& p = predictions[i];
    const auto [at, is_new] = known.emplace(SizesOf(*p.unit), Needs{});
    if (is_new) at->second = Predictor(*p.unit).Run();
    p.known = at->second.known, p.seconds = at->second.seconds;
    p.bytes = at->second.bytes, p.disk_bytes = at->second.disk_bytes;
    if (progress) progress("plan", i + 1, predictions.size(), "units");
  }
  const Correction correction = CorrectionBy(predictions, ledger);
  for (Prediction& p : predictions) {
    p.correction = correction.seconds, p.seconds *= correction.seconds;
    p.bytes += static_cast<size_t>(correction.bytes);
    const auto row = std::ranges::find(ledger, p.unit->row.hash, &UnitRow::hash);
    if (row == ledger.end()) continue;
    p.state = row->state;
    if (p.state != UnitState::kDone) continue;
    p.seconds = row->seconds, p.bytes = static_cast<size_t>(row->peak_bytes);
  }
  return predictions;
}

void Count(const Prediction& p, PredictedTotal* total) {
  ++total->units;
  total->corrected |= p.correction != 1;
  total->failed += p.state == UnitState::kFailed;
  if (p.state == UnitState::kDone) {
    ++total->done;
    return;
  }
  total->seconds += p.seconds, total->disk_bytes += p.disk_bytes;
  total->peak_bytes = std::max(total->peak_bytes, p.bytes);
}

nlohmann::json ToJson(const Prediction& p) {
  const auto known = [&](const nlohmann::json& value) {
    return p.known ? value : nlohmann::json();
  };
  const UnitRow& u = p.unit->row;
  return {{"hash", u.hash},
          {"task", u.task},
          {"method", u.method},
          {"options", u.options},
          {"seed", u.seed},
          {"phase", u.phase},
          {"protocol", u.protocol},
          {"state", ToString(p.state)},
          {"if_chosen", p.maybe},
          {"seconds", known(p.seconds)},
          {"peak_bytes", known(p.bytes)},
          {"disk_bytes", known(p.disk_bytes)}};
}

}  // namespace graft
