// The contents of a table of methods and tasks, in whatever form it is printed.
#pragma once
#include "suites/table.h"

namespace graft {

struct SuiteMatrix {
  std::vector<ScoreCell> cells;
  std::vector<TableRow> rows;
  std::vector<TableColumn> columns;
  std::vector<VtabScore> scores;  // of vtab
  // By row: the mean over the tasks, NaN if one has no number; and the mean rank over those tasks
  // for which every row has a number, NaN if there are none. Extra tasks of vtab are in neither.
  std::vector<double> means, ranks;
  size_t counted = 0, ranked = 0;  // tasks of the means and of the ranks

  const ScoreCell* At(size_t row, size_t column) const {
    return FindCell(cells, rows[row], columns[column].task);
  }
  // Whether a number of the row depends on what was chosen on test examples.
  bool Marked(size_t row) const;
  double Mean(size_t row, size_t column) const {
    const ScoreCell* cell = At(row, column);
    return cell ? cell->mean : NAN;
  }
};
SuiteMatrix MatrixOf(const SuiteInfo& info, const std::vector<UnitRow>& units);

// The largest number of parameters that a row trains on any task; 0 if it is not known.
int64_t Parameters(const SuiteMatrix& m, size_t row);
// Returns null for all suites but vtab.
const VtabScore* ScoreOf(const SuiteMatrix& m, size_t row);
// What a row is judged by, and its spread over the seeds if that is known: the score of VTAB if
// there is one, else the mean over the tasks.
double Judged(const SuiteMatrix& m, size_t row);
double SpreadOfJudged(const SuiteMatrix& m, size_t row);

}  // namespace graft
