// The list of methods. A method left out of it has no name that a user could type.
#pragma once
#include "peft/method.h"

namespace graft {

#define GRAFT_METHODS(X)                     \
  X(Full)                                    \
  X(LinearProbe)                             \
  X(Ln) X(BitFit) X(Last) /* selection.cc */ \
      X(Lora)             /* lora.cc */

#define GRAFT_DECLARE_METHOD(name) extern const MethodRecord k##name##Method;
GRAFT_METHODS(GRAFT_DECLARE_METHOD)
#undef GRAFT_DECLARE_METHOD

}  // namespace graft
