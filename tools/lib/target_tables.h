// Tables of an evaluation of a regression or of several labels at once; eval_tables.h has those of
// classes.
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "train/evaluator.h"

namespace graft {

// Returns n, loss, seconds and the measures of the task (task_metrics.h) by their names; of a
// regression also per_column [{name, mse, mae, r2, pearson, spearman}], of several labels per_class
// [{class, name, n, precision, recall, f1, average_precision}].
nlohmann::json TargetsJson(const std::string& task, const Metrics& m,
                           const std::vector<std::string>& labels);

// The measures of all, and a line for each column or class; of many classes those with the smallest
// average precision.
std::string MeasuresText(const std::string& task, const Metrics& m, const std::string& unit);
std::string TargetsTable(const std::string& task, const Metrics& m,
                         const std::vector<std::string>& labels, const std::string& indent);

// Collects what went wrong, for a CSV file.
class TargetErrors {
 public:
  TargetErrors(std::string task, const BatchSource& data) : task_(std::move(task)), data_(data) {}
  // Keeps an example: of a regression every one, of several labels those that are not all right.
  void Add(size_t example, std::span<const float> logits);
  size_t count() const { return wrong_.size(); }
  // For a regression: example, error (the mean absolute error over the columns), and for each
  // column NAME and NAME_predicted, with the largest error first. For several labels: example,
  // labels, predicted, the latter two joined by '|'. `names` are those of all examples.
  std::string Csv(const std::vector<std::string>& names,
                  const std::vector<std::string>& labels) const;

 private:
  struct Wrong {
    size_t example;
    double error;
    std::vector<float> logits;
  };
  std::string task_;
  const BatchSource& data_;
  std::vector<Wrong> wrong_;
};

}  // namespace graft
