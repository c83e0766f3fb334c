#include "train/run_summary.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "ops/isa.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "runtime/version.h"
#include "train/calibrate.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

// The number of epochs that the run had when the state was saved.
int64_t EpochsThen(const RunConfig& c, const Progress& p) {
  if (p.epochs > 0) return p.epochs;
  return c.schedule_epochs > 0 ? c.schedule_epochs : c.epochs;
}

}  // namespace

std::string MachineText() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return fmt::format("{}, {} threads, {}", ActiveIsa(), Threads(), host);
}

double MetricOfScore(const std::string& metric, double score) {
  return SmallerIsBetter(metric) ? -score : score;
}

nlohmann::json SummaryJson(const RunConfig& c, const Progress& p, const RunSummary& s,
                           const nlohmann::json& earlier) {
  size_t peak = s.peak_memory_bytes;
  if (earlier.is_object())
    if (const auto it = earlier.find("peak_memory_bytes");
        it != earlier.end() && it->is_number_unsigned())
      peak = std::max(peak, it->get<size_t>());
  const auto first = earlier.is_object() ? earlier.find("command") : earlier.end();
  const bool begun = earlier.is_object() && first != earlier.end() && first->is_string();
  const auto known = [](bool is, const nlohmann::json& value) {
    return is ? value : nlohmann::json();
  };
  return {{"finished", p.finished},
          {"stopped_early", s.stopped_early},
          {"step", p.step},
          {"steps", s.steps},
          {"trainable_parameters", s.trainable_parameters},
          {"stored_parameters", s.stored_parameters},
          {"train_loss", known(p.step > 0, p.last_loss)},
          {"metric", known(s.validated, "val_" + c.best_metric)},
          {"best", known(p.best_epoch > 0, MetricOfScore(c.best_metric, p.best_metric))},
          {"best_epoch", known(p.best_epoch > 0, p.best_epoch)},
          {"seconds", p.seconds},
          {"examples_per_second", s.examples_per_second},
          {"dtype", s.products},
          {"planned_bytes", s.planned_bytes},
          {"peak_memory_bytes", peak},
          {"command", begun ? *first : known(!s.command.empty(), s.command)},
          {"machine", MachineText()},
          {"version", kVersion}};
}

nlohmann::json ReadSummary(const std::string& run) {
  const std::string file = run + "/summary.json";
  if (!std::filesystem::exists(file)) return nullptr;
  try {
    nlohmann::json json = ReadJson(file);
    if (json.is_object()) return json;
  } catch (const Error&) {  // nothing depends on it
  }
  return nullptr;
}

bool StoppedEarly(const std::string& run) {
  const nlohmann::json summary = ReadSummary(run);
  const auto it = summary.find("stopped_early");
  return summary.is_object() && it != summary.end() && *it == true;
}

bool IsFinished(const RunConfig& config, const Progress& progress) {
  return progress.finished && EpochsThen(config, progress) >= config.epochs;
}

void ChangeEpochs(RunDir& dir, int64_t epochs) {
  const RunConfig& c = dir.config();
  if (epochs == c.epochs) return;
  if (c.schedule != "constant")
    FailUsage(
        "--epochs {}: the {} schedule of {} ends at a rate of 0 after {} epochs, and steps that "
        "are "
        "done cannot be given other rates; hint: a new run with --epochs {}, or with --schedule "
        "constant, which can be extended",
        epochs, c.schedule, dir.path(), c.epochs, epochs);
  if (WantsCalibration(ParseMethod(c.method)))
    FailUsage(
        "--epochs {}: {} was calibrated after its {} epochs; hint: a new run with --epochs {}",
        epochs, dir.path(), c.epochs, epochs);
  ParamStore state;
  Progress p;
  dir.LoadState(state, p);
  if (StoppedEarly(dir.path()))
    FailUsage(
        "--epochs {}: {} was stopped early, {} epochs behind its best one; hint: a new run "
        "with a larger --early-stopping",
        epochs, dir.path(), c.early_stopping);
  // What is done are whole epochs and a part of the next.
  const int64_t then = EpochsThen(c, p);
  const nlohmann::json summary = ReadSummary(dir.path());
  const auto at = summary.find("steps");
  const int64_t steps = at != summary.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
  const int64_t done = p.finished ? then : steps > 0 ? (p.step * then + steps - 1) / steps : 0;
  if (epochs < done)
    FailUsage("--epochs {}: {} has begun epoch {} already", epochs, dir.path(), done);
  dir.RecordEpochs(epochs);
}

}  // namespace graft
