#include "tools/lib/suite_progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "suites/scores.h"
#include "suites/table.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/suite_tables.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;

std::string UnitName(const UnitRow& u) {
  std::string name = fmt::format("{}  {}", u.task, ShortMethod(u.method));
  if (const std::string options = OptionsText(u.options); !options.empty()) name += "  " + options;
  return name + fmt::format("  seed {}{}", u.seed, u.phase == "choice" ? "  (choice)" : "");
}

// The rows and columns of the terminal; zeros if there is none.
winsize TerminalSize() {
  winsize size{};
  if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return {};
  return size;
}

// The columns that a line takes, counting a character of UTF-8 as one.
size_t WidthOf(std::string_view line) {
  return static_cast<size_t>(
      std::ranges::count_if(line, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

}  // namespace

struct SuiteProgress::Impl {
  const Ledger& ledger;
  const SuitePlan& plan;
  CommonOptions common;
  std::shared_ptr<ProgressMeter> meter;
  Clock::time_point start = Clock::now();
  size_t ended = 0, drawn = 0;  // units; lines of the table that stand on the terminal
  bool waiting = false;
  std::string running;

  bool Live() const { return !common.quiet && !common.json && TerminalSize().ws_row > 0; }

  void Erase() {
    if (drawn == 0) return;
    EndProgressLine();
    std::printf("\x1b[%zuA\x1b[J", drawn);
    std::fflush(stdout);
    drawn = 0;
  }

  // Draws the table only if it fits: one that scrolls away could not be taken back.
  void Draw(const std::vector<UnitRow>& units) {
    const winsize size = TerminalSize();
    const std::string table = "\n" + SuiteTable(plan.info, units) + "\n";
    size_t lines = 0, widest = 0;
    for (size_t begin = 0; begin < table.size(); ++lines) {
      const size_t end = table.find('\n', begin);
      widest = std::max(widest, WidthOf(std::string_view(table).substr(begin, end - begin)));
      begin = end + 1;
    }
    if (lines + 4 > size.ws_row || widest >= size.ws_col) return;
    std::fputs(table.c_str(), stdout);
    std::fflush(stdout);
    drawn = lines;
  }

  // Text such as "12 of 57", with the time that the others take if each takes as long as those of
  // this process.
  std::string Share(const std::vector<UnitRow>& units) const {
    const auto open = static_cast<size_t>(std::ranges::count_if(units, [](const UnitRow& u) {
      return u.state == UnitState::kPending || u.state == UnitState::kRunning;
    }));
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    std::string text = fmt::format("{} of {}", units.size() - open, units.size());
    if (open > 0)
      text += fmt::format(", {} left", DurationText(seconds / static_cast<double>(ended) *
                                                    static_cast<double>(open)));
    return text;
  }

  void OnEnd(const UnitRow& u) {
    ++ended, waiting = false;
    const std::vector<UnitRow> units = ledger.Units();
    const bool live = Live();
    Erase();
    const std::string result = u.state == UnitState::kFailed
                                   ? "failed: " + u.error
                                   : fmt::format("{} {:.1f}", u.metric, 100 * u.score);
    Say(common, fmt::format("{}  {}  {}  ({})", UnitName(u), result, DurationText(u.seconds),
                            Share(units)));
    if (live) Draw(units);
  }
};

SuiteProgress::SuiteProgress(const Ledger& ledger, const SuitePlan& plan,
                             const CommonOptions& common)
    : impl_(new Impl{ledger, plan, common, std::make_shared<ProgressMeter>(StandardMeter())}) {}
SuiteProgress::~SuiteProgress() = default;

void SuiteProgress::End() { impl_->Erase(); }

SuiteHooks SuiteProgress::Hooks() {
  SuiteHooks hooks;
  Impl* impl = impl_.get();
  hooks.stop = Interrupted;
  hooks.on_end = [impl](const UnitRow& unit) { impl->OnEnd(unit); };
  if (impl->common.quiet) return hooks;
  hooks.on_begin = [impl](const UnitRow& unit, bool resumed) {
    impl->running = UnitName(unit) + (resumed ? "  (resumed)" : "");
    impl->meter->Begin();
  };
  hooks.on_work = [impl](const char* what, size_t done, size_t total, const char* unit) {
    impl->meter->Work(fmt::format("{}: {}", impl->running, what), done, total, unit);
  };
  hooks.on_step = [impl](const StepReport& r) {
    if (!impl->meter->Due()) return;
    impl->meter->Show({{impl->running, 6},
                       {fmt::format("epoch {}/{}", r.epoch, r.epochs), 5},
                       {fmt::format("loss {:.4f}", r.loss), 3},
                       {fmt::format("{:.1f} {}/s", r.examples_per_second, r.unit), 1},
                       {fmt::format("{} left", DurationText(r.seconds_left)), 4}});
  };
  hooks.on_wait = [impl](size_t others) {
    if (std::exchange(impl->waiting, true)) return;
    Say(impl->common,
        fmt::format("waiting for {} unit{} of other processes", others, others == 1 ? "" : "s"));
  };
  return hooks;
}

}  // namespace graft
