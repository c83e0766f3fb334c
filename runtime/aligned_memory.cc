#include "runtime/aligned_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "runtime/error.h"

namespace graft {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// What a long-lived piece keeps of others that are gone is at most a region. What a region has left
// at its end is not touched, but for a part of a huge page.
constexpr size_t kRegion = 8 * kHugePage;
constexpr size_t kLeastPiece = size_t{16} << 10;  // less is not worth a huge page

struct Region {
  AlignedBytes bytes;
  size_t used = 0;
};

}  // namespace

AlignedBytes AllocateAligned(size_t bytes, const char* what) {
  if (bytes == 0) return nullptr;
  const bool large = bytes >= kHugePage;
  void* p = nullptr;
  if (posix_memalign(&p, large ? kHugePage : kAlignment, bytes) != 0)
    Fail("cannot allocate {} MiB for {}", bytes >> 20, what);
  if (large) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return AlignedBytes(static_cast<std::byte*>(p));
}

std::shared_ptr<std::byte> AllocatePiece(size_t bytes, const char* what) {
  bytes = RoundUpAligned(std::max<size_t>(bytes, 1));
  if (bytes < kLeastPiece || bytes > kRegion / 4) return AllocateAligned(bytes, what);
  static std::mutex mutex;
  static std::array<std::weak_ptr<Region>, 4> open;  // the newest first
  const std::lock_guard lock(mutex);
  std::shared_ptr<Region> region;
  for (const std::weak_ptr<Region>& each : open)
    if (region = each.lock(); region && kRegion - region->used >= bytes) break;
  if (!region || kRegion - region->used < bytes) {
    region = std::make_shared<Region>(Region{AllocateAligned(kRegion, what), 0});
    std::ranges::move_backward(open.begin(), open.end() - 1, open.end());
    open.front() = region;
  }
  std::byte* piece = region->bytes.get() + region->used;
  region->used += bytes;
  return {region, piece};
}

}  // namespace graft
