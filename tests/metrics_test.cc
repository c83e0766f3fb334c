// Values worked out by hand, and where there is nothing to divide by.
#include "data/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace graft::metrics_test {
namespace {

// rows[label][predicted]
ConfusionMatrix Matrix(const std::vector<std::vector<int>>& rows) {
  ConfusionMatrix m(static_cast<int64_t>(rows.size()));
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < rows.size(); ++j)
      for (int n = 0; n < rows[i][j]; ++n) m.Add(static_cast<int64_t>(i), static_cast<int64_t>(j));
  return m;
}

TEST(Metrics, TwoClasses) {
  // TN 50, FP 10, FN 5, TP 35.
  const ConfusionMatrix m = Matrix({{50, 10}, {5, 35}});
  EXPECT_EQ(m.total(), 100);
  EXPECT_EQ(m.count(1, 0), 5);
  EXPECT_DOUBLE_EQ(Accuracy(m), 0.85);
  EXPECT_DOUBLE_EQ(MeanClassAccuracy(m), (50.0 / 60 + 35.0 / 40) / 2);
  EXPECT_DOUBLE_EQ(F1(m, 1), 70.0 / 85);
  EXPECT_DOUBLE_EQ(F1(m, 0), 100.0 / 115);
  EXPECT_DOUBLE_EQ(MacroF1(m), (70.0 / 85 + 100.0 / 115) / 2);
  // (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN))
  EXPECT_DOUBLE_EQ(MatthewsCorrelation(m), (35.0 * 50 - 10 * 5) / std::sqrt(45.0 * 40 * 60 * 55));
}

TEST(Metrics, ThreeClasses) {
  const ConfusionMatrix m = Matrix({{4, 1, 0}, {2, 3, 1}, {0, 0, 5}});
  EXPECT_DOUBLE_EQ(Accuracy(m), 12.0 / 16);
  EXPECT_DOUBLE_EQ(MeanClassAccuracy(m), (0.8 + 0.5 + 1) / 3);
  EXPECT_DOUBLE_EQ(MacroF1(m), (8.0 / 11 + 6.0 / 10 + 10.0 / 11) / 3);
  // t = 5, 6, 5; p = 6, 4, 6: c s - sum t p = 192 - 84, s^2 - sum t^2 = 170, s^2 - sum p^2 = 168.
  EXPECT_DOUBLE_EQ(MatthewsCorrelation(m), 108 / std::sqrt(170.0 * 168));
}

TEST(Metrics, PerfectAndInverted) {
  EXPECT_DOUBLE_EQ(MatthewsCorrelation(Matrix({{3, 0}, {0, 4}})), 1);
  EXPECT_DOUBLE_EQ(MatthewsCorrelation(Matrix({{0, 3}, {4, 0}})), -1);
  EXPECT_EQ(MacroF1(Matrix({{0, 3}, {4, 0}})), 0);
}

TEST(Metrics, NothingToDivideBy) {
  const ConfusionMatrix none(3);
  for (double value : {Accuracy(none), MeanClassAccuracy(none), F1(none, 1), MacroF1(none),
                       MatthewsCorrelation(none)})
    EXPECT_EQ(value, 0);
  // There is no example and no prediction of class 1.
  const ConfusionMatrix one_class = Matrix({{7, 0}, {0, 0}});
  EXPECT_EQ(F1(one_class, 1), 0);
  EXPECT_EQ(MatthewsCorrelation(one_class), 0);
  EXPECT_EQ(Accuracy(one_class), 1);
  EXPECT_EQ(MeanClassAccuracy(one_class), 1);
  EXPECT_EQ(MacroF1(one_class), 1);  // class 1 does not occur
  // Class 0 is always predicted, so there is no positive prediction.
  const ConfusionMatrix constant = Matrix({{5, 0}, {5, 0}});
  EXPECT_EQ(F1(constant, 1), 0);
  EXPECT_EQ(MatthewsCorrelation(constant), 0);
  EXPECT_DOUBLE_EQ(MacroF1(constant), (2 * 5.0 / 15) / 2);
  // A class that is predicted, but is never a label, counts in the macro mean and not in the class
  // accuracy.
  EXPECT_DOUBLE_EQ(MacroF1(Matrix({{1, 1}, {0, 0}})), (2.0 / 3 + 0) / 2);
  EXPECT_DOUBLE_EQ(MeanClassAccuracy(Matrix({{1, 1}, {0, 0}})), 0.5);
}

TEST(Metrics, ManyClassesTakeNoSpace) {
  ConfusionMatrix m(100'000);
  m.Add(99'999, 99'999);
  m.Add(3, 99'999);
  EXPECT_EQ(m.cells().size(), 2u);
  EXPECT_DOUBLE_EQ(Accuracy(m), 0.5);
  EXPECT_DOUBLE_EQ(F1(m, 99'999), 2.0 / 3);
}

TEST(MetricsDeathTest, ClassOutsideOfTheMatrix) {
  ConfusionMatrix m(2);
  EXPECT_DEATH(m.Add(0, 2), "predicted 2, 2 classes");
}

}  // namespace
}  // namespace graft::metrics_test
