// The options that every sub-command has.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "adapters/method_graph.h"
#include "runtime/error.h"

namespace graft {

struct RunConfig;

struct CommonOptions {
  int threads = 0;  // 0 = DefaultThreads()
  int64_t seed = 0;
  bool json = false, quiet = false;
  std::string isa, dtype = "f32", keep, memory_budget;
  std::vector<std::string> disabled_passes;
};

// Adds the common options to a sub-command. Their values are checked before it begins, whether it
// makes use of them or not: throws Error (kUsage) for an unknown --isa, --dtype or pass, and for a
// memory budget that is no size.
void AddCommonOptions(CLI::App& command, CommonOptions& options);
// Hides options that concern only models from the help of a command that opens none; the command
// still takes them.
void HideModelOptions(CLI::App& command);
// Makes the same checks of values that came from elsewhere.
void CheckCommonOptions(const CommonOptions& options);
// Adds --force to a command that writes files. Without it a file that exists is not replaced.
void AddForceOption(CLI::App& command, bool* force = nullptr,
                    const std::string& what = "replace files that exist");
// Lets the option's value be @FILE: the text of that file, without white space at its ends.
CLI::Option* TextOrFile(CLI::Option* option);
// The passes of a command that computes, in a precision that this CPU has.
PassOptions PassesOf(const CommonOptions& options);
// Gives a run what of --dtype and --keep is taken on this CPU: of f32 no part is kept apart.
void TakePrecision(const CommonOptions& options, RunConfig* run);
// Sets the threads and the SIMD target. Must be called before anything is built.
void ApplyCommonOptions(const CommonOptions& options);

}  // namespace graft
