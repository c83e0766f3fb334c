// The list of methods. A method left out of it has no name that a user could type.
#pragma once
#include "peft/method.h"

namespace graft {

// clang-format off
#define GRAFT_METHODS(X)                                                    \
  /* selection.cc   */ X(Full) X(LinearProbe) X(Ln) X(BitFit) X(Last)       \
  /* lora.cc        */ X(Lora)                                              \
  /* houlsby.cc     */ X(Houlsby)                                           \
  /* pfeiffer.cc    */ X(Pfeiffer)                                          \
  /* adaptformer.cc */ X(AdaptFormer)                                       \
  /* parallel.cc    */ X(Parallel)                                          \
  /* mam.cc         */ X(Mam)                                               \
  /* prefix.cc      */ X(Prefix) X(Ptuning2)                                \
  /* prompt.cc      */ X(Prompt)                                            \
  /* bbt.cc         */ X(Bbt)                                               \
  /* vpt.cc         */ X(Vpt) X(VptDeep)                                    \
  /* ssf.cc         */ X(Ssf)                                               \
  /* fact.cc        */ X(Fact)                                              \
  /* repadapter.cc  */ X(RepAdapter)                                        \
  /* glora.cc       */ X(Glora)                                             \
  /* unified.cc     */ X(Unified)                                           \
  /* nf4.cc         */ X(Nf4)                                               \
  /* childtuning.cc */ X(ChildTuning)                                       \
  /* noisytune.cc   */ X(NoisyTune)                                         \
  /* forget.cc      */ X(Forget)                                            \
  /* calibration.cc */ X(Calibration)                                       \
  /* calibration_layer.cc */ X(CalibrationLayer)
// clang-format on

#define GRAFT_DECLARE_METHOD(name) extern const MethodRecord k##name##Method;
GRAFT_METHODS(GRAFT_DECLARE_METHOD)
#undef GRAFT_DECLARE_METHOD

}  // namespace graft
