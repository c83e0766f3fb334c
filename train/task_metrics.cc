#include "train/task_metrics.h"

#include <algorithm>

#include "models/task.h"
#include "train/run_config.h"

namespace graft {
namespace {

double OfLoss(const Metrics& m) { return m.loss; }

const std::vector<MetricInfo> kOfClasses{
    {"accuracy", "accuracy", false, true, [](const Metrics& m) { return m.accuracy; }},
    {"loss", "loss", true, false, OfLoss},
    {"macro_f1", "macro F1", false, true, [](const Metrics& m) { return m.macro_f1; }},
    {"mean_class_accuracy", "mean class accuracy", false, true,
     [](const Metrics& m) { return m.mean_class_accuracy; }},
    {"matthews", "Matthews correlation", false, false,
     [](const Metrics& m) { return m.matthews; }}};

const std::vector<MetricInfo> kOfNumbers{
    {"mse", "mean squared error", true, false,
     [](const Metrics& m) { return m.regression.mean.mse; }},
    {"mae", "mean absolute error", true, false,
     [](const Metrics& m) { return m.regression.mean.mae; }},
    {"r2", "R2", false, false, [](const Metrics& m) { return m.regression.mean.r2; }},
    {"pearson", "Pearson correlation", false, false,
     [](const Metrics& m) { return m.regression.mean.pearson; }},
    {"spearman", "Spearman correlation", false, false,
     [](const Metrics& m) { return m.regression.mean.spearman; }},
    {"loss", "loss", true, false, OfLoss}};

const std::vector<MetricInfo> kOfSeveralLabels{
    {"map", "mean average precision", false, true,
     [](const Metrics& m) { return m.multi_label.map; }},
    {"micro_f1", "micro F1", false, true, [](const Metrics& m) { return m.multi_label.micro_f1; }},
    {"macro_f1", "macro F1", false, true, [](const Metrics& m) { return m.multi_label.macro_f1; }},
    {"subset_accuracy", "subset accuracy", false, true,
     [](const Metrics& m) { return m.multi_label.subset_accuracy; }},
    {"loss", "loss", true, false, OfLoss}};

}  // namespace

const std::vector<MetricInfo>& MetricsOf(const std::string& task) {
  return task == kRegression ? kOfNumbers : task == kMultiLabel ? kOfSeveralLabels : kOfClasses;
}

const MetricInfo* FindMetric(const std::string& task, const std::string& name) {
  const std::vector<MetricInfo>& all = MetricsOf(task);
  const auto found = std::ranges::find_if(all, [&](const MetricInfo& m) { return name == m.name; });
  return found == all.end() ? nullptr : &*found;
}

namespace {

const MetricInfo* OfAnyTask(const std::string& name) {
  for (const std::string& task : TaskNames())
    if (const MetricInfo* found = FindMetric(task, name)) return found;
  return nullptr;
}

}  // namespace

bool SmallerIsBetter(const std::string& metric) {
  const MetricInfo* found = OfAnyTask(metric);
  return found && found->smaller;
}

bool IsShare(const std::string& metric) {
  const MetricInfo* found = OfAnyTask(metric);
  return !found || found->share;
}

const std::vector<std::string>& MetricNames() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const std::string& task : TaskNames())
      for (const MetricInfo& m : MetricsOf(task))
        if (std::ranges::find(names, m.name) == names.end()) names.emplace_back(m.name);
    return names;
  }();
  return kNames;
}

}  // namespace graft
