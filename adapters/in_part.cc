#include "adapters/in_part.h"

#include <algorithm>
#include <cmath>

#include "adapters/fuse.h"
#include "adapters/method_graph.h"
#include "runtime/fold.h"
#include "runtime/text.h"

namespace graft {

namespace {

// Whether this term folds by its options, though others of its method do not.
bool FoldsAlone(const OpenedModel& opened, const MethodTerm& term) {
  ParamStore params = opened.model.params;
  const ModelConfig& config = opened.model.config;
  Graph graph = InferenceGraph(config, {term}, params, opened.seed);
  return MergeIntoPlain(config, graph, params).left.empty();
}

}  // namespace

MethodParts SplitByFolds(const OpenedModel& opened) {
  MethodParts parts;
  for (const MethodTerm& term : opened.method) {
    const bool folds = FindMethod(term.name).folds == Folds::kYes || FoldsAlone(opened, term);
    (folds ? parts.folds : parts.stays).push_back(term);
  }
  return parts;
}

bool ReduceMethod(OpenedModel* opened) {
  const Method reduced = ReducedMethod(opened->method);
  if (reduced == opened->method) return false;
  ParamStore params = opened->model.params;
  const ModelConfig& config = opened->model.config;
  Graph computed = InferenceGraph(config, opened->method, params, opened->seed);
  FoldConstants(computed, params);
  ParamStore plain = params;
  Graph graph = InferenceGraph(config, reduced, plain, opened->seed);
  FoldConstants(graph, plain);
  if (ToText(computed) != ToText(graph))
    throw Error(fmt::format("method '{}' is not '{}' after its constants are computed:\n{}",
                            ToString(opened->method), ToString(reduced), DiffText(graph, computed)),
                ErrorKind::kProof);
  opened->method = reduced;
  opened->facts.method = ToString(reduced);
  opened->model.params = std::move(params);
  opened->trained = AdapterNames(*opened);
  return true;
}

std::vector<std::string> AdapterNames(const OpenedModel& opened) {
  ParamStore params = opened.model.params;
  const Graph g = MethodGraph(opened.model.config, {}, opened.method, params, opened.seed);
  std::vector<std::string> names = OwnedNames(g, opened.method);
  for (ValueId v : g.Leaves(Role::kParam))
    if (g.value(v).trainable || g.value(v).name.starts_with("head."))
      names.push_back(g.value(v).name);
  std::ranges::sort(names);
  return names;
}

double ErrorInPart(OpenedModel& whole, const FusedModel& fused, const OpenedModel& rest,
                   const LogitsOf& logits) {
  ParamStore together = fused.params;
  for (const std::string& name : AdapterNames(rest))
    together.SetShared(name, rest.model.params, name);
  const std::vector<float> before = logits(whole.Inference(false), whole.model.params);
  const std::vector<float> after =
      logits(InferenceGraph(rest.model.config, rest.method, together, rest.seed), together);
  GRAFT_CHECK(before.size() == after.size(), "{} and {} logits", before.size(), after.size());
  double most = 0, largest = 1e-30;
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(before[i]) - after[i]);
    if (!(difference <= most)) most = difference;  // NaN stays
    largest = std::max(largest, std::fabs(static_cast<double>(before[i])));
  }
  return most / largest;
}

}  // namespace graft
