#include "tools/lib/features.h"

#include <algorithm>
#include <chrono>

#include "autograd/prefix.h"
#include "runtime/threads.h"
#include "tools/lib/memory_budget.h"

namespace graft {
namespace {

constexpr size_t kMostFeatureBytes = size_t{1} << 30;

// One pass over the examples, in their order.
void Fill(Features& features, const Graph& prefix, LoadedModel& model, const RunConfig& config,
          TaskData& data, const std::function<bool()>& stop) {
  features.values.resize(data.size() * features.size);
  const Counts wanted = ChooseCapacity(model.config, data.longest(), config.batch_size);
  Session session(
      prefix, model.params,
      OptionsWithinBudget(prefix, model.params, wanted, data.longest(), config.memory_budget,
                          features.values.size() * sizeof(float)));
  const Counts capacity = session.options().capacity;
  const size_t most = static_cast<size_t>(4 * capacity.sequences * Threads());
  data.Start(InOrder(data));
  for (size_t done = 0; data.remaining() > 0 && !features.interrupted;) {
    const size_t count = std::min(most, data.remaining());
    data.Take(count);
    const std::vector<Counts> parts = data.Parts(capacity);
    ForEachPart(session, parts, [&](size_t i, int64_t first, int worker) {
      data.Fill(session, first, parts[i].sequences, worker);
      session.Run(parts[i], worker);
      std::copy_n(session.Output("features", worker).f32(),
                  static_cast<size_t>(parts[i].sequences) * features.size,
                  &features.values[(done + static_cast<size_t>(first)) * features.size]);
    });
    done += count;
    features.interrupted = stop && stop();
  }
}

}  // namespace

std::optional<Features> ComputeFeatures(Graph& graph, LoadedModel& model, const RunConfig& config,
                                        TaskData& data, const std::function<bool()>& stop) {
  using Clock = std::chrono::steady_clock;
  constexpr std::string_view kInputs[] = {"image", "ids", "type_ids", "positions", "offsets"};
  std::optional<PrefixCut> cut = CutFrozenPrefix(graph, kInputs);
  if (!cut) return std::nullopt;
  Features features;
  features.size = static_cast<size_t>(cut->features.shape[0].sequences) *
                  static_cast<size_t>(At(cut->features.shape, {}).cols());
  if (features.size * data.size() * sizeof(float) > kMostFeatureBytes) return std::nullopt;
  graph = std::move(cut->rest);
  InferencePasses(config.disabled_passes).Run(cut->prefix);
  const Clock::time_point start = Clock::now();
  Fill(features, cut->prefix, model, config, data, stop);
  features.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return features;
}

}  // namespace graft
