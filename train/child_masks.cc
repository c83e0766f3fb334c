#include "train/child_masks.h"

#include <bit>
#include <cmath>

#include "adapters/method_graph.h"
#include "peft/sites.h"
#include "train/evaluator.h"

namespace graft {

std::optional<ChildMasks> WantedChildMasks(const Method& method) {
  Graph none;
  ParamStore no_params;
  for (const MethodTerm& term : method) {
    const std::map<std::string, std::string> options = CompleteOptions(term);
    if (term.name != "childtuning" || options.at("mode") != "d") continue;
    const MethodArgs a{none, no_params, options, 0};
    return ChildMasks{.keep = a.Number("p", 0, 1), .targets = a.List("targets")};
  }
  return std::nullopt;
}

namespace {

// The k-th smallest number. The bits of floats that are not negative have the order of the floats,
// so the number is found bit by bit.
float Smallest(std::span<const std::span<const float>> values, uint64_t k) {
  uint32_t high = 0;
  for (const int shift : {16, 0}) {
    std::vector<uint64_t> counts(1 << 16);
    for (const std::span<const float> part : values)
      for (const float x : part)
        if (const uint32_t bits = std::bit_cast<uint32_t>(x);
            shift == 16 || bits >> 16 == high >> 16)
          ++counts[(bits >> shift) & 0xffff];
    uint32_t bucket = 0;
    while (k >= counts[bucket]) k -= counts[bucket++];
    high |= bucket << shift;
  }
  return std::bit_cast<float>(high);
}

// Adds the squared gradient of one batch to `sum`.
void AddSquares(std::span<const float> gradient, double clip, std::span<float> sum) {
  double squares = 0;
  for (const float g : gradient) squares += static_cast<double>(g) * g;
  const double factor = std::min(1.0, clip / (std::sqrt(squares) + 1e-6));
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double g = factor * gradient[i];
    sum[i] += static_cast<float>(g * g);
  }
}

}  // namespace

double Percentile(std::span<const std::span<const float>> values, double q) {
  uint64_t n = 0;
  for (const std::span<const float> part : values) n += part.size();
  GRAFT_CHECK(n > 0, "a percentile of nothing");
  const double at = q * static_cast<double>(n - 1);
  const uint64_t below = static_cast<uint64_t>(std::floor(at));
  const double low = Smallest(values, below), high = Smallest(values, std::min(below + 1, n - 1));
  return low + (high - low) * (at - std::floor(at));
}

std::vector<std::string> MakeChildMasks(const Graph& loss_graph, ParamStore& params,
                                        const ChildMasks& wanted, const Counts& capacity,
                                        int64_t batch_size, BatchSource& data) {
  std::vector<std::string> of_blocks;
  for (ValueId v : loss_graph.Trainable())
    if (const std::string& name = loss_graph.value(v).name;
        BlockOf(name) >= 0 && ScopeMatches(LayerOf(name), wanted.targets))
      of_blocks.push_back(name);
  if (of_blocks.empty())
    FailUsage("method 'childtuning': targets={} matches no layer of a block",
              fmt::join(wanted.targets, "|"));
  ParamStore scratch = params;  // the optimizer's state that a step has and this pass does not use
  TrainStep step(loss_graph, scratch, {.kind = OptimizerKind::kSgd}, capacity, TrainingPasses({}));
  std::vector<std::string> masks;
  for (const std::string& name : of_blocks) {
    masks.push_back(kChildMask + name);
    params.Allocate(masks.back(), params.shape(name));
  }
  data.Start(InOrder(data));
  for (int64_t i = 0; data.remaining(); ++i) {
    data.Take(std::min(static_cast<size_t>(batch_size), data.remaining()));
    const std::vector<Counts> parts = data.Parts(step.session().options().capacity);
    step.Accumulate(parts, i, [&](int64_t first, int64_t count, int worker) {
      data.Fill(step.session(), first, count, worker);
    });
    for (size_t k = 0; k < masks.size(); ++k) {
      float* sum = params.Mutable(masks[k]);
      const size_t size = params.values(masks[k]).size();
      AddSquares({step.session().State("acc." + of_blocks[k]).f32(), size}, wanted.clip,
                 {sum, size});
    }
  }
  std::vector<std::span<const float>> sums;
  for (const std::string& mask : masks) sums.push_back(params.values(mask));
  const double threshold = Percentile(sums, 1 - wanted.keep);
  for (const std::string& mask : masks) {
    float* values = params.Mutable(mask);
    for (size_t i = 0; i < params.values(mask).size(); ++i) values[i] = values[i] >= threshold;
  }
  params.Freeze();
  return masks;
}

}  // namespace graft
