#include "peft/methods/methods.h"

namespace graft {

std::span<const MethodRecord* const> AllMethods() {
#define GRAFT_METHOD_ADDRESS(name) &k##name##Method,
  static constexpr const MethodRecord* kMethods[] = {GRAFT_METHODS(GRAFT_METHOD_ADDRESS)};
#undef GRAFT_METHOD_ADDRESS
  return kMethods;
}

}  // namespace graft
