// The sub-commands of graft.
#pragma once
#include "tools/lib/options.h"

namespace graft {

// There is one function for each sub-command, in tools/NAME.cc.
void AddTrainCommand(CLI::App& app, CommonOptions& options);
void AddEvalCommand(CLI::App& app, CommonOptions& options);
void AddPredictCommand(CLI::App& app, CommonOptions& options);
void AddFuseCommand(CLI::App& app, CommonOptions& options);
void AddExportCommand(CLI::App& app, CommonOptions& options);
void AddInspectCommand(CLI::App& app, CommonOptions& options);
void AddProfileCommand(CLI::App& app, CommonOptions& options);
void AddPlanCommand(CLI::App& app, CommonOptions& options);
void AddDataCommand(CLI::App& app, CommonOptions& options);
void AddDataSplit(CLI::App& data, CommonOptions& options);  // of AddDataCommand
void AddDemoCommand(CLI::App& app, CommonOptions& options);
void AddReport(CLI::App& bench, CommonOptions& common);  // of AddBenchCommand
void AddBenchCommand(CLI::App& app, CommonOptions& options);
void AddAblateCommand(CLI::App& app, CommonOptions& options);  // tools/bench.cc
void AddRunsCommand(CLI::App& app, CommonOptions& options);
void AddSearchCommand(CLI::App& app, CommonOptions& options);
void AddModelsCommand(CLI::App& app, CommonOptions& options);
// help and completions, which know all others.
void AddHelpCommands(CLI::App& app, const std::string& version);
// How --help looks, of an app and of the commands that are added to it later.
std::shared_ptr<CLI::FormatterBase> MakeHelpFormat();
std::string HelpText(const CLI::App& app);

}  // namespace graft
