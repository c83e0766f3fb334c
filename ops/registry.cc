// All operators, from the list in ops.h.
#include "ops/ops.h"

namespace graft {

std::span<const OpDef* const> AllOps() {
#define GRAFT_ADDRESS(name) &k##name,
  static constexpr const OpDef* kOps[] = {GRAFT_OPS(GRAFT_ADDRESS)};
#undef GRAFT_ADDRESS
  return kOps;
}

}  // namespace graft
