// Which products of a compiled graph are computed in bf16 or int8, and on which CPUs.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ops/gemm_core.h"
#include "runtime/params.h"
#include "runtime/passes.h"

namespace graft {

// How the inputs of a frozen weight are rounded to bytes in all rows alike (low_cells.h).
struct StaticBytes {
  std::vector<float> factors;  // [2k], as low_matmul has them
  int64_t zero = 0;
};

// What examples tell of a frozen weight w [n,k] and the rows x that it is multiplied by.
struct SeenProduct {
  // [n], what rounding w takes from the mean of its products, sum_j (w - rounded w)_ij mean(x_j):
  // it becomes part of the bias (Nagel et al. 2019, section 4.2, with means that were seen).
  std::vector<float> offset;
  StaticBytes bytes;  // no factors: each row has a scale of its own
};
using Calibration = std::map<std::string, SeenProduct>;  // by the name of the weight

struct Precision {
  CellType cell = CellType::kF32;
  bool attention = false;  // its products are bf16, whatever `cell` is
  // Scopes that stay in f32: names with '*', or single words of a scope ("attn", "fc1"). The head
  // stays in any case.
  std::vector<std::string> keep = {};
  // Of forward products in int8. The session's parameters need what AddSeen gives them.
  std::shared_ptr<const Calibration> calibration = nullptr;
  bool bf16 = true;  // beside int8: whether the CPU multiplies it; if not, f32 stands in
};
void AddSeen(const Calibration& calibration, ParamStore& params);

// The weights whose forward products are int8, and what is multiplied by them.
struct ByteProduct {
  ValueId input, weight;
};
std::vector<ByteProduct> ByteProducts(const Graph& g, const Precision& precision);

// From words of a user: "f32", "bf16", "int8" or "auto" (AutoDtype), and scopes joined by '|'.
// Throws Error (kUsage) with the nearest word.
Precision ParsePrecision(const std::string& dtype, const std::string& keep = "");
// `option` is what the user gave it to.
void CheckDtype(const std::string& dtype, std::string_view option = "--dtype");
// Throws Error (kUsage) for a word to keep in f32 that is no scope of the model.
void CheckKeep(const Graph& g, const Precision& precision);

// The precision that is taken on this CPU and SIMD target, and a line that says why; "" if it is
// what was asked for and nothing needs saying.
struct ChosenDtype {
  std::string dtype, why;
};
// "auto" is bf16 where the CPU multiplies bf16, otherwise f32; a precision that the CPU has no
// instruction for is f32. int8 is faster still, but is taken only if it is asked for, as it is less
// exact.
ChosenDtype ChooseDtype(const std::string& dtype);
// The same on a CPU that multiplies what is told.
ChosenDtype ChooseDtype(const std::string& dtype, bool has_bf16, bool has_int8);
// GRAFT_EMULATE=1 in the environment: a precision that was asked for is taken all the same, for
// checks on any machine; what the CPU has no instruction for then takes longer than f32.
bool EmulatesCells();

// low_precision: products with a weight of the model become low_matmul, forward and in the gradient
// to their input, if both sides of the weight have at least kLeastLowSide numbers. Weights that
// train, and their gradients, are in bf16 whatever the precision, and only if both sides have
// kLeastTrainedSide: what methods add is narrower and stays in f32, as do trained values, their
// accumulated gradients and the optimizer. What reads pixels and what is made from parameters alone
// stays in f32. In int8, the first attention, of models of texts the first block and the attention
// of the second, and sums of more numbers than bytes can add up are in bf16; all that is bf16
// beside int8 stays in f32 on CPUs that do not multiply bf16. A GELU of what such a product makes
// becomes gelu_near. attention and its gradient become low_attention, if wanted.
inline constexpr int64_t kLeastLowSide = 32, kLeastTrainedSide = 128;
Pass LowPrecisionPass(const Precision& precision);

// The lowest precision that a product of the compiled graph is in: "int8", "bf16" or "f32". A user
// may have asked for a lower one, of which method, --keep or the model's sizes left nothing.
std::string DtypeOfProducts(const Graph& g);
// What to tell where the products are in another precision than was asked for; "" where they are
// in that.
std::string NoneIsIn(const std::string& asked, const std::string& products);

// byte_rows: where several int8 products read the same rows, as query, key and value do, these are
// rounded to bytes once. Runs when it is decided which values are bf16.
Pass ByteRowsPass();

}  // namespace graft
