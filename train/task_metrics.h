// What is measured of each task: names, which way is better, and how people read them.
#pragma once
#include <string>
#include <vector>

#include "train/evaluator.h"

namespace graft {

struct MetricInfo {
  const char* name;   // of --best-metric, and behind val_ in metrics.jsonl
  const char* title;  // for people
  bool smaller;       // is better
  bool share;         // of 1, shown in percent
  double (*value)(const Metrics&);
};

// The measures of a task (models/task.h). The first one says which epoch is the best, unless
// --best-metric names another.
const std::vector<MetricInfo>& MetricsOf(const std::string& task);
inline std::string DefaultMetric(const std::string& task) { return MetricsOf(task)[0].name; }
// How a metric of any task is read: a name means the same in all of them.
bool SmallerIsBetter(const std::string& metric);
bool IsShare(const std::string& metric);
// Returns null for a name that the task does not have.
const MetricInfo* FindMetric(const std::string& task, const std::string& name);

}  // namespace graft
