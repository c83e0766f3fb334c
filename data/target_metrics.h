// Measures of a regression and of predictions of several labels at once, as scikit-learn and scipy
// define them. Where a quotient has nothing to divide by, the measure is 0.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace graft {

// --- regression: of one column

struct ColumnMeasures {
  double mse = 0, mae = 0;  // mean squared and mean absolute error
  double r2 = 0;  // 1 - sum (y - p)^2 / sum (y - mean y)^2; of constant y: 1 if p = y, else 0
  double pearson = 0, spearman = 0;
};
// Measures one column from the targets and predictions of the examples, of which there are equally
// many.
ColumnMeasures MeasureColumn(std::span<const float> targets, std::span<const float> predictions);

// Pearson's correlation; 0 if one of them is constant.
double Pearson(std::span<const double> x, std::span<const double> y);
// Ranks from 1; equal values share the mean of their ranks (scipy's rankdata). REQUIRES: there is
// no NaN.
std::vector<double> AverageRanks(std::span<const float> values);

struct RegressionMeasures {
  std::vector<ColumnMeasures> columns;
  ColumnMeasures mean;  // of each measure over the columns
};
// Targets and predictions are [n, columns], row by row.
RegressionMeasures MeasureRegression(std::span<const float> targets,
                                     std::span<const float> predictions, size_t columns);

// --- several labels at once: a class is predicted where its logit is above 0

struct LabelMeasures {
  int64_t n = 0, predicted = 0, right = 0;  // examples with the label; predictions; both
  double precision = 0, recall = 0, f1 = 0;
  double average_precision = 0;
};

// sum_n (R_n - R_(n-1)) P_n over the thresholds n from the highest score on, with precision P and
// recall R of the scores at or above it (scikit-learn's average_precision_score); 0 without a
// positive. REQUIRES: there is no NaN.
double AveragePrecision(std::span<const float> scores, std::span<const bool> positive);

struct MultiLabelMeasures {
  std::vector<LabelMeasures> labels;  // of every class
  double micro_f1 = 0;                // 2 TP / (2 TP + FP + FN) over all classes together
  double macro_f1 = 0, map = 0;       // means over all classes
  double subset_accuracy = 0;         // share of examples with every class right
};
// Targets (a label is set where it is at least 0.5) and logits are [n, classes], row by row.
MultiLabelMeasures MeasureLabels(std::span<const float> targets, std::span<const float> logits,
                                 size_t classes);

}  // namespace graft
