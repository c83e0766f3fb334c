// CRC-32 of ZIP and PNG.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace graft {

// `crc` is the result for the bytes before these.
uint32_t Crc32(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace graft
