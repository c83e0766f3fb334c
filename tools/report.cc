// graft bench report: suites, searches and runs as one page; suites as CSV and as LaTeX.
#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/near_path.h"
#include "tools/commands.h"
#include "tools/lib/output.h"
#include "tools/lib/run_table.h"
#include "tools/reports/run_report.h"
#include "tools/reports/search_report.h"
#include "tools/reports/suite_report.h"
#include "train/run_dir.h"

namespace graft {
namespace {

// How many examples of a run's split are measured for its page, unless --limit says otherwise.
constexpr size_t kExamples = 2000;

struct ReportOptions {
  std::vector<std::string> inputs;
  std::string out, csv, latex;
  RunReportOptions run{.limit = kExamples};
  bool no_eval = false;
};

struct Inputs {
  std::vector<SuiteData> suites;
  std::vector<SearchData> searches;
  std::vector<std::string> runs;
};

Inputs Read(const std::vector<std::string>& directories) {
  Inputs in;
  for (const std::string& directory : directories) {
    if (!std::filesystem::is_directory(directory))
      Fail("{}: no such directory{}", directory, DidYouMeanPath(directory));
    if (Ledger::IsThere(directory))
      in.suites.push_back(ReadSuite(directory));
    else if (IsSearch(directory))
      in.searches.push_back(ReadSearch(directory));
    else if (IsRunDirectory(directory))
      in.runs.push_back(directory);
    else if (const std::vector<std::string> below = FindRuns(directory); !below.empty())
      in.runs.insert(in.runs.end(), below.begin(), below.end());
    else
      Fail(
          "{}: no suite (ledger.sqlite), no search (search.json) and no run (config.json), nor one "
          "that holds runs",
          directory);
  }
  return in;
}

void CheckOptions(const ReportOptions& o) {
  if (o.inputs.empty())
    FailUsage("bench report needs suites, searches or runs; example: graft bench report --help");
  if (o.out.empty() && o.csv.empty() && o.latex.empty())
    FailUsage("bench report needs --out FILE.html (or --csv FILE, --latex FILE)");
  if (o.no_eval && !o.run.split.empty())
    FailUsage("--split {}: --no-eval measures nothing", o.run.split);
  CheckOutputFiles({{"--out", o.out}, {"--csv", o.csv}, {"--latex", o.latex}});  // before the work
}

std::string MakePage(const ReportOptions& o, const Inputs& in, const CommonOptions& common,
                     ReportNotes* notes) {
  Page page(o.inputs.size() == 1 ? o.inputs[0] : fmt::format("{} results", o.inputs.size()));
  for (const SuiteData& suite : in.suites) AddSuite(suite, &page);
  RunReportOptions run = o.run;
  run.evaluate = !o.no_eval;
  for (const std::string& directory : in.runs) AddRun(directory, run, common, &page, notes);
  CompareSearches(in.searches, &page);
  run.of_search = true;
  for (const SearchData& search : in.searches) {
    for (const std::string& note : AddSearch(search, in.searches, &page))
      notes->notes.push_back(note);
    if (!search.method.empty()) AddRun(search.directory, run, common, &page, notes);
  }
  return page.Html();
}

void Run(const ReportOptions& o, const CommonOptions& common) {
  CheckOptions(o);
  ApplyCommonOptions(common);
  const Inputs in = Read(o.inputs);
  if (in.suites.empty() && o.out.empty())
    FailUsage("--csv and --latex: of suites; these are runs and searches");
  size_t units = 0, done = 0;
  std::string latex;
  for (const SuiteData& suite : in.suites) {
    latex += (latex.empty() ? "" : "\n") + SuiteLatex(suite);
    units += suite.units.size();
    for (const UnitRow& u : suite.units) done += u.state == UnitState::kDone;
  }
  ReportNotes notes;
  if (!o.out.empty()) WriteFileAtomically(o.out, MakePage(o, in, common, &notes));
  if (!o.csv.empty()) WriteFileAtomically(o.csv, UnitsCsv(in.suites));
  if (!o.latex.empty()) WriteFileAtomically(o.latex, latex);
  if (done < units) notes.notes.push_back(fmt::format("{} of {} units are done", done, units));
  nlohmann::json json{{"suites", in.suites.size()},
                      {"searches", in.searches.size()},
                      {"runs", in.runs.size()},
                      {"units", units},
                      {"done", done},
                      {"measured", notes.measured},
                      {"notes", notes.notes},
                      {"charts", HasCharts()}};
  for (const auto& [key, file] : {std::pair("out", o.out), {"csv", o.csv}, {"latex", o.latex}})
    if (!file.empty()) json[key] = file;
  PrintJson(common, json);
  for (const std::string& file : {o.out, o.csv, o.latex})
    if (!file.empty()) Say(common, "wrote " + file);
  for (const std::string& note : notes.notes) Say(common, "note: " + note);
  if (!o.out.empty() && !HasCharts())
    Say(common,
        "note: without charts, as Chart.js (Debian: libjs-chart.js) was not there when graft "
        "was built");
}

}  // namespace

void AddReport(CLI::App& bench, CommonOptions& common) {
  CLI::App* command = bench.add_subcommand(
      "report", "suites, searches and runs as one HTML page; suites as CSV and as LaTeX");
  auto o = std::make_shared<ReportOptions>();
  command->add_option("SUITE", o->inputs, "directories of suites, of searches and of runs");
  command->add_option("--out", o->out, "the page, which needs no other file");
  command->add_option("--csv", o->csv, "a line for each unit");
  command->add_option("--latex", o->latex, "the table of methods and tasks, for booktabs");
  command->add_option("--split", o->run.split,
                      "of runs: what is measured for the page (default: the validation split, else "
                      "the test split)");
  command->add_option("--limit", o->run.limit, "of runs: measure the first N examples; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000'000'000}))
      ->capture_default_str();
  command->add_flag("--no-eval", o->no_eval,
                    "of runs: only what their files say; no model and no data are opened");
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  HideModelOptions(*command);
  command->footer(
      "Example:\n  graft bench report suite/ fs/ --out report.html --csv units.csv\n"
      "  graft bench report runs/a --out run.html --split test\n"
      "  graft bench report search/ search-random/ --out search.html");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
