#include "ops/kernel_choice.h"

#include <algorithm>

#include "ops/ops.h"

namespace graft {

KernelChoice WhyKernel(const Graph& g, NodeId id, const Counts& capacity) {
  const Node& n = g.node(id);
  if (n.op == &kLowMatmul)
    return {"low_precision: a frozen weight, both of whose sides have at least 32 numbers",
            "f32: --dtype asks for less"};
  if (n.op == &kLowAttention || n.op == &kLowAttentionGrad)
    return {"low_precision: the CPU multiplies bf16", "f32: --dtype asks for less"};
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
