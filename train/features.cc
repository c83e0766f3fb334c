#include "train/features.h"

#include <algorithm>
#include <chrono>

#include "adapters/method_graph.h"
#include "autograd/frozen_cut.h"
#include "runtime/process_group.h"
#include "train/capacity.h"
#include "train/feature_cache.h"
#include "train/ordered_data.h"

namespace graft {
namespace {

constexpr size_t kMostFeatureBytes = size_t{1} << 30;

class FeatureData : public OrderedData {
 public:
  FeatureData(Features features, const BatchSource& data)
      : features_(std::move(features)), unit_(data.unit()) {
    for (size_t i = 0; i < data.size(); ++i)
      labels_.push_back(data.label(i)), targets_.Add(data.targets(i));
  }
  const char* unit() const override { return unit_; }
  size_t size() const override { return labels_.size(); }
  int label(size_t example) const override { return labels_[example]; }
  std::span<const float> targets(size_t example) const override { return targets_.of(example); }
  size_t HeldBytes() const override {
    return features_.values.size() * sizeof(float) + labels_.size() * sizeof(int) +
           targets_.bytes();
  }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    float* input = session.Input("features", worker).f32();
    int32_t* labels = session.HasInput("labels") ? session.Input("labels", worker).i32() : nullptr;
    for (const size_t example : Examples(first, count)) {
      input = std::copy_n(features_.of(example), features_.size, input);
      if (labels) *labels++ = labels_[example];
    }
    FillTargets(*this, Examples(first, count), worker, &session);
  }

 private:
  Features features_;
  const char* unit_;
  std::vector<int> labels_;
  Targets targets_;
};

}  // namespace

std::unique_ptr<BatchSource> MakeFeatureData(Features features, const BatchSource& data) {
  return std::make_unique<FeatureData>(std::move(features), data);
}

std::optional<FeatureCut> CutFeatures(const Graph& graph, const RunConfig& config,
                                      const BatchSource& data) {
  constexpr std::string_view kInputs[] = {"image",     "ids",     "type_ids",
                                          "positions", "offsets", "rows"};
  std::optional<FrozenCut> cut = CutFrozen(graph, kInputs);
  if (!cut) return std::nullopt;
  const size_t rows = static_cast<size_t>(cut->features.shape[0].sequences);
  const size_t size = rows * static_cast<size_t>(At(cut->features.shape, {}).cols());
  const size_t bytes = size * data.size() * sizeof(float);
  if (bytes > kMostFeatureBytes) return std::nullopt;
  InferencePasses(PassesOf(config)).Run(cut->frozen);
  return FeatureCut{std::move(cut->frozen), std::move(cut->rest), size, bytes};
}

void FillFeatures(Features* features, Session& session, BatchSource& data,
                  const std::function<bool()>& stop, const WorkHook& progress,
                  ProcessGroup* group) {
  const Counts capacity = session.options().capacity;
  const size_t most = ExamplesAtOnce(data, capacity);
  data.Start(InOrder(data));
  for (size_t done = 0; data.remaining() > 0 && !features->interrupted;) {
    const size_t count = std::min(most, data.remaining());
    data.Take(count);
    const std::vector<Counts> parts = data.Parts(capacity);
    float* rows = &features->values[done * features->size];
    const auto run = [&](size_t i, int64_t first, int worker) {
      data.Fill(session, first, parts[i].sequences, worker);
      session.Run(parts[i], worker);
      std::copy_n(session.Output("features", worker).f32(),
                  static_cast<size_t>(parts[i].sequences) * features->size,
                  rows + static_cast<size_t>(first) * features->size);
    };
    ForEachPart(session, parts, run, group);
    ShareParts(parts, group, features->size, rows);
    done += count;
    if (progress) progress("features of the frozen layers", done, data.size(), data.unit());
    features->interrupted = stop && stop();
    if (group) features->interrupted = group->Meet(features->interrupted);
  }
}

Features ComputeFeatures(const FeatureCut& cut, LoadedModel& model, const RunConfig& config,
                         BatchSource& data, size_t held_bytes, const std::function<bool()>& stop,
                         const WorkHook& progress, ProcessGroup* group) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  Features features;
  features.size = cut.size;
  const std::string key = FeatureKey(cut, model.params, config, data);
  std::optional<std::vector<float>> kept = ReadFeatures(key, data.size(), cut.size);
  if (group && group->Meet(!kept.has_value())) kept.reset();  // all have them, or none
  if (kept) {
    features.values = std::move(*kept), features.from_cache = true;
    features.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return features;
  }
  features.values.resize(data.size() * cut.size);
  const Counts wanted = ChooseCapacity(model.config, data.longest(), config.batch_size);
  const size_t held = held_bytes + cut.bytes + InferenceBytes(data, wanted);
  Session session(cut.frozen, model.params,
                  OptionsWithinBudget(cut.frozen, model.params, wanted, data.longest(),
                                      config.memory_budget, held)
                      .options);
  FillFeatures(&features, session, data, stop, progress, group);
  features.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  // Kept for later runs only if the examples are still those that were read, and if reading them
  // said nothing that a later run would have to say again.
  const bool keeps = !group || group->IsFirst();
  if (keeps && key == FeatureKey(cut, model.params, config, data)) KeepFeatures(key, features);
  return features;
}

BudgetFit FeaturesFit(const FeatureCut& cut, LoadedModel& model, const RunConfig& config,
                      const BatchSource& data, const BudgetRequest& step) {
  BudgetRequest request = step;
  request.held_bytes += cut.bytes;
  // Planning comes first, as the optimizer state that it makes is there during the pass, too.
  const BudgetFit steps = FitsBudget(cut.rest, model.params, OptimizerOf(config), request);
  const Counts wanted = ChooseCapacity(model.config, data.longest(), config.batch_size);
  const BudgetFit pass =
      FitsBudget(cut.frozen, model.params, wanted, data.longest(), config.memory_budget,
                 request.held_bytes + InferenceBytes(data, wanted));
  return {pass.fits && steps.fits, std::max(pass.smallest, steps.smallest)};
}

}  // namespace graft
