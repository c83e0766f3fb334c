// Targets of a regression, standardised while a run trains. With targets t [S,K] of mean m and
// standard deviation s over the training examples and z = head(x), a run trains
//
//   loss = mean_k (z_k - (t_k - m_k) / s_k)^2    and gives    y = s z + m,
//
// so that a rate moves an output by the same share of what there is to learn whatever its unit is
// (as scikit-learn's TransformedTargetRegressor with a StandardScaler). What it saves is the head
// that gives y, with the weights s W and the bias s b + m: no file knows that there was a scale.
#pragma once
#include "train/batches.h"

namespace graft {

// Frozen parameters [K] of a graph with standardised targets, which belong to the state of a run.
inline constexpr const char* kTargetMean = "targets.mean";
inline constexpr const char* kTargetDeviation = "targets.deviation";

// Whether the logits of a training graph are what a head that trains gives, and nothing else: then
// their scale can be put into it.
bool HeadTakesScale(const Graph& graph);

// Sets both parameters from the examples: the deviation is that of a population, and 1 of numbers
// that are all the same.
void MeasureTargets(const BatchSource& train, int64_t columns, ParamStore* params);

// Makes the outputs "logits" y and, where there is one, "losses" that of standardised targets.
// REQUIRES: HeadTakesScale.
void StandardiseTargets(Graph* graph);

// A head that gives y becomes one that gives z, computed in double.
void TakeScaleOffHead(ParamStore* params);
// The named parameters with a head that gives y. They are views of `params` but for the head.
ParamStore WithScaleInHead(const ParamStore& params, const std::vector<std::string>& names);

// "'price' (mean 2e+05, deviation 1e+04) is standardised while training; ..."
std::string TargetScaleText(const ParamStore& params, const std::vector<std::string>& names);

}  // namespace graft
