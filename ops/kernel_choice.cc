#include "ops/kernel_choice.h"

#include <fmt/format.h>

#include <algorithm>

#include "ops/low_cells.h"
#include "ops/low_precision.h"
#include "ops/ops.h"

namespace graft {
namespace {

KernelChoice WhyLow(const Graph& g, const Node& n) {
  std::string why = "low_precision: a product of attention";
  CellType cell = CellType::kBf16;
  if (n.op == &kLowMatmul) {
    const LowMatmulAttrs& low = n.attrs.As<LowMatmulAttrs>();
    const Value& b = g.value(n.in[1]);
    const bool frozen = b.role == Role::kParam && !b.trainable;
    cell = low.cell == "int8" ? CellType::kInt8 : CellType::kBf16;
    why = fmt::format("low_precision: {}, both of whose sides have at least {} numbers",
                      low.product.ta ? "the gradient of a weight"
                      : frozen       ? "a frozen weight"
                                     : "a weight that trains",
                      frozen && !low.product.ta ? kLeastLowSide : kLeastTrainedSide);
  }
  if (!HasCells(cell)) why += fmt::format("; the CPU has no {}, which is emulated", CellName(cell));
  return {why, "f32: --dtype asks for less"};
}

}  // namespace

KernelChoice WhyKernel(const Graph& g, NodeId id, const Counts& capacity) {
  const Node& n = g.node(id);
  if (n.op == &kLowMatmul || n.op == &kLowAttention || n.op == &kLowAttentionGrad)
    return WhyLow(g, n);
  if (n.op == &kNf4Matmul) return {"a weight in 4 bits has no other kernel", ""};
  if (n.op != &kMatmul) return {};
  std::vector<Extents> in, out;
  std::vector<const float*> constant;
  constexpr float kSomewhere = 0;  // only whether there is a constant counts here
  for (const ValueId v : n.in) {
    const Value& value = g.value(v);
    const bool frozen =
        value.role == Role::kParam && !value.trainable &&
        std::ranges::none_of(g.updates, [&](const Update& u) { return u.target == v; });
    in.push_back(At(g.shape(v), capacity));
    constant.push_back(frozen ? &kSomewhere : nullptr);
  }
  for (const ValueId v : n.out) out.push_back(At(g.shape(v), capacity));
  PackedConstants packed;
  return WhyMatmul({in, out, constant, n.attrs, packed});
}

}  // namespace graft
