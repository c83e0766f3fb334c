// The version of the program, as `graft --version` prints it.
#pragma once

namespace graft {

inline constexpr const char* kVersion = "graft 0.1.0";

}  // namespace graft
