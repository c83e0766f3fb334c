// Shows how far a long piece of work is: on a terminal by one line that is written over and no
// wider than the terminal, elsewhere by a line every 30 s. Work of less than two seconds shows
// nothing.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tools/lib/options.h"

namespace graft {

// Where the line goes; tests have their own.
struct MeterOutput {
  bool terminal = false;
  std::function<int()> columns;     // of the terminal, now
  std::function<double()> seconds;  // a clock
  std::function<void(const std::string&)> write;
};
// The meter on standard error.
MeterOutput StandardMeter();

// A part of a line. Where the line is too narrow, the part of the least worth goes first.
struct LinePart {
  std::string text;
  int worth = 0;
};
// Joins the parts with two blanks, within `columns` columns: parts are left out, and at last the
// line is cut.
std::string FitLine(std::vector<LinePart> parts, size_t columns);

class ProgressMeter {
 public:
  explicit ProgressMeter(MeterOutput output) : out_(std::move(output)) {}

  // Says that another piece of work begins now.
  void Begin();
  // Whether a line is due; if not, none needs to be made.
  bool Due() const;
  void Show(std::vector<LinePart> parts);
  // Shows "WHAT: DONE of TOTAL UNIT, N UNIT/s, TIME left" if a line is due. Work of another name,
  // or with less done than before, is another piece.
  void Work(const std::string& what, size_t done, size_t total, const char* unit);

 private:
  MeterOutput out_;
  std::string what_;
  size_t done_ = 0;
  double start_ = 0, last_ = -1e9;
  bool begun_ = false;
};

// Ends the meter's line on the terminal, if there is one; must come before anything else is
// written.
void EndProgressLine();

std::string DurationText(double seconds);  // "1m20s"

}  // namespace graft
