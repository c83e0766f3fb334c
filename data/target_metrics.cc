#include "data/target_metrics.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "runtime/error.h"

namespace graft {
namespace {

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

double Mean(std::span<const double> x) {
  return Ratio(std::accumulate(x.begin(), x.end(), 0.0), static_cast<double>(x.size()));
}

std::vector<double> ToDoubles(std::span<const float> x) { return {x.begin(), x.end()}; }

// Column k of rows with so many columns.
std::vector<float> ColumnOf(std::span<const float> rows, size_t columns, size_t k) {
  std::vector<float> column;
  column.reserve(rows.size() / columns);
  for (size_t i = k; i < rows.size(); i += columns) column.push_back(rows[i]);
  return column;
}

// The indices in the order of the values; equal values keep their own order.
template <class Before>
std::vector<size_t> Sorted(size_t n, const Before& before) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), before);
  return order;
}

LabelMeasures MeasureLabel(std::span<const float> targets, std::span<const float> logits) {
  LabelMeasures m;
  const auto positive = std::make_unique<bool[]>(targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    positive[i] = targets[i] >= 0.5f;
    const bool predicted = logits[i] > 0;
    m.n += positive[i], m.predicted += predicted, m.right += positive[i] && predicted;
  }
  const auto right = static_cast<double>(m.right);
  m.precision = Ratio(right, static_cast<double>(m.predicted));
  m.recall = Ratio(right, static_cast<double>(m.n));
  m.f1 = Ratio(2 * right, static_cast<double>(m.n + m.predicted));
  m.average_precision = AveragePrecision(logits, {positive.get(), targets.size()});
  return m;
}

}  // namespace

double Pearson(std::span<const double> x, std::span<const double> y) {
  GRAFT_CHECK(x.size() == y.size(), "{} and {} values", x.size(), y.size());
  const double mx = Mean(x), my = Mean(y);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx), yy += (y[i] - my) * (y[i] - my);
    xy += (x[i] - mx) * (y[i] - my);
  }
  return std::clamp(Ratio(xy, std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

std::vector<double> AverageRanks(std::span<const float> values) {
  const std::vector<size_t> order =
      Sorted(values.size(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin; end < order.size() && values[order[end]] == values[order[begin]];) ++end;
    const double rank = 0.5 * static_cast<double>(begin + 1 + end);
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = rank;
  }
  return ranks;
}

ColumnMeasures MeasureColumn(std::span<const float> targets, std::span<const float> predictions) {
  const std::vector<double> y = ToDoubles(targets), p = ToDoubles(predictions);
  const double mean = Mean(y), n = static_cast<double>(y.size());
  double squares = 0, absolute = 0, spread = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    squares += (y[i] - p[i]) * (y[i] - p[i]), absolute += std::abs(y[i] - p[i]);
    spread += (y[i] - mean) * (y[i] - mean);
  }
  const double r2 = spread > 0 ? 1 - squares / spread : squares == 0 && n > 0 ? 1 : 0;
  return {Ratio(squares, n), Ratio(absolute, n), r2, Pearson(y, p),
          Pearson(AverageRanks(targets), AverageRanks(predictions))};
}

RegressionMeasures MeasureRegression(std::span<const float> targets,
                                     std::span<const float> predictions, size_t columns) {
  RegressionMeasures m;
  const double share = 1 / static_cast<double>(std::max<size_t>(columns, 1));
  for (size_t k = 0; k < columns; ++k) {
    const ColumnMeasures c =
        MeasureColumn(ColumnOf(targets, columns, k), ColumnOf(predictions, columns, k));
    m.columns.push_back(c);
    m.mean.mse += share * c.mse, m.mean.mae += share * c.mae, m.mean.r2 += share * c.r2;
    m.mean.pearson += share * c.pearson, m.mean.spearman += share * c.spearman;
  }
  return m;
}

double AveragePrecision(std::span<const float> scores, std::span<const bool> positive) {
  const std::vector<size_t> order =
      Sorted(scores.size(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  const double all = static_cast<double>(std::ranges::count(positive, true));
  double right = 0, recall = 0, sum = 0;
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end)
      right += positive[order[end]];
    const double now = Ratio(right, all);
    sum += (now - recall) * right / static_cast<double>(end);
    recall = now;
  }
  return sum;
}

MultiLabelMeasures MeasureLabels(std::span<const float> targets, std::span<const float> logits,
                                 size_t classes) {
  MultiLabelMeasures m;
  double right = 0, either = 0;
  const double share = 1 / static_cast<double>(std::max<size_t>(classes, 1));
  for (size_t k = 0; k < classes; ++k) {
    const LabelMeasures c =
        MeasureLabel(ColumnOf(targets, classes, k), ColumnOf(logits, classes, k));
    m.labels.push_back(c);
    right += static_cast<double>(c.right), either += static_cast<double>(c.n + c.predicted);
    m.macro_f1 += share * c.f1, m.map += share * c.average_precision;
  }
  m.micro_f1 = Ratio(2 * right, either);
  size_t whole = 0;
  for (size_t i = 0; i < targets.size(); i += classes) {
    bool equal = true;
    for (size_t k = i; k < i + classes; ++k) equal &= (targets[k] >= 0.5f) == (logits[k] > 0);
    whole += equal;
  }
  m.subset_accuracy =
      Ratio(static_cast<double>(whole * classes), static_cast<double>(targets.size()));
  return m;
}

}  // namespace graft
