// Shows a suite while it runs: a line for each unit that ends, and on a terminal the table so far,
// with a line that says how far the running unit is.
#pragma once
#include <memory>

#include "suites/runner.h"
#include "tools/lib/options.h"

namespace graft {

class SuiteProgress {
 public:
  SuiteProgress(const Ledger& ledger, const SuitePlan& plan, const CommonOptions& common);
  ~SuiteProgress();
  SuiteHooks Hooks();
  // Takes the table away, as the final one follows.
  void End();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graft
