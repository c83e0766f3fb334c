// Predicts how long units take and what they need, before they run: from the costs of the
// operators, corrected by the units of the suite that have run.
#pragma once
#include "suites/unit.h"
#include "train/evaluator.h"

namespace graft {

struct Prediction {
  const Unit* unit = nullptr;
  UnitState state = UnitState::kPending;
  bool maybe = false;     // a final unit of a selection, whose options may not be the chosen ones
  bool known = true;      // false: of a search without gradients, whose length no graph tells
  double seconds = 0;     // corrected; of a unit that is done, what it took
  double correction = 1;  // measured seconds by predicted ones of the units that have run
  size_t bytes = 0;       // planned memory: the largest arena, weights, kept examples or features
  size_t disk_bytes = 0;  // of its run directory
};

// Predicts all units of the plan, in their order. For a selection whose choices are not done, the
// final units of its first candidate stand for it. `ledger` holds what has run, or nothing. Opens
// the model and the data, but trains nothing.
std::vector<Prediction> Predict(const SuitePlan& plan, const std::vector<UnitRow>& ledger,
                                const WorkHook& progress = {});

// The sums over units that are not done, and the largest memory of any, as they run one after
// another.
struct PredictedTotal {
  size_t units = 0, done = 0, failed = 0;
  double seconds = 0;
  size_t peak_bytes = 0, disk_bytes = 0;
  bool corrected = false;
};
void Count(const Prediction& prediction, PredictedTotal* total);
nlohmann::json ToJson(const Prediction& prediction);

}  // namespace graft
