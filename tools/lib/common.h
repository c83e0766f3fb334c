// What every sub-command shares: common options, output, exit codes, interrupts.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace graft {

struct CommonOptions {
  int threads = 0;  // 0 = DefaultThreads()
  int64_t seed = 0;
  bool json = false, quiet = false;
  std::string isa, dtype = "f32", memory_budget;
  std::vector<std::string> disabled_passes;
};

// Adds the common options to a sub-command. Their values are checked before it begins, whether it
// makes use of them or not: Error (kUsage) for an unknown --isa, --dtype or pass and for a memory
// budget that is no size.
void AddCommonOptions(CLI::App& command, CommonOptions& options);
// Sets threads and SIMD target. Call before building anything.
void ApplyCommonOptions(const CommonOptions& options);

// Error if writing `out` would destroy `read`: the same file or directory by any name, or a file of
// that directory.
void RefuseOverwriting(const std::string& out, const std::string& read);

// A line for people: standard output, or standard error with --json; nothing with --quiet.
void Say(const CommonOptions& options, const std::string& line);
// The result: one JSON object on standard output with --json.
void PrintJson(const CommonOptions& options, const nlohmann::json& json);

// A word of a command line for people to copy: in quotes if a shell would take it apart.
std::string Quoted(const std::string& word);

// What --preprocess list prints.
void PrintPreprocessPresets(const CommonOptions& options);

// Ctrl-C and SIGTERM set a flag; a second one ends the process at once.
void CatchInterrupts();
bool Interrupted();

// One per sub-command, in tools/NAME.cc.
void AddTrainCommand(CLI::App& app, CommonOptions& options);
void AddEvalCommand(CLI::App& app, CommonOptions& options);
void AddPredictCommand(CLI::App& app, CommonOptions& options);
void AddFuseCommand(CLI::App& app, CommonOptions& options);
void AddExportCommand(CLI::App& app, CommonOptions& options);
void AddInspectCommand(CLI::App& app, CommonOptions& options);
void AddProfileCommand(CLI::App& app, CommonOptions& options);
void AddDataCommand(CLI::App& app, CommonOptions& options);
void AddDemoCommand(CLI::App& app, CommonOptions& options);

}  // namespace graft
