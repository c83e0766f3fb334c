// Which SIMD target the kernels of this process use: the CPU's best unless the user lowers it.
#pragma once
#include <string>

namespace graft {

// Keeps Highway's dispatch and oneDNN from using anything above "avx512", "avx2" or "sse4". It must
// be called before any session is built. Throws Error for another name, or for one that this CPU
// lacks.
void LimitIsa(const std::string& name);
// Throws as LimitIsa does, and changes nothing.
void CheckIsa(const std::string& name);

// The target in use: "avx512", "avx2", "sse4" or "scalar".
std::string ActiveIsa();

}  // namespace graft
