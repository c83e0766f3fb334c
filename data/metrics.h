// Measures of a classification, from its confusion matrix. Where a quotient has nothing to divide
// by, the measure is 0, as in scikit-learn.
#pragma once
#include <cstdint>
#include <map>
#include <utility>

namespace graft {

// How often examples of a class were predicted as which class.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int64_t classes) : classes_(classes) {}
  // REQUIRES: both are in [0, classes).
  void Add(int64_t label, int64_t predicted);

  int64_t classes() const { return classes_; }
  int64_t total() const { return total_; }
  int64_t count(int64_t label, int64_t predicted) const;
  // The cells that are not 0, by (label, predicted), as a matrix of many classes is mostly empty.
  const std::map<std::pair<int64_t, int64_t>, int64_t>& cells() const { return cells_; }

 private:
  int64_t classes_, total_ = 0;
  std::map<std::pair<int64_t, int64_t>, int64_t> cells_;
};

// The share of right predictions.
double Accuracy(const ConfusionMatrix& m);
// The mean, over the classes that have examples, of their share of right predictions.
double MeanClassAccuracy(const ConfusionMatrix& m);
// 2 TP / (2 TP + FP + FN) of one class.
double F1(const ConfusionMatrix& m, int64_t positive);
// The mean of F1 over the classes that are a label or a prediction of some example.
double MacroF1(const ConfusionMatrix& m);
// Gorodkin's R_K, for two classes the Matthews correlation. With s examples, c of them right, and
// t_k labels and p_k predictions of class k:
//   (c s - sum t_k p_k) / sqrt((s^2 - sum t_k^2) (s^2 - sum p_k^2))
double MatthewsCorrelation(const ConfusionMatrix& m);

}  // namespace graft
