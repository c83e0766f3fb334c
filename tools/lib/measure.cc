#include "tools/lib/measure.h"

#include <cmath>

#include "tools/lib/progress.h"

namespace graft {

Metrics Measure(OpenedModel& opened, BatchSource& examples, const CommonOptions& common,
                const PassOptions& passes, const Evaluator::Each& each,
                std::vector<float>* logits) {
  const Graph graph = opened.ToRun(true);
  Evaluator evaluator(graph, opened.model.params,
                      InferenceOptions(graph, opened.model.params, opened.model.config, examples,
                                       common.memory_budget, passes),
                      passes);
  evaluator.OnProgress("eval", ProgressOf(common));
  if (each) evaluator.OnExample(each);
  Metrics m = evaluator.Run(examples, logits);
  if (!std::isfinite(m.loss))
    Fail("{} gives logits that are not finite; its weights are damaged", opened.description);
  return m;
}

}  // namespace graft
