// How long units take and what they need, before they run: by the costs of the operators, and
// corrected by the units of the suite that have run.
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
  size_t bytes = 0;       // planned memory: arenas, weights, optimizer state, features
  size_t disk_bytes = 0;  // of its run directory
};

// Of all units of the plan, in their order; of a selection whose choices are not done the finals of
// the first candidate stand for it. `ledger`: what has run, or nothing. Opens the model and the
// data; trains nothing.
std::vector<Prediction> Predict(const SuitePlan& plan, const std::vector<UnitRow>& ledger,
                                const WorkHook& progress = {});

// Of units that are not done the sums, and the largest memory: they run one after another.
struct PredictedTotal {
  size_t units = 0, done = 0, failed = 0;
  double seconds = 0;
  size_t peak_bytes = 0, disk_bytes = 0;
  bool corrected = false;
};
void Count(const Prediction& prediction, PredictedTotal* total);
nlohmann::json ToJson(const Prediction& prediction);

}  // namespace graft
