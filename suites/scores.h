// Computes means and spreads over seeds from the units of a ledger, and the score of VTAB-1k.
#pragma once
#include "suites/ledger.h"

namespace graft {

// What the mark * of a number says.
inline constexpr const char* kChosenOnTest =
    "options were chosen on the test examples; the number is too good";

// All final units that differ only in their seed.
struct ScoreCell {
  std::string task, group, method, metric;
  // `options` are those that make another row of the table: shots, and what an ablation varies.
  // `chosen` are those that --select has chosen, which may differ from task to task.
  nlohmann::json options = nlohmann::json::object(), chosen = nlohmann::json::object();
  std::map<int64_t, double> scores;  // by seed, of units that are done
  size_t units = 0, failed = 0;      // units - failed - scores.size(): not finished
  double mean = NAN, spread = NAN;   // spread: of the sample, n - 1; NaN of a single one
  int64_t trainable_parameters = 0;
  double seconds = 0;  // mean of a unit
  int64_t peak_bytes = 0;
  bool chosen_on_test = false;
  nlohmann::json targets = nlohmann::json::array();  // of domain shift: means over seeds, and
                                                     // spreads as KEY_spread
};
// What --select has chosen for a task and a method; seeds that agree are together.
struct ChosenOptions {
  std::string task, method;
  nlohmann::json options;
  std::vector<int64_t> seeds;
};
std::vector<ChosenOptions> ChosenIn(const std::string& kind, const std::vector<UnitRow>& units);

// What decides where a unit stands in the tables: of two units with the same place one is the
// other's successor.
std::string PlaceOf(const std::string& kind, const UnitRow& unit);

// The cells in the order in which tasks, methods and options occur in the ledger.
std::vector<ScoreCell> Cells(const std::string& kind, const std::vector<UnitRow>& units);

// A figure of one of ScoreCell::targets; NaN where there is none.
struct ShareOf {
  double mean = NAN, spread = NAN;
};
ShareOf TargetShare(const nlohmann::json& target, const std::string& key);

// The mean of values and the standard deviation of the sample. Without values both are NaN; the
// deviation of one value is, too.
std::pair<double, double> MeanAndSpread(const std::vector<double>& values);

// The score of one method: the mean of the means of three groups, and what it is made of.
struct VtabScore {
  std::string method;
  std::map<std::string, double> groups;  // means of the tasks that are there; a missing one is NaN
  double score = NAN;                    // mean of the three group means; NaN if one is missing
  double spread = NAN;                   // over those seeds that have all tasks
  double mean = NAN;                     // plain mean of all tasks of the 19 that are there
  size_t tasks = 0;                      // of the 19
  std::vector<std::string> missing_groups;
  bool chosen_on_test = false;
};
std::vector<VtabScore> VtabScores(const std::vector<ScoreCell>& cells);

nlohmann::json ToJson(const ScoreCell& cell);
nlohmann::json ToJson(const VtabScore& score);

}  // namespace graft
