// Measures of regressions and of several labels at once, against scikit-learn and scipy, and where
// there is nothing to divide by.
#include "data/target_metrics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/test_util.h"

namespace graft::target_metrics_test {
namespace {

using nlohmann::json;

json Cases() {
  std::ifstream file(kFixtures + "target_metrics.json");
  return json::parse(file);
}

void ExpectColumn(const ColumnMeasures& found, const json& expected) {
  EXPECT_NEAR(found.mse, expected["mse"].get<double>(), 1e-9);
  EXPECT_NEAR(found.mae, expected["mae"].get<double>(), 1e-9);
  EXPECT_NEAR(found.r2, expected["r2"].get<double>(), 1e-9);
  EXPECT_NEAR(found.pearson, expected["pearson"].get<double>(), 1e-9);
  EXPECT_NEAR(found.spearman, expected["spearman"].get<double>(), 1e-9);
}

TEST(TargetMetrics, RegressionsAreThoseOfScikitLearnAndScipy) {
  int cases = 0;
  for (const json& c : Cases()) {
    if (c["kind"] != "regression") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto targets = c["targets"].get<std::vector<float>>(),
               predictions = c["predictions"].get<std::vector<float>>();
    const size_t columns = c["columns"];
    const RegressionMeasures m = MeasureRegression(targets, predictions, columns);
    ASSERT_EQ(m.columns.size(), columns);
    double pearson = 0;
    for (size_t k = 0; k < columns; ++k) {
      ExpectColumn(m.columns[k], c["measures"][k]);
      pearson += m.columns[k].pearson / static_cast<double>(columns);
    }
    EXPECT_NEAR(m.mean.mse, c["mean"]["mse"].get<double>(), 1e-9);
    EXPECT_NEAR(m.mean.mae, c["mean"]["mae"].get<double>(), 1e-9);
    EXPECT_NEAR(m.mean.r2, c["mean"]["r2"].get<double>(), 1e-9);
    EXPECT_NEAR(m.mean.pearson, pearson, 1e-12);
    ++cases;
  }
  EXPECT_EQ(cases, 3);
}

TEST(TargetMetrics, SeveralLabelsAreThoseOfScikitLearn) {
  int cases = 0;
  for (const json& c : Cases()) {
    if (c["kind"] != "labels") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    const size_t classes = c["classes"];
    const MultiLabelMeasures m = MeasureLabels(c["targets"].get<std::vector<float>>(),
                                               c["logits"].get<std::vector<float>>(), classes);
    ASSERT_EQ(m.labels.size(), classes);
    for (size_t k = 0; k < classes; ++k) {
      EXPECT_EQ(m.labels[k].n, c["n"][k].get<int64_t>());
      EXPECT_NEAR(m.labels[k].precision, c["precision"][k].get<double>(), 1e-12);
      EXPECT_NEAR(m.labels[k].recall, c["recall"][k].get<double>(), 1e-12);
      EXPECT_NEAR(m.labels[k].f1, c["f1"][k].get<double>(), 1e-12);
      EXPECT_NEAR(m.labels[k].average_precision, c["average_precision"][k].get<double>(), 1e-12);
    }
    EXPECT_NEAR(m.map, c["map"].get<double>(), 1e-12);
    EXPECT_NEAR(m.micro_f1, c["micro_f1"].get<double>(), 1e-12);
    EXPECT_NEAR(m.macro_f1, c["macro_f1"].get<double>(), 1e-12);
    EXPECT_NEAR(m.subset_accuracy, c["subset_accuracy"].get<double>(), 1e-12);
    ++cases;
  }
  EXPECT_EQ(cases, 3);
}

TEST(TargetMetrics, NothingToDivideBy) {
  const ColumnMeasures none = MeasureColumn({}, {});
  for (const double value : {none.mse, none.mae, none.r2, none.pearson, none.spearman})
    EXPECT_EQ(value, 0);
  // Constant targets: right, and wrong (scikit-learn's r2_score gives 1 and 0).
  const float two[] = {2, 2, 2}, other[] = {1, 2, 3};
  EXPECT_EQ(MeasureColumn(two, two).r2, 1);
  EXPECT_EQ(MeasureColumn(two, other).r2, 0);
  EXPECT_EQ(MeasureColumn(two, other).pearson, 0);
  EXPECT_EQ(MeasureColumn(other, two).spearman, 0);
  EXPECT_EQ(MeasureLabels({}, {}, 3).map, 0);
  EXPECT_EQ(MeasureLabels({}, {}, 3).subset_accuracy, 0);
}

TEST(TargetMetrics, EqualValuesShareTheirRanks) {
  const float values[] = {3, 1, 3, 2, 3};
  EXPECT_EQ(AverageRanks(values), (std::vector<double>{4, 1, 4, 2, 4}));
}

}  // namespace
}  // namespace graft::target_metrics_test
