#include "train/class_weights.h"

#include <numeric>

#include "ops/ops.h"

namespace graft {
namespace {

// A frozen column [K,1].
ValueId Column(Graph* graph, ParamStore* params, const std::string& name,
               const std::vector<double>& values) {
  const Extents shape{std::ssize(values), 1};
  params->Set(name, shape, std::vector<float>(values.begin(), values.end()));
  return graph->AddParam(name, ToShape(shape));
}

}  // namespace

// With C_e(z, y) the cross entropy of smoothing e, C_1(z, y) = logsumexp(z) - mean(z). So
//   -sum_k w_k log p_k = W logsumexp(z) - w.z = W C_1(z, y) + (W / K - w).z,  W = sum_k w_k.
void WeightLosses(Graph* graph, ParamStore* params, const std::vector<double>& weights,
                  double smoothing) {
  Graph& g = *graph;
  const ValueId logits = g.output("logits"), labels = g.FindLeaf("labels");
  const double classes = static_cast<double>(weights.size());
  g.scope = "loss";
  const ValueId w = Column(graph, params, "loss.class_weights", weights);
  ValueId losses = Mul(g, CrossEntropy(g, logits, labels), GatherRows(g, w, labels));
  if (smoothing > 0) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> rest;
    for (const double weight : weights)
      rest.push_back(smoothing / classes * (sum / classes - weight));
    const ValueId uniform =
        Add(g, Scale(g, CrossEntropy(g, logits, labels, 1), smoothing / classes * sum),
            Matmul(g, logits, Column(graph, params, "loss.smoothing_weights", rest)));
    losses = Add(g, Scale(g, losses, 1 - smoothing), uniform);
  }
  g.SetOutput("losses", losses);
  g.EraseDead();
  g.scope.clear();
}

}  // namespace graft
