// What int8 learns from examples: the inputs of products with frozen weights are looked at once, in
// f32, so that biases make up for the rounding of weights and, if wanted, rows have static scales.
#pragma once
#include "adapters/method_graph.h"
#include "train/batches.h"

namespace graft {

// Of each column of the rows that a weight [n,k] is multiplied by. For static scales the rows are
// transformed (ops/hadamard.h), as what is rounded is.
struct InputRanges {
  std::vector<float> min, max;  // [k], 0 included
};
// Sums of the columns in whole steps, which no order of rows changes.
struct InputSums {
  std::vector<int64_t> sums;  // [k]
  int64_t rows = 0;
  void Add(const float* row);       // [k]
  std::vector<float> Mean() const;  // [k], of no rows zeros
};

// Factors and zero by which rows within these ranges become bytes. Columns that are large in all
// rows share their range with the weights that they meet (SmoothQuant, Xiao et al. 2023, eq. 4):
// with t_j = max |x_j|^a / max_i |w_ij|^(1 - a), x_j / t_j has one scale and one zero for all j,
// and w_ij t_j is what is rounded by columns. The rows of the weight are transformed, too.
StaticBytes SmoothBytes(const InputRanges& ranges, std::span<const float> weight);

// What rounding a weight [n,k] takes from its products with rows of this mean [k],
// SeenProduct::offset. `bytes` are static or have no factors.
std::vector<float> MissingOf(std::span<const float> weight, std::span<const float> mean,
                             const StaticBytes& bytes);

// Looks at the inputs of all products that `passes` makes int8. `graph` is the inference graph
// before any passes; it runs in f32 on all examples of `data`. The result depends neither on
// threads nor on the order of examples. Throws Error where the model gives numbers that are not
// finite.
Calibration Calibrate(const Graph& graph, ParamStore& params, const ModelConfig& config,
                      BatchSource& data, const std::string& memory_budget,
                      const PassOptions& passes, bool static_scales);

}  // namespace graft
