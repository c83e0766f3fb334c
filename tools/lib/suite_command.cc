#include "tools/lib/suite_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "adapters/open_model.h"
#include "data/augment.h"
#include "runtime/io/files_read.h"
#include "runtime/process_group.h"
#include "suites/predict.h"
#include "suites/runner.h"
#include "suites/scores.h"
#include "suites/table.h"
#include "tools/lib/command_line.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "tools/lib/suite_progress.h"
#include "tools/lib/suite_tables.h"
#include "tools/lib/train_options.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// Lists that a plan has written. They are removed if the plan is only looked at or comes to
// nothing.
class PlannedLists {
 public:
  PlannedLists(const std::string& suite, bool only_looked_at) : suite_(suite) {
    std::error_code none;
    is_new_ = !fs::exists(Ledger::PathOf(suite), none);
    existed_ = fs::exists(suite, none);
    path_ = suite + "/lists";
    if (!only_looked_at) return;
    std::string name = (fs::temp_directory_path() / "graft-plan-XXXXXX").string();
    if (!mkdtemp(name.data())) Fail("{}: cannot create a temporary directory", name);
    path_ = name, temporary_ = true;
  }
  ~PlannedLists() {
    std::error_code none;
    if (kept_ || (!temporary_ && (!is_new_ || fs::exists(Ledger::PathOf(suite_), none)))) return;
    if (fs::exists(path_, none)) fs::remove_all(path_, none);
    if (!temporary_ && !existed_) fs::remove(suite_, none);  // if it is empty
  }
  const std::string& path() const { return path_; }
  void Keep() { kept_ = !temporary_; }

 private:
  std::string suite_, path_;
  bool is_new_ = false, existed_ = false, temporary_ = false, kept_ = false;
};

void CheckRequest(const SuiteCommand& s) {
  const SuiteRequest& r = s.request;
  const std::string name = r.kind == "ablate" ? "ablate" : "bench " + r.kind;
  if (r.config.model.empty()) FailUsage("{} needs --model; example: graft {} --help", name, name);
  if (r.config.data.empty())
    FailUsage("{} needs {}", name, r.kind == "shift" ? "--train" : "--data");
  if (r.out.empty()) FailUsage("{} needs --out, the suite's directory", name);
  if (r.select.empty() && r.select_on_test) FailUsage("--select-on-test: goes with --select");
  CheckIsModel(r.config.model);
}

// Checks, before anything is planned, that the command goes on with the suite in its --out.
void CheckSuiteThere(const SuiteRequest& r) {
  if (!Ledger::IsThere(r.out)) return;
  if (const std::optional<SuiteInfo> there = Ledger::Read(r.out).Suite())
    CheckSameSuite(*there, StartPlan(r, "").info, r.out);
}

nlohmann::json SuiteJson(const Ledger& ledger, const SuiteOutcome& outcome,
                         const std::vector<UnitRow>& units, bool published) {
  const SuiteInfo info = ledger.Suite().value();
  const std::vector<ScoreCell> cells = Cells(info.kind, units);
  nlohmann::json results = nlohmann::json::array(), failures = results, missing = results;
  for (const ScoreCell& cell : cells) results.push_back(ToJson(cell));
  for (const UnitRow& u : units)
    if (u.state == UnitState::kFailed)
      failures.push_back({{"task", u.task},
                          {"method", u.method},
                          {"options", u.options},
                          {"seed", u.seed},
                          {"phase", u.phase},
                          {"error", u.error},
                          {"kind", u.error_kind}});
  for (const nlohmann::json& task : info.tasks)
    if (task["directory"].is_null()) missing.push_back(task["name"]);
  nlohmann::json json{{"suite", ledger.directory()},
                      {"kind", info.kind},
                      {"protocol", info.protocol},
                      {"units", outcome.planned},
                      {"done", outcome.done},
                      {"failed", outcome.failed},
                      {"trained", outcome.trained},
                      {"seconds", outcome.seconds},
                      {"interrupted", outcome.interrupted},
                      {"results", results},
                      {"failures", failures},
                      {"missing_tasks", missing}};
  if (info.kind != "vtab") return json;
  json["scores"] = nlohmann::json::array();
  for (const VtabScore& score : VtabScores(cells)) json["scores"].push_back(ToJson(score));
  if (published) json["published"] = PublishedJson();
  return json;
}

void SayResults(const Ledger& ledger, const std::vector<UnitRow>& units, bool published,
                const CommonOptions& common) {
  const SuiteInfo info = ledger.Suite().value();
  Say(common, "\n" + SuiteTable(info, units));
  for (const std::string& remark : SuiteRemarks(info, units)) Say(common, "  " + remark);
  if (published) Say(common, "\n" + PublishedTable());
}

// Shows what each unit would take, and all that are not done together.
void DryRun(const SuiteCommand& s, const SuitePlan& plan, const CommonOptions& common) {
  std::vector<UnitRow> rows;
  if (Ledger::IsThere(s.request.out)) rows = Ledger::Read(s.request.out).Units();
  const std::vector<Prediction> predictions = Predict(plan, rows, ProgressOf(common));
  TextTable table({5, 6, 7, 8});
  table.Add({"task", "method", "options", "phase", "state", "seed", "time", "memory", "disk"});
  nlohmann::json list = nlohmann::json::array();
  PredictedTotal total;
  for (const Prediction& p : predictions) {
    Count(p, &total);
    const UnitRow& u = p.unit->row;
    list.push_back(ToJson(p));
    table.Add(
        {u.task, ShortMethod(u.method), OptionsText(u.options), p.maybe ? "if chosen" : u.phase,
         ToString(p.state), std::to_string(u.seed), p.known ? DurationText(p.seconds) : "-",
         p.known ? Megabytes(p.bytes) : "-",
         p.known ? fmt::format("{:.1f} MiB", static_cast<double>(p.disk_bytes) / 0x1p20) : "-"});
  }
  PrintJson(common, {{"suite", s.request.out},
                     {"kind", s.request.kind},
                     {"protocol", plan.info.protocol},
                     {"dry_run", true},
                     {"units", total.units},
                     {"done", total.done},
                     {"failed", total.failed},
                     {"seconds", 0},
                     {"predicted_seconds", total.seconds},
                     {"predicted_peak_bytes", total.peak_bytes},
                     {"predicted_disk_bytes", total.disk_bytes},
                     {"correction", predictions.empty() ? 1.0 : predictions.front().correction},
                     {"plan", list}});
  Say(common, table.Lines("  "));
  Say(common,
      fmt::format("{} units, {} done; the others take about {}, at most {} of memory and "
                  "{:.1f} MiB of disk{}",
                  total.units, total.done, DurationText(total.seconds), Megabytes(total.peak_bytes),
                  static_cast<double>(total.disk_bytes) / 0x1p20,
                  total.corrected ? ", by what has run" : ", by the operators' costs"));
}

}  // namespace

void AddSuiteOptions(CLI::App& command, SuiteCommand& s, bool benchmark) {
  SuiteRequest& r = s.request;
  command.add_option("--model", r.config.model,
                     "safetensors file, Hugging Face directory, or init:ARCH");
  command.add_option("--out", r.out, "the suite's directory; one that is there goes on");
  if (benchmark) {
    TextOrFile(
        command.add_option("--methods", r.methods,
                           "e.g. linear \"lora(r=8)\" bitfit+ln; a row each; @FILE reads one"));
    command.add_option("--select", r.select,
                       "options to choose from on validation examples, e.g. "
                       "\"lr=1e-3|5e-3,r=4|8\", for every task and method");
    command.add_flag("--select-on-test", r.select_on_test,
                     "choose on the test examples, as some papers do; marks every number");
  }
  command.add_option("--seeds", r.seeds, "units of each kind, with seeds from --seed on")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      .add_option("--test-limit", r.test_limit,
                  "N examples of every test split only, for a quick look")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000'000'000}));
  command.add_flag("--dry-run", s.dry_run, "list the units with their time, memory and disk");
  AddTrainingOptions(command, r.config);
}

void RunSuiteCommand(const CLI::App& command, SuiteCommand& s, const CommonOptions& given) {
  CommonOptions common = given;
  // The processes that a launcher has started share the suite by its ledger and need nothing else
  // of each other. The first one tells.
  const bool tells = ReadLaunch().rank == 0;
  if (!tells) common.quiet = true, common.json = false;
  SuiteRequest& r = s.request;
  if (r.config.preprocess == "list") return PrintPreprocessPresets(common);
  if (r.config.augment == "list") return PrintAugmentPresets(common);
  TakeDefaults(command, &r.config);
  CheckRequest(s);
  RunConfig& c = r.config;
  c.seed = common.seed, c.isa = common.isa, c.memory_budget = common.memory_budget;
  c.disabled_passes = common.disabled_passes;
  r.command = CommandLine();
  ApplyCommonOptions(common);
  TakePrecision(common, &c);
  SayDtype(common);
  CheckSuiteThere(r);
  PlannedLists lists(r.out, s.dry_run);
  r.lists = lists.path();
  const SuitePlan plan = PlanSuite(r);
  for (const std::string& note : plan.notes) Say(common, "note: " + note);
  if (s.dry_run && !tells) return;
  if (s.dry_run) return DryRun(s, plan, common);
  Ledger ledger = Ledger::OpenOrCreate(r.out);
  RecordSuite(ledger, plan);
  lists.Keep();
  CatchInterrupts();
  SuiteProgress progress(ledger, plan, common);
  const SuiteOutcome outcome = RunSuite(ledger, plan, progress.Hooks());
  progress.End();
  // mpirun ends all processes when one ends with an error, so only the first one tells what is
  // wrong.
  if (!tells) return;
  const std::vector<UnitRow> units = ledger.Units();
  PrintJson(common, SuiteJson(ledger, outcome, units, s.published));
  SayResults(ledger, units, s.published, common);
  Say(common,
      fmt::format("{} of {} units done{}, {} in this process, {}", outcome.done, outcome.planned,
                  outcome.failed ? fmt::format(", {} failed", outcome.failed) : "", outcome.trained,
                  DurationText(outcome.seconds)));
  if (!tells) return;
  if (outcome.interrupted)
    throw Error(fmt::format("interrupted, {} of {} units done, saved; continue with: the same "
                            "command",
                            outcome.done, outcome.planned),
                ErrorKind::kInterrupted);
  if (outcome.failed > 0)
    Fail("{} of {} units failed; the same command tries them again", outcome.failed,
         outcome.planned);
}

}  // namespace graft
