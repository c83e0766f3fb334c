#include "data/metrics.h"

#include <cmath>

#include "runtime/error.h"

namespace graft {
namespace {

struct ClassTally {
  double labels = 0, predictions = 0, right = 0;
};

// Counts the classes that occur.
std::map<int64_t, ClassTally> CountClasses(const ConfusionMatrix& m) {
  std::map<int64_t, ClassTally> counts;
  for (const auto& [cell, n] : m.cells()) {
    const double times = static_cast<double>(n);
    counts[cell.first].labels += times;
    counts[cell.second].predictions += times;
    if (cell.first == cell.second) counts[cell.first].right += times;
  }
  return counts;
}

double Quotient(double a, double b) { return b > 0 ? a / b : 0; }

double F1(const ClassTally& c) { return Quotient(2 * c.right, c.labels + c.predictions); }

}  // namespace

void ConfusionMatrix::Add(int64_t label, int64_t predicted) {
  GRAFT_CHECK(label >= 0 && label < classes_ && predicted >= 0 && predicted < classes_,
              "label {}, predicted {}, {} classes", label, predicted, classes_);
  ++cells_[{label, predicted}];
  ++total_;
}

int64_t ConfusionMatrix::count(int64_t label, int64_t predicted) const {
  const auto it = cells_.find({label, predicted});
  return it == cells_.end() ? 0 : it->second;
}

double Accuracy(const ConfusionMatrix& m) {
  double right = 0;
  for (const auto& [k, c] : CountClasses(m)) right += c.right;
  return Quotient(right, static_cast<double>(m.total()));
}

double MeanClassAccuracy(const ConfusionMatrix& m) {
  double sum = 0, classes = 0;
  for (const auto& [k, c] : CountClasses(m)) {
    if (c.labels == 0) continue;
    sum += c.right / c.labels;
    ++classes;
  }
  return Quotient(sum, classes);
}

double F1(const ConfusionMatrix& m, int64_t positive) {
  const std::map<int64_t, ClassTally> counts = CountClasses(m);
  const auto it = counts.find(positive);
  return it == counts.end() ? 0 : F1(it->second);
}

double MacroF1(const ConfusionMatrix& m) {
  const std::map<int64_t, ClassTally> counts = CountClasses(m);
  double sum = 0;
  for (const auto& [k, c] : counts) sum += F1(c);
  return Quotient(sum, static_cast<double>(counts.size()));
}

double MatthewsCorrelation(const ConfusionMatrix& m) {
  const double s = static_cast<double>(m.total());
  double right = 0, tp = 0, tt = 0, pp = 0;
  for (const auto& [k, c] : CountClasses(m)) {
    right += c.right;
    tp += c.labels * c.predictions;
    tt += c.labels * c.labels;
    pp += c.predictions * c.predictions;
  }
  return Quotient(right * s - tp, std::sqrt((s * s - tt) * (s * s - pp)));
}

}  // namespace graft
