#include "adapters/fuse.h"

#include <algorithm>
#include <cmath>

#include "adapters/method_graph.h"
#include "peft/merge.h"
#include "runtime/text.h"

namespace graft {
namespace {

FuseProof Compare(const std::vector<float>& before, const std::vector<float>& after,
                  int64_t classes) {
  const size_t width = static_cast<size_t>(classes);
  if (before.empty() || before.size() % width != 0 || before.size() != after.size())
    Fail("proof of a merge: expected logits [n,{}] twice, found {} and {} numbers", classes,
         before.size(), after.size());
  FuseProof proof;
  double largest = 0, most = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(before[i]) - after[i]);
    // NaN must not pass: it compares false with everything, and stays.
    if (!std::isnan(most) && !(difference <= most)) most = difference;
    largest = std::max(largest, static_cast<double>(std::fabs(before[i])));
  }
  proof.max_abs_logit_difference = most;
  proof.relative_error = most / std::max(largest, 1e-30);
  proof.n = static_cast<int64_t>(before.size() / width);
  for (size_t row = 0; row < before.size(); row += width) {
    const auto top = [&](const std::vector<float>& l) {
      const auto begin = l.begin() + static_cast<ptrdiff_t>(row);
      return std::max_element(begin, begin + classes) - begin;
    };
    proof.top1_agreement += top(before) == top(after);
  }
  proof.top1_agreement /= static_cast<double>(proof.n);
  return proof;
}

}  // namespace

FusedWeights Fuse(const ModelConfig& config, const Method& method, ParamStore& params,
                  const LogitsOf& logits, uint64_t seed) {
  const Graph canonical = InferenceGraph(config, method, params, seed, false);
  const Graph plain = BuildModel(config);
  Graph graph = canonical;
  FusedWeights fused{params, {}};
  const MergeResult merged = Merge(graph, fused.params, plain.ParamNames());
  if (!merged.left.empty())
    throw Error(fmt::format("method '{}' cannot be folded: '{}' and {} others stay",
                            ToString(method), merged.left[0], merged.left.size() - 1),
                ErrorKind::kNotFoldable);
  if (ToText(graph) != ToText(plain))
    throw Error(
        fmt::format("the fused graph is not that of the plain model; nothing was written:\n{}",
                    DiffText(plain, graph)),
        ErrorKind::kProof);
  fused.proof = Compare(logits(canonical, params), logits(graph, fused.params), Classes(config));
  fused.proof.nodes_before = merged.nodes_before;
  fused.proof.nodes_after = merged.nodes_after;
  if (!(fused.proof.relative_error <= kFuseTolerance))
    throw Error(
        fmt::format(
            "the merge is not proved: logits differ by {:.3g} relative (bound {:g}) on {} inputs; "
            "nothing was written",
            fused.proof.relative_error, kFuseTolerance, fused.proof.n),
        ErrorKind::kProof);
  return fused;
}

}  // namespace graft
