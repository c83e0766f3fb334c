// What the fuzz targets share. A target accepts graft::Error as the answer to a broken file, and
// anything else but success as a finding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "runtime/error.h"

namespace graft::fuzz {

inline std::string_view TextOf(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}
inline std::span<const std::byte> BytesOf(const uint8_t* data, size_t size) {
  return std::as_bytes(std::span(data, size));
}

// Whether f does not refuse. An error without words is a finding.
template <class F>
bool Accepts(const F& f) {
  try {
    f();
    return true;
  } catch (const Error& e) {
    GRAFT_CHECK(std::strlen(e.what()) > 0, "an error without words");
    return false;
  }
}

// Calls f, which has no reason to refuse.
template <class F>
void Must(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    GRAFT_CHECK(false, "refused: {}", e.what());
  }
}

// Touches every value, for the sanitizers.
inline void ReadAll(std::span<const float> values) {
  const volatile float* at = values.data();
  for (size_t i = 0; i < values.size(); ++i) static_cast<void>(at[i]);
}

}  // namespace graft::fuzz
