#include "tools/lib/progress_meter.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/utf8.h"
#include "tools/lib/report.h"
#include "tools/lib/terminal.h"

namespace graft {
namespace {

constexpr double kQuiet = 2, kRedraw = 0.1, kPipe = 30;  // seconds

std::atomic<bool> line_open{false};

}  // namespace

MeterOutput StandardMeter() {
  const char* kind = std::getenv("TERM");
  const bool dumb = kind && std::strcmp(kind, "dumb") == 0;  // knows no control but newline
  return {.terminal = !dumb && isatty(STDERR_FILENO) != 0,
          .columns = [] { return static_cast<int>(TerminalColumns(STDERR_FILENO)); },
          .seconds =
              [] {
                const auto now = std::chrono::steady_clock::now().time_since_epoch();
                return std::chrono::duration<double>(now).count();
              },
          .write = [](const std::string& text) { std::fputs(text.c_str(), stderr); }};
}

std::string DurationText(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return s >= 60 ? fmt::format("{}m{:02}s", s / 60, s % 60) : fmt::format("{}s", s);
}

std::string FitLine(std::vector<LinePart> parts, size_t columns) {
  while (true) {
    std::string line;
    for (const LinePart& part : parts) line += (line.empty() ? "" : "  ") + part.text;
    if (ColumnsOf(line) <= columns) return line;
    if (parts.size() <= 1) return FitText(line, columns);
    parts.erase(std::ranges::min_element(parts, {}, &LinePart::worth));
  }
}

void ProgressMeter::Begin() {
  start_ = out_.seconds(), begun_ = true, done_ = 0;
  last_ = out_.terminal ? start_ - kRedraw : start_;
}

bool ProgressMeter::Due() const {
  const double now = out_.seconds();
  return begun_ && now - start_ >= kQuiet && now - last_ >= (out_.terminal ? kRedraw : kPipe);
}

void ProgressMeter::Show(std::vector<LinePart> parts) {
  constexpr size_t kPipeColumns = 1000;
  last_ = out_.seconds();
  for (LinePart& part : parts) part.text = EscapeControls(part.text);
  if (!out_.terminal) return out_.write(FitLine(std::move(parts), kPipeColumns) + "\n");
  // A line that fills the last column would wrap on some terminals.
  const size_t columns = static_cast<size_t>(std::max(out_.columns(), 2)) - 1;
  line_open = true;
  out_.write("\r\033[K" + FitLine(std::move(parts), columns));
}

void ProgressMeter::Work(const std::string& what, size_t done, size_t total, const char* unit) {
  if (!begun_ || what != what_ || done < done_) Begin();
  what_ = what, done_ = done;
  if (done >= total) return EndProgressLine();
  if (!Due()) return;
  const double passed = out_.seconds() - start_;
  const double rate = static_cast<double>(done) / passed;
  const auto number = [](size_t n) { return Grouped(n); };
  Show({{what + ":", 3},
        {fmt::format("{} of {} {}", number(done), number(total), unit), 4},
        {fmt::format("{:.1f} {}/s", rate, unit), 1},
        {fmt::format("{} left", DurationText(static_cast<double>(total - done) / rate)), 2}});
}

void EndProgressLine() {
  if (line_open.exchange(false)) std::fputs("\r\033[K", stderr);
}

}  // namespace graft
