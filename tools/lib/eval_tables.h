// Tables of an evaluation: each class, which class is taken for which, and the examples that went
// wrong.
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "train/evaluator.h"

namespace graft {

struct ClassMeasures {
  int64_t label = 0, n = 0;  // examples of the class
  double precision = 0, recall = 0, f1 = 0;
};
// The measures of every class that is the label or the prediction of some example, as in
// scikit-learn's precision_recall_fscore_support with zero_division = 0.
std::vector<ClassMeasures> MeasureClasses(const ConfusionMatrix& m);
nlohmann::json ClassesJson(const ConfusionMatrix& m, const std::vector<std::string>& labels);

// A table with a line for each class; of many classes those with the smallest F1.
std::string ClassTable(const ConfusionMatrix& m, const std::vector<std::string>& labels,
                       const std::string& indent);
// With few classes the whole matrix, with a row for each label and a column for each prediction;
// with many what is taken for what most often. "" if everything is right.
std::string ConfusionText(const ConfusionMatrix& m, const std::vector<std::string>& labels,
                          const std::string& indent);

// An example whose prediction is not its label.
struct WrongExample {
  size_t example = 0;
  int64_t label = 0, predicted = 0;
  double probability = 0;  // of the prediction
};
// Finds the prediction for logits [K], ties by index, and its probability.
WrongExample Judge(size_t example, int64_t label, std::span<const float> logits);
// CSV with example, label, predicted, probability. `names` are those of all examples.
std::string ErrorsCsv(const std::vector<WrongExample>& wrong, const std::vector<std::string>& names,
                      const std::vector<std::string>& labels);

}  // namespace graft
