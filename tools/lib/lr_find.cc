#include "tools/lib/lr_find.h"

#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "train/run_dir.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

constexpr size_t kLines = 25, kBar = 40;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-lr-XXXXXX").string();
    if (!mkdtemp(name.data())) Fail("{}: cannot make a temporary directory", name);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The report of a step as part of the search, whose epochs mean nothing.
StepReport OfFinding(StepReport step) {
  const auto left = [&](int64_t steps) { return static_cast<double>(steps - step.step); };
  if (step.steps > step.step) step.seconds_left *= left(kFindSteps) / left(step.steps);
  step.steps = kFindSteps, step.epoch = step.epochs = 0;
  return step;
}

}  // namespace

std::vector<RatePoint> TryRates(RunConfig c, const TrainHooks& given) {
  const TemporaryDirectory temporary;
  c.schedule = kFindSchedule, c.warmup = 0, c.val_split.clear(), c.holdout = 0, c.save_every = 0;
  c.early_stopping = 0, c.best_metric = DefaultMetric(c.task);
  c.epochs = kFindSteps;  // of at least one step each
  std::vector<RatePoint> points;
  double least = INFINITY;
  bool interrupted = false;
  TrainHooks hooks;
  hooks.note = given.note;
  hooks.on_step = [&](const StepReport& step) {
    points.push_back({step.learning_rate, step.loss});
    least = std::min(least, step.loss);
    if (given.on_step) given.on_step(OfFinding(step));
  };
  hooks.stop = [&] {
    interrupted = given.stop && given.stop();
    if (interrupted || points.empty()) return interrupted;  // features are made before any step
    return std::ssize(points) >= kFindSteps || points.back().loss > 4 * least;
  };
  RunDir dir = RunDir::Create(temporary.path() + "/run", c);
  try {
    Train(dir, hooks);
  } catch (const Error& e) {  // the last rates may be too large for any number
    if (e.kind != ErrorKind::kNonFinite || points.size() < 10) throw;
  }
  if (interrupted) throw Error("interrupted; nothing is kept", ErrorKind::kInterrupted);
  return points;
}

std::vector<double> SmoothLosses(std::span<const RatePoint> points) {
  std::vector<double> smooth;
  double mean = 0, weight = 0;
  for (const RatePoint& p : points) {
    mean = 0.9 * mean + 0.1 * p.loss, weight = 0.9 * weight + 0.1;
    smooth.push_back(mean / weight);
  }
  return smooth;
}

double SuggestRate(std::span<const RatePoint> points) {
  const std::vector<double> smooth = SmoothLosses(points);
  const auto least = std::ranges::min_element(smooth) - smooth.begin();
  double steepest = 0, rate = 0;
  for (int64_t i = 1; i < least; ++i) {
    const double slope =
        (smooth[i + 1] - smooth[i - 1]) / (std::log(points[i + 1].lr) - std::log(points[i - 1].lr));
    if (slope < steepest) steepest = slope, rate = points[i].lr;
  }
  return rate;
}

std::string RatePlot(std::span<const RatePoint> points, double suggestion) {
  const std::vector<double> smooth = SmoothLosses(points);
  const auto [low, high] = std::ranges::minmax(smooth);
  const size_t each = (points.size() + kLines - 1) / kLines;
  std::string text = "  rate       loss\n";
  for (size_t i = 0; i < points.size(); i += each) {
    const double share = high > low ? (smooth[i] - low) / (high - low) : 0;
    const size_t last = std::min(i + each, points.size()) - 1;
    const bool here = suggestion >= points[i].lr && suggestion <= points[last].lr;
    text += fmt::format("  {:<9.2e}  {:<8.4f}  {}{}\n", points[i].lr, smooth[i],
                        std::string(1 + static_cast<size_t>(share * kBar), '#'),
                        here ? "  <- falls fastest" : "");
  }
  text.pop_back();
  return text;
}

}  // namespace graft
