#include "tools/lib/target_tables.h"

#include <algorithm>
#include <cmath>

#include "tools/lib/report.h"
#include "tools/lib/run_table.h"
#include "train/task_metrics.h"

namespace graft {
namespace {

constexpr size_t kMostTargets = 30;

std::string ColumnsTable(const RegressionMeasures& m, const std::vector<std::string>& labels,
                         const std::string& indent) {
  TextTable table({1, 2, 3, 4, 5});
  table.Add({"column", "MSE", "MAE", "R2", "Pearson", "Spearman"});
  for (size_t k = 0; k < std::min(kMostTargets, m.columns.size()); ++k) {
    const ColumnMeasures& c = m.columns[k];
    table.Add({labels[k], MeasureText(c.mse), MeasureText(c.mae), MeasureText(c.r2),
               MeasureText(c.pearson), MeasureText(c.spearman)});
  }
  std::string text = table.Lines(indent);
  if (m.columns.size() > kMostTargets)
    text += fmt::format("\n{}the first {} of {} columns; all are in --json", indent, kMostTargets,
                        m.columns.size());
  return text;
}

std::string LabelsTable(const MultiLabelMeasures& m, const std::vector<std::string>& labels,
                        const std::string& indent) {
  std::vector<size_t> order(m.labels.size());
  for (size_t k = 0; k < order.size(); ++k) order[k] = k;
  if (order.size() > kMostTargets) {
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return m.labels[a].average_precision < m.labels[b].average_precision;
    });
    order.resize(kMostTargets);
  }
  TextTable table({1, 2, 3, 4, 5, 6});
  table.Add({"class", "n", "predicted", "precision", "recall", "F1", "average precision"});
  for (const size_t k : order) {
    const LabelMeasures& c = m.labels[k];
    table.Add({labels[k], Grouped(c.n), Grouped(c.predicted), Percent(c.precision),
               Percent(c.recall), Percent(c.f1), Percent(c.average_precision)});
  }
  std::string text = table.Lines(indent);
  if (m.labels.size() > kMostTargets)
    text += fmt::format("\n{}the worst {} of {} classes; all are in --json", indent, kMostTargets,
                        m.labels.size());
  return text;
}

std::string JoinAbove(std::span<const float> values, float above,
                      const std::vector<std::string>& labels) {
  std::string text;
  for (size_t k = 0; k < values.size(); ++k)
    if (values[k] > above) text += (text.empty() ? "" : "|") + labels[k];
  return text;
}

}  // namespace

nlohmann::json TargetsJson(const std::string& task, const Metrics& m,
                           const std::vector<std::string>& labels) {
  nlohmann::json json{{"task", task}, {"n", m.n}, {"seconds", m.seconds}};
  for (const MetricInfo& metric : MetricsOf(task)) json[metric.name] = metric.value(m);
  nlohmann::json each = nlohmann::json::array();
  for (size_t k = 0; k < m.regression.columns.size(); ++k) {
    const ColumnMeasures& c = m.regression.columns[k];
    each.push_back({{"name", labels[k]},
                    {"mse", c.mse},
                    {"mae", c.mae},
                    {"r2", c.r2},
                    {"pearson", c.pearson},
                    {"spearman", c.spearman}});
  }
  for (size_t k = 0; k < m.multi_label.labels.size(); ++k) {
    const LabelMeasures& c = m.multi_label.labels[k];
    each.push_back({{"class", k},
                    {"name", labels[k]},
                    {"n", c.n},
                    {"precision", c.precision},
                    {"recall", c.recall},
                    {"f1", c.f1},
                    {"average_precision", c.average_precision}});
  }
  json[task == kRegression ? "per_column" : "per_class"] = each;
  return json;
}

std::string MeasuresText(const std::string& task, const Metrics& m, const std::string& unit) {
  TextTable table({1});
  for (const MetricInfo& metric : MetricsOf(task)) {
    const double value = metric.value(m);
    table.Add({metric.title, metric.share ? Percent(value) : MeasureText(value)});
  }
  const double per_second = static_cast<double>(m.n) / std::max(m.seconds, 1e-9);
  table.Add({fmt::format("{}/s", unit), fmt::format("{:.1f}", per_second)});
  return table.Lines("  ");
}

std::string TargetsTable(const std::string& task, const Metrics& m,
                         const std::vector<std::string>& labels, const std::string& indent) {
  return task == kRegression ? ColumnsTable(m.regression, labels, indent)
                             : LabelsTable(m.multi_label, labels, indent);
}

void TargetErrors::Add(size_t example, std::span<const float> logits) {
  const std::span<const float> targets = data_.targets(example);
  double error = 0;
  for (size_t k = 0; k < logits.size(); ++k)
    error += task_ == kRegression ? std::abs(static_cast<double>(logits[k]) - targets[k])
                                  : (logits[k] > 0) != (targets[k] >= 0.5f);
  if (task_ != kRegression && error == 0) return;
  wrong_.push_back(
      {example, error / static_cast<double>(logits.size()), {logits.begin(), logits.end()}});
}

std::string TargetErrors::Csv(const std::vector<std::string>& names,
                              const std::vector<std::string>& labels) const {
  std::string text = "example,labels,predicted\n";
  if (task_ != kRegression) {
    for (const Wrong& w : wrong_)
      text += fmt::format("{},{},{}\n", CsvField(names[w.example]),
                          CsvField(JoinAbove(data_.targets(w.example), 0.5f, labels)),
                          CsvField(JoinAbove(w.logits, 0, labels)));
    return text;
  }
  text = "example,error";
  for (const std::string& label : labels)
    text += fmt::format(",{},{}", CsvField(label), CsvField(label + "_predicted"));
  text += "\n";
  std::vector<const Wrong*> order;
  for (const Wrong& w : wrong_) order.push_back(&w);
  std::ranges::stable_sort(order,
                           [](const Wrong* a, const Wrong* b) { return a->error > b->error; });
  for (const Wrong* w : order) {
    text += fmt::format("{},{:.7g}", CsvField(names[w->example]), w->error);
    for (size_t k = 0; k < labels.size(); ++k)
      text += fmt::format(",{:.7g},{:.7g}", data_.targets(w->example)[k], w->logits[k]);
    text += "\n";
  }
  return text;
}

}  // namespace graft
