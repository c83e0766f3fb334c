// The parameters that a method brings: their names, shapes and first values.
#pragma once
#include "peft/method.h"
#include "runtime/rng.h"

namespace graft {

// Fills a new parameter from the stream of its name. Section 0.2 of methods.md lists the names.
using Init = std::function<void(std::span<float> values, const Extents& shape, const StreamKey&)>;
Init Zeros();
Init Constants(double value);
Init Normals(double mean, double deviation);
Init Uniforms(double bound);   // U(-bound, bound)
Init KaimingUniform();         // U(+-1/sqrt(columns)), torch's nn.Linear
Init BiasUniform(int64_t in);  // U(+-1/sqrt(in)), its bias
Init XavierUniform();          // U(+-sqrt(6 / (rows + columns)))

// The trainable parameter of that name, or the first rows and columns of the one that a supernet
// stores (MethodContext::storage). Another site may have made it already. The values of a new one
// are those that `a.params` has for it (from a run or an adapter), or come from `init`. Throws
// Error if they have another shape.
ValueId NewParam(const MethodArgs& a, const std::string& name, const Extents& shape,
                 const Init& init);

}  // namespace graft
