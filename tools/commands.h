// The sub-commands of graft.
#pragma once
#include "tools/lib/options.h"

namespace graft {

// One per sub-command, in tools/NAME.cc.
void AddTrainCommand(CLI::App& app, CommonOptions& options);
void AddEvalCommand(CLI::App& app, CommonOptions& options);
void AddPredictCommand(CLI::App& app, CommonOptions& options);
void AddFuseCommand(CLI::App& app, CommonOptions& options);
void AddExportCommand(CLI::App& app, CommonOptions& options);
void AddInspectCommand(CLI::App& app, CommonOptions& options);
void AddProfileCommand(CLI::App& app, CommonOptions& options);
void AddDataCommand(CLI::App& app, CommonOptions& options);
void AddDataSplit(CLI::App& data, CommonOptions& options);  // of AddDataCommand
void AddDemoCommand(CLI::App& app, CommonOptions& options);

}  // namespace graft
