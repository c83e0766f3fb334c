// Runs the units of a suite in this process, until none is left.
#pragma once
#include "suites/unit.h"
#include "train/trainer.h"

namespace graft {

struct SuiteHooks {
  std::function<void(const std::string&)> note;  // one line of text
  std::function<bool()> stop;                    // true: save, give the unit back and return
  WorkHook on_work;
  std::function<void(const UnitRow&, bool resumed)> on_begin;
  std::function<void(const StepReport&)> on_step;
  std::function<void(const UnitRow&)> on_end;  // done or failed
  std::function<void(size_t others)> on_wait;  // for units of other processes
};

struct SuiteOutcome {
  size_t planned = 0, done = 0, failed = 0;  // of all processes, of the units of this plan
  size_t trained = 0;                        // by this one
  double seconds = 0;                        // of this one
  bool interrupted = false;
};

// Throws Error unless the suite that is there has the same kind, model, choice and training
// options. It may have other tasks, methods and seeds.
void CheckSameSuite(const SuiteInfo& there, const SuiteInfo& now, const std::string& directory);
// Does this for a ledger, and records in it what the plan adds: everything, if the ledger is new.
void RecordSuite(Ledger& ledger, const SuitePlan& plan);

// Adds the plan's units to the ledger and runs those that nobody else runs, in their order. Units
// of other processes are waited for, and taken over if these die. A unit that fails is recorded,
// and the others go on. When it returns, the ledger has the state of every unit. Throws Error for
// what ends the suite itself, such as a ledger that cannot be written.
SuiteOutcome RunSuite(Ledger& ledger, const SuitePlan& plan, const SuiteHooks& hooks);

// The units of the plan that the ledger should have now; the final units of a selection only once
// its choices are done.
std::vector<UnitRow> KnownUnits(const SuitePlan& plan, const std::vector<UnitRow>& ledger);

}  // namespace graft
