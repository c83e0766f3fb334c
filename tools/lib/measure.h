// An opened model on the examples of a data set, for the commands that say how right it is.
#pragma once
#include "adapters/open_model.h"
#include "tools/lib/options.h"
#include "train/evaluator.h"

namespace graft {

// Compiled by `passes` (PassesOf, or with scales: CalibratedPasses), within the budget of the
// options; shows how far it is. `each` and `logits` are those of Evaluator. Throws Error for logits
// that are not finite.
Metrics Measure(OpenedModel& opened, BatchSource& examples, const CommonOptions& common,
                const PassOptions& passes, const Evaluator::Each& each = {},
                std::vector<float>* logits = nullptr);

}  // namespace graft
