#include "tools/lib/progress.h"

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "tools/lib/command_line.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/output.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

std::string Bar(double done) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(done * kWidth + 0.5);
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < full ? "#" : ".";
  return bar;
}

std::vector<LinePart> PartsOf(const StepReport& r, const std::string& metric) {
  std::vector<LinePart> parts;
  if (r.epochs > 0) parts.push_back({fmt::format("epoch {}/{}", r.epoch, r.epochs), 7});
  const double done = static_cast<double>(r.step) / static_cast<double>(r.steps);
  parts.push_back({fmt::format("[{}]", Bar(done)), 2});
  parts.push_back({fmt::format("step {}/{}", r.step, r.steps), r.epochs > 0 ? 4 : 7});
  parts.push_back({fmt::format("loss {:.4f}", r.loss), 5});
  if (!metric.empty()) parts.push_back({metric, 3});
  parts.push_back({fmt::format("{:.1f} {}/s", r.examples_per_second, r.unit), 1});
  parts.push_back({fmt::format("{:.0f} GFLOP/s", r.gflops), 0});
  parts.push_back({fmt::format("ETA {}", DurationText(r.seconds_left)), 6});
  return parts;
}

std::string ValueText(const MetricInfo& metric, const Metrics& m) {
  const double value = metric.value(m);
  return metric.share ? Percent(value) : MeasureText(value);
}

// The measures without the loss, which either is the first of them or says little.
std::string TargetsText(const EpochReport& r) {
  std::string text;
  for (const MetricInfo& metric : MetricsOf(r.task))
    if (std::string_view(metric.name) != "loss")
      text += fmt::format("{}{} {}", text.empty() ? "" : "  ", metric.name,
                          ValueText(metric, r.validation));
  return text;
}

std::string LineOf(const EpochReport& r) {
  std::string line = fmt::format("epoch {:>3}/{}  train loss {:.4f}  {:.1f} {}/s", r.epoch,
                                 r.epochs, r.train_loss, r.examples_per_second, r.unit);
  if (r.validated && r.task == kClassify)
    line += fmt::format("  val accuracy {:.1f} %  val loss {:.4f}", 100 * r.validation.accuracy,
                        r.validation.loss);
  if (r.validated && r.task != kClassify) line += "  val " + TargetsText(r);
  if (r.validated && r.masked_words)
    line += fmt::format("  perplexity {:.2f}", std::exp(r.validation.loss));
  return line + (r.best ? "  best" : "");
}

}  // namespace

TrainHooks ProgressHooks(const CommonOptions& options) {
  TrainHooks hooks;
  hooks.command = CommandLine();
  hooks.stop = Interrupted;
  hooks.note = [options](const std::string& line) { Say(options, line); };
  hooks.on_work = ProgressOf(options);
  const auto metric = std::make_shared<std::string>();  // of the last validation
  if (!options.quiet) {
    const auto meter = std::make_shared<ProgressMeter>(StandardMeter());
    meter->Begin();
    hooks.on_step = [meter, metric](const StepReport& r) {
      if (meter->Due()) meter->Show(PartsOf(r, *metric));
    };
  }
  hooks.on_epoch = [options, metric](const EpochReport& r) {
    if (r.validated) *metric = "val " + ValueText(MetricsOf(r.task)[0], r.validation);
    Say(options, LineOf(r));
  };
  return hooks;
}

Heartbeat::Heartbeat(const CommonOptions& options, const std::string& what) {
  if (options.quiet) return;
  thread_ = std::jthread([what](const std::stop_token& stop) {
    const MeterOutput output = StandardMeter();
    const double start = output.seconds();
    ProgressMeter meter(output);
    meter.Begin();
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, stop, std::chrono::milliseconds(100), [] { return false; }) &&
           !stop.stop_requested())
      if (meter.Due()) meter.Show({{what, 1}, {DurationText(output.seconds() - start), 2}});
  });
}

Heartbeat::~Heartbeat() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  EndProgressLine();
}

WorkHook ProgressOf(const CommonOptions& options) {
  if (options.quiet) return {};
  const auto meter = std::make_shared<ProgressMeter>(StandardMeter());
  return [meter](const char* what, size_t done, size_t total, const char* unit) {
    meter->Work(what, done, total, unit);
  };
}

}  // namespace graft
