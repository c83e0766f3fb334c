// Memory that kernels work in: aligned to 64 bytes, large blocks in huge pages where the system has
// them, which take fewer faults and misses of the TLB.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>

namespace graft {

constexpr size_t kAlignment = 64;
constexpr size_t RoundUpAligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte, FreeDeleter>;

// Pages are touched only when used. Null for 0 bytes. Throws Error, which says what they are for.
AlignedBytes AllocateAligned(size_t bytes, const char* what);

// The same for what is smaller than a huge page and lives long: such pieces lie side by side in
// regions, and a region lives as long as any of its pieces. May be called by several threads.
std::shared_ptr<std::byte> AllocatePiece(size_t bytes, const char* what);

}  // namespace graft
