#include "tools/lib/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <memory>

#include "tools/lib/interrupts.h"
#include "tools/lib/output.h"

namespace graft {
namespace {

std::string Duration(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return s >= 60 ? fmt::format("{}m{:02}s", s / 60, s % 60) : fmt::format("{}s", s);
}

std::string Bar(double done) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(done * kWidth + 0.5);
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < full ? "#" : ".";
  return bar;
}

}  // namespace

TrainHooks ProgressHooks(const CommonOptions& options) {
  const bool bar = !options.quiet && isatty(STDERR_FILENO);
  TrainHooks hooks;
  hooks.stop = Interrupted;
  hooks.note = [options](const std::string& line) { Say(options, line); };
  const auto metric = std::make_shared<std::string>();  // of the last validation
  if (bar)
    hooks.on_step = [metric](const StepReport& r) {
      std::fprintf(
          stderr,
          "\r\033[Kepoch %ld/%ld [%s] step %ld/%ld  loss %.4f%s  %.1f %s/s  %.0f GFLOP/s  ETA %s",
          static_cast<long>(r.epoch), static_cast<long>(r.epochs),
          Bar(static_cast<double>(r.step) / static_cast<double>(r.steps)).c_str(),
          static_cast<long>(r.step), static_cast<long>(r.steps), r.loss, metric->c_str(),
          r.examples_per_second, r.unit, r.gflops, Duration(r.seconds_left).c_str());
    };
  hooks.on_epoch = [options, bar, metric](const EpochReport& r) {
    if (bar) std::fprintf(stderr, "\r\033[K");
    std::string line = fmt::format("epoch {:>3}/{}  train loss {:.4f}  {:.1f} {}/s", r.epoch,
                                   r.epochs, r.train_loss, r.examples_per_second, r.unit);
    if (r.validated) *metric = fmt::format("  val {:.1f} %", 100 * r.validation.accuracy);
    if (r.validated)
      line += fmt::format("  val accuracy {:.1f} %  val loss {:.4f}", 100 * r.validation.accuracy,
                          r.validation.loss);
    if (r.validated && r.masked_words)
      line += fmt::format("  perplexity {:.2f}", std::exp(r.validation.loss));
    Say(options, line);
  };
  return hooks;
}

}  // namespace graft
