#include "tools/reports/suite_matrix.h"

#include <algorithm>

namespace graft {
namespace {

// The rank, which is 1 for the best; equal values share the mean of their ranks.
double RankIn(const std::vector<double>& column, size_t row) {
  double above = 0, equal = 0;
  for (size_t i = 0; i < column.size(); ++i)
    above += column[i] > column[row], equal += i != row && column[i] == column[row];
  return 1 + above + equal / 2;
}

}  // namespace

SuiteMatrix MatrixOf(const SuiteInfo& info, const std::vector<UnitRow>& units) {
  SuiteMatrix m;
  m.cells = Cells(info.kind, units);
  m.rows = RowsOf(m.cells), m.columns = ColumnsOf(info, m.cells);
  if (info.kind == "vtab") m.scores = VtabScores(m.cells);
  m.means.assign(m.rows.size(), 0), m.ranks.assign(m.rows.size(), 0);
  size_t counted = 0;
  for (size_t column = 0; column < m.columns.size(); ++column) {
    const auto extra = [&](const ScoreCell& c) {
      return c.task == m.columns[column].task && c.group == "extra";
    };
    if (std::ranges::any_of(m.cells, extra)) continue;  // in the table and in no mean
    ++counted;
    std::vector<double> all;
    for (size_t row = 0; row < m.rows.size(); ++row) all.push_back(m.Mean(row, column));
    const bool complete = std::ranges::none_of(all, [](double x) { return std::isnan(x); });
    m.ranked += complete;
    for (size_t row = 0; row < m.rows.size(); ++row) {
      m.means[row] += all[row];
      if (complete) m.ranks[row] += RankIn(all, row);
    }
  }
  m.counted = counted;
  for (double& mean : m.means) mean /= static_cast<double>(counted);
  for (double& rank : m.ranks) rank = m.ranked ? rank / static_cast<double>(m.ranked) : NAN;
  return m;
}

bool SuiteMatrix::Marked(size_t row) const {
  return std::ranges::any_of(cells, [&](const ScoreCell& c) {
    return c.chosen_on_test && c.method == rows[row].method && c.options == rows[row].options;
  });
}

int64_t Parameters(const SuiteMatrix& m, size_t row) {
  int64_t most = 0;
  for (size_t column = 0; column < m.columns.size(); ++column)
    if (const ScoreCell* cell = m.At(row, column))
      most = std::max(most, cell->trainable_parameters);
  return most;
}

const VtabScore* ScoreOf(const SuiteMatrix& m, size_t row) {
  const auto at = std::ranges::find(m.scores, m.rows[row].method, &VtabScore::method);
  return at == m.scores.end() ? nullptr : &*at;
}

double Judged(const SuiteMatrix& m, size_t row) {
  const VtabScore* score = ScoreOf(m, row);
  return score && !std::isnan(score->score) ? score->score : m.means[row];
}

double SpreadOfJudged(const SuiteMatrix& m, size_t row) {
  const VtabScore* score = ScoreOf(m, row);
  if (score && !std::isnan(score->score)) return score->spread;
  const ScoreCell* cell = m.columns.size() == 1 ? m.At(row, 0) : nullptr;
  return cell ? cell->spread : NAN;
}

}  // namespace graft
