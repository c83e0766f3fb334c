// Measures an opened model on the examples of a data set, for commands that say how right it is.
#pragma once
#include "adapters/open_model.h"
#include "tools/lib/options.h"
#include "train/evaluator.h"

namespace graft {

// Compiles the model by `passes` (PassesOf, or with scales CalibratedPasses) within the budget of
// the options, and shows how far the work is. `each` and `logits` are those of Evaluator. Throws
// Error for logits that are not finite.
Metrics Measure(OpenedModel& opened, BatchSource& examples, const CommonOptions& common,
                const PassOptions& passes, const Evaluator::Each& each = {},
                std::vector<float>* logits = nullptr);

}  // namespace graft
