#include "suites/runner.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <new>
#include <thread>
#include <unordered_map>

#include "runtime/cpu.h"
#include "suites/scores.h"
#include "train/complete_config.h"
#include "train/run_summary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const char* KindWord(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kNonFinite:
      return "non_finite";
    default:
      return "user";
  }
}

// The peak of memory is the process's; from here on it counts what follows.
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Opens the run of a unit: one that an earlier process has begun, or a new one.
RunDir OpenRun(const Unit& unit, const std::string& path, std::vector<std::string>* notes) {
  if (IsRunDirectory(path)) return RunDir::Open(path);
  std::error_code none;
  fs::create_directories(fs::path(path).parent_path(), none);
  return RunDir::Create(path, CompleteRunConfig(unit.config, notes));
}

class UnitRunner {
 public:
  UnitRunner(const std::string& suite, const Unit& unit, const SuiteHooks& hooks)
      : suite_(suite), unit_(unit), hooks_(hooks) {}

  // Trains and measures, and puts the results into the row. Returns false if it was interrupted.
  bool Run(UnitRow* row) {
    row->run = "runs/" + RunName(*row);
    const std::string path = suite_ + "/" + row->run;
    std::vector<std::string> notes;
    RunDir dir = OpenRun(unit_, path, &notes);
    TrainHooks hooks;
    hooks.stop = hooks_.stop, hooks.on_work = hooks_.on_work, hooks.on_step = hooks_.on_step;
    TrainSummary s;
    try {
      s = Train(dir, hooks);
    } catch (...) {
      if (!dir.resumed()) dir.RemoveIfNothingSaved();
      throw;
    }
    if (s.interrupted) return false;
    row->trainable_parameters = s.trainable_parameters, row->train_seconds = s.seconds;
    MeasureAll(path, s, row);
    row->state = UnitState::kDone;
    return true;
  }

 private:
  void MeasureAll(const std::string& path, const TrainSummary& s, UnitRow* row) {
    const MeasureOptions options{.memory_budget = unit_.config.memory_budget,
                                 .skip_bad = unit_.config.skip_bad,
                                 .passes = PassesOf(unit_.config),
                                 .on_work = hooks_.on_work,
                                 .stop = hooks_.stop};
    const std::vector<nlohmann::json> measured = Measure(path, unit_.measure, options);
    row->metrics = measured[0];
    row->metrics["train_loss"] = s.final_train_loss;
    row->metrics["split"] = unit_.measure[0].split;
    if (!row->metrics.contains(row->metric))
      Fail("{}: there is no {} of {} classes", path, row->metric, s.config.labels.size());
    row->score = row->metrics[row->metric];
    for (size_t i = 1; i < measured.size(); ++i) {
      nlohmann::json target = measured[i];
      target["name"] = unit_.measure[i].name, target["data"] = unit_.measure[i].data;
      row->metrics["targets"].push_back(target);
    }
  }

  const std::string& suite_;
  const Unit& unit_;
  const SuiteHooks& hooks_;
};

enum class Ended { kFinished, kInterrupted };

// Runs a claimed unit and records the result in the ledger.
Ended RunClaimed(Ledger& ledger, const Unit& unit, UnitRow row, const SuiteHooks& hooks) {
  const Clock::time_point start = Clock::now();
  ForgetPeak();
  const auto failed = [&](const std::string& why, const char* kind) {
    row.state = UnitState::kFailed, row.error = why, row.error_kind = kind;
  };
  bool whole = true;
  try {
    whole = UnitRunner(ledger.directory(), unit, hooks).Run(&row);
  } catch (const Error& e) {
    whole = e.kind != ErrorKind::kInterrupted;
    failed(e.what(), KindWord(e.kind));
  } catch (const std::bad_alloc&) {
    failed("out of memory; hint: --memory-budget, or a smaller --batch-size", "memory");
  } catch (const fs::filesystem_error& e) {
    failed(fmt::format("{}: {}", e.path1().string(), e.code().message()), "user");
  }
  if (!whole) {
    ledger.Release(row.hash, Since(start));
    return Ended::kInterrupted;
  }
  row.seconds = Since(start), row.machine = MachineText();
  row.peak_bytes = static_cast<int64_t>(PeakResidentBytes());
  ledger.Finish(row);
  if (hooks.on_end) hooks.on_end(*ledger.Find(row.hash));
  return Ended::kFinished;
}

bool Stopped(const SuiteHooks& hooks) { return hooks.stop && hooks.stop(); }

// Waits for what other processes do; returns false if the user does not want to wait.
bool WaitForOthers(const SuiteHooks& hooks, size_t others) {
  if (hooks.on_wait) hooks.on_wait(others);
  for (int i = 0; i < 5 && !Stopped(hooks); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return !Stopped(hooks);
}

}  // namespace

std::vector<UnitRow> KnownUnits(const SuitePlan& plan, const std::vector<UnitRow>& ledger) {
  std::vector<UnitRow> known;
  for (const Unit& unit : plan.units) known.push_back(unit.row);
  for (const Selection& selection : plan.selections)
    if (const std::optional<size_t> best = Best(selection, ledger);
        best && *best < selection.candidates.size())
      for (const Unit& unit : selection.candidates[*best].finals) known.push_back(unit.row);
  return known;
}

void CheckSameSuite(const SuiteInfo& there, const SuiteInfo& now, const std::string& directory) {
  const auto same = [&](const char* what, const std::string& a, const std::string& b) {
    if (a != b)
      Fail("{}: a suite with {} {}, now {}; hint: another --out", directory, what,
           a.empty() ? "none" : a, b.empty() ? "none" : b);
  };
  same("the kind", there.kind, now.kind);
  same("the model", there.model, now.model);
  same("a model of SHA-256", there.base_sha256, now.base_sha256);
  for (const auto& [key, value] : now.config.items())
    same(key.c_str(), there.config.value(key, nlohmann::json()).dump(), value.dump());
}

void RecordSuite(Ledger& ledger, const SuitePlan& plan) {
  const std::optional<SuiteInfo> there = ledger.Suite();
  SuiteInfo info = plan.info;
  if (there) {
    CheckSameSuite(*there, info, ledger.directory());
    // Rows and tasks of earlier commands stay in the tables.
    for (const std::string& method : there->methods)
      if (std::ranges::find(info.methods, method) == info.methods.end())
        info.methods.push_back(method);
    for (const nlohmann::json& task : there->tasks)
      if (std::ranges::none_of(info.tasks,
                               [&](const auto& t) { return t["name"] == task["name"]; }))
        info.tasks.push_back(task);
    info.command = there->command, info.version = there->version;
  }
  ledger.SetSuite(info);
}

SuiteOutcome RunSuite(Ledger& ledger, const SuitePlan& plan, const SuiteHooks& hooks) {
  const Clock::time_point start = Clock::now();
  SuiteOutcome outcome;
  std::unordered_map<std::string, const Unit*> units;
  std::vector<std::string> hashes;
  for (const Unit* unit : plan.All())
    if (units.emplace(unit->row.hash, unit).second) hashes.push_back(unit->row.hash);
  const auto add = [&] {
    return ledger.Add(KnownUnits(plan, ledger.Units()),
                      [&](const UnitRow& u) { return PlaceOf(plan.info.kind, u); });
  };
  add();
  ledger.RetryFailed(hashes);
  while (!(outcome.interrupted = Stopped(hooks))) {
    const Claimed claimed = ledger.Claim(hashes);
    if (!claimed.unit) {
      const bool more = add() > 0;
      if (more) continue;
      if (claimed.others == 0) break;
      outcome.interrupted = !WaitForOthers(hooks, claimed.others);
      if (outcome.interrupted) break;
      continue;
    }
    if (hooks.on_begin) hooks.on_begin(*claimed.unit, claimed.unit->attempts > 1);
    const Unit& unit = *units.at(claimed.unit->hash);
    if (RunClaimed(ledger, unit, *claimed.unit, hooks) == Ended::kInterrupted) {
      outcome.interrupted = true;
      break;
    }
    ++outcome.trained;
    if (unit.row.phase == "choice") add();
  }
  for (const UnitRow& row : ledger.Units()) {
    if (!units.contains(row.hash)) continue;
    ++outcome.planned;
    outcome.done += row.state == UnitState::kDone;
    outcome.failed += row.state == UnitState::kFailed;
  }
  outcome.seconds = Since(start);
  return outcome;
}

}  // namespace graft
