// What graft bench and graft ablate have in common: options, the run, and what is printed.
#pragma once
#include "suites/plan.h"
#include "tools/lib/options.h"

namespace graft {

struct SuiteCommand {
  SuiteRequest request;
  bool dry_run = false, published = false;
};

// Adds --model, --out, --seeds, --dry-run, --test-limit and the training options; for benchmarks
// also --methods, --select and --select-on-test.
void AddSuiteOptions(CLI::App& command, SuiteCommand& suite, bool benchmark);

// Plans the suite, runs what is missing and prints it. Throws Error of kind kInterrupted after
// Ctrl-C and, once the tables are printed, of kind kUser if a unit has failed.
void RunSuiteCommand(const CLI::App& command, SuiteCommand& suite, const CommonOptions& common);

}  // namespace graft
