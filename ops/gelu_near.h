// The polynomials that define GeluNear (math-inl.h): minimax fits of Phi(x) - 1/2, and of the slope
// of x Phi(x) less 1/2. Each is t times a polynomial of u = t^2 / 8 - 1, which is within [-1, 1],
// where t is x limited to [-4, 4], so that terms do not cancel.
#pragma once

namespace graft {

inline constexpr float kGeluNearCdf[8] = {0.175963402f,   -0.0845820382f, 0.0556966178f,
                                          -0.0344723575f, 0.022730222f,   -0.0177000221f,
                                          0.00738225784f, 0};
inline constexpr float kGeluNearSlope[8] = {0.183171272f,  -0.113776326f, 0.117529824f,
                                            -0.113397203f, 0.0830419436f, -0.0742217675f,
                                            0.0771484897f, -0.034434814f};

}  // namespace graft
