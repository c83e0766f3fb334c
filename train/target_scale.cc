#include "train/target_scale.h"

#include <cmath>

#include "ops/ops.h"

namespace graft {
namespace {

// The heads whose mean are the logits.
constexpr const char* kHeads[] = {"head", "head.dist"};

// Whether a value is x W' + b of one of the heads, both of which train.
bool IsHead(const Graph& g, ValueId v, const std::string& head) {
  const ValueId weight = g.FindLeaf(head + ".weight"), bias = g.FindLeaf(head + ".bias");
  if (!weight.valid() || !bias.valid()) return false;
  if (!g.value(weight).trainable || !g.value(bias).trainable) return false;
  const NodeId add = g.value(v).producer;
  if (!add.valid() || g.node(add).op != &kAdd || g.node(add).in[1] != bias) return false;
  const NodeId product = g.value(g.node(add).in[0]).producer;
  return product.valid() && g.node(product).op == &kMatmul && g.node(product).in[1] == weight &&
         g.users(weight).size() == 1 && g.users(bias).size() == 1;
}

// Calls f(values, scale, shift): the weights of each head's output k, then its bias.
template <class F>
void ForEachOutput(const ParamStore& scales, ParamStore* params, const F& f) {
  const std::span<const float> mean = scales.values(kTargetMean);
  const std::span<const float> deviation = scales.values(kTargetDeviation);
  for (const std::string head : kHeads) {
    if (!params->Has(head + ".weight")) continue;
    float* weight = params->Mutable(head + ".weight");
    float* bias = params->Mutable(head + ".bias");
    const size_t width = static_cast<size_t>(params->shape(head + ".weight").size()) / mean.size();
    for (size_t k = 0; k < mean.size(); ++k) {
      f(std::span(weight + k * width, width), deviation[k], 0.0);
      f(std::span(bias + k, 1), deviation[k], mean[k]);
    }
  }
}

}  // namespace

bool HeadTakesScale(const Graph& g) {
  const ValueId logits = g.output("logits");
  if (!g.FindLeaf("head.dist.weight").valid()) return IsHead(g, logits, kHeads[0]);
  const NodeId half = g.value(logits).producer;  // 0.5 (head + head.dist)
  if (!half.valid() || g.node(half).op != &kScale) return false;
  const NodeId sum = g.value(g.node(half).in[0]).producer;
  return g.node(half).attrs.As<ScaleAttrs>().by == 0.5 && sum.valid() && g.node(sum).op == &kAdd &&
         IsHead(g, g.node(sum).in[0], kHeads[0]) && IsHead(g, g.node(sum).in[1], kHeads[1]);
}

void MeasureTargets(const BatchSource& train, int64_t columns, ParamStore* params) {
  const auto n = static_cast<double>(train.size());
  std::vector<float> means, deviations;
  for (size_t k = 0; k < static_cast<size_t>(columns); ++k) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < train.size(); ++i) sum += train.targets(i)[k];
    const auto mean = static_cast<float>(sum / n);
    for (size_t i = 0; i < train.size(); ++i)
      squares += std::pow(static_cast<double>(train.targets(i)[k]) - mean, 2);
    const auto deviation = static_cast<float>(std::sqrt(squares / n));
    means.push_back(mean);
    deviations.push_back(std::isnormal(deviation) && std::isnormal(1 / deviation) ? deviation : 1);
  }
  params->Set(kTargetMean, {columns}, means);
  params->Set(kTargetDeviation, {columns}, deviations);
}

void StandardiseTargets(Graph* graph) {
  Graph& g = *graph;
  const ValueId z = g.output("logits"), targets = g.FindLeaf("targets");
  const Shape row{g.shape(z)[1]};
  g.scope = "targets";
  const ValueId mean = g.AddParam(kTargetMean, row);
  const ValueId deviation = g.AddParam(kTargetDeviation, row);
  if (targets.valid())
    g.SetOutput("losses", SquaredError(g, z, Div(g, Sub(g, targets, mean), deviation)));
  g.SetOutput("logits", Add(g, Mul(g, z, deviation), mean));
  g.EraseDead();
  g.scope.clear();
}

void TakeScaleOffHead(ParamStore* params) {
  ForEachOutput(*params, params, [](std::span<float> values, double scale, double shift) {
    for (float& x : values) x = static_cast<float>((x - shift) / scale);
  });
}

ParamStore WithScaleInHead(const ParamStore& params, const std::vector<std::string>& names) {
  ParamStore scaled;
  for (const std::string& name : names)
    scaled.SetView(name, params.shape(name), nullptr, params.data(name));
  ForEachOutput(params, &scaled, [](std::span<float> values, double scale, double shift) {
    for (float& x : values) x = static_cast<float>(scale * x + shift);
  });
  return scaled;
}

std::string TargetScaleText(const ParamStore& params, const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::vector<std::string> columns;
  for (size_t k = 0; k < std::min(kShown, names.size()); ++k)
    columns.push_back(fmt::format("'{}' (mean {:.4g}, deviation {:.4g})", names[k],
                                  params.values(kTargetMean)[k],
                                  params.values(kTargetDeviation)[k]));
  const size_t more = names.size() - columns.size();
  return fmt::format(
      "{}{} {} standardised while training; predictions and measures are in {} units",
      fmt::join(columns, ", "), more ? fmt::format(" and {} more", more) : "",
      names.size() > 1 ? "are" : "is", names.size() > 1 ? "their" : "its");
}

}  // namespace graft
