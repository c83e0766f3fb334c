// graft runs
#include "tools/commands.h"
#include "tools/lib/output.h"
#include "tools/lib/run_table.h"

namespace graft {
namespace {

struct RunsOptions {
  std::string directory, sort;
  bool csv = false, reverse = false;
};

void Run(const RunsOptions& o, const CommonOptions& common) {
  if (o.csv && common.json) FailUsage("--csv and --json: expected one of them");
  if (o.reverse && o.sort.empty()) FailUsage("--reverse goes with --sort");
  std::vector<nlohmann::json> runs;
  if (!o.sort.empty()) SortRuns(&runs, o.sort, false);  // a wrong name is told before the work
  for (const std::string& run : FindRuns(o.directory)) runs.push_back(DescribeRun(run));
  if (runs.empty())
    Fail("{}: no runs below this directory; hint: the parent of graft train's --out", o.directory);
  if (!o.sort.empty()) SortRuns(&runs, o.sort, o.reverse);
  PrintJson(common, {{"runs", runs}});
  if (o.csv) return PrintText(RunsCsv(runs));
  Say(common, RunsText(runs, o.directory, ShownColumns(common)));
  for (const nlohmann::json& run : runs)
    if (run.contains("error")) Say(common, "note: " + run["error"].get<std::string>());
}

}  // namespace

void AddRunsCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("runs", "compare the runs below a directory");
  auto o = std::make_shared<RunsOptions>();
  command->add_option("dir", o->directory, "directory that holds run directories, at any depth")
      ->required();
  command->add_option(
      "--sort", o->sort,
      "column to sort by, the best first: " + fmt::format("{}", fmt::join(RunColumns(), ", ")));
  command->add_flag("--reverse", o->reverse, "with --sort, the other way round");
  command->add_flag("--csv", o->csv, "print a CSV table");
  AddCommonOptions(*command, common);
  HideModelOptions(*command);
  command->footer("Example:\n  graft runs runs/ --sort best\n  graft runs runs/ --csv > runs.csv");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
