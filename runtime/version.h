// The version of graft, as `graft --version` says it.
#pragma once

namespace graft {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace graft
