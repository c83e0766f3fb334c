#include "fuzz/coverage.h"

#include <algorithm>
#include <bit>

extern "C" char __executable_start;  // of the linker; addresses differ from run to run

namespace graft::fuzz {
namespace {

// Edges are known by a hash: as in AFL, two may share a place.
constexpr uint32_t kPlaces = 1 << 18;
constexpr size_t kComparisons = 4096;

uint8_t g_count[kPlaces];     // of this input, up to 255
uint8_t g_seen[kPlaces];      // a bit for each bucket of counts
uint32_t g_touched[kPlaces];  // places whose count is not 0
uint32_t g_num_touched = 0, g_before = 0;
Comparison g_comparisons[kComparisons];  // the last ones
size_t g_num_comparisons = 0;
Coverage g_coverage;

uint8_t Bucket(uint8_t count) {
  if (count < 4) return static_cast<uint8_t>(1 << (count - 1));
  if (count < 32) return static_cast<uint8_t>(1 << std::bit_width(count));
  return count < 128 ? 64 : 128;
}

}  // namespace

void OnBlock(uintptr_t pc) {
  const auto offset = static_cast<uint32_t>(pc - reinterpret_cast<uintptr_t>(&__executable_start));
  const uint32_t block = offset * 0x9E3779B1u >> 14;
  const uint32_t edge = (block ^ g_before) % kPlaces;
  g_before = block >> 1;
  if (g_count[edge] == 0 && g_num_touched < kPlaces) g_touched[g_num_touched++] = edge;
  g_count[edge] += g_count[edge] < 255;
}

void OnComparison(uint64_t a, uint64_t b, uint8_t size) {
  if (a != b) g_comparisons[g_num_comparisons++ % kComparisons] = {a, b, size};
}

void BeginInput() {
  for (uint32_t i = 0; i < g_num_touched; ++i) g_count[g_touched[i]] = 0;
  g_num_touched = g_before = 0;
  g_num_comparisons = 0;
}

size_t TakeNewFeatures() {
  size_t fresh = 0;
  for (uint32_t i = 0; i < g_num_touched; ++i) {
    const uint32_t edge = g_touched[i];
    const uint8_t bucket = Bucket(g_count[edge]);
    if (g_seen[edge] & bucket) continue;
    g_coverage.edges += g_seen[edge] == 0;
    g_seen[edge] |= bucket;
    ++fresh;
  }
  g_coverage.features += fresh;
  return fresh;
}

Coverage SeenCoverage() { return g_coverage; }

std::span<const Comparison> LastComparisons() {
  return {g_comparisons, std::min(g_num_comparisons, kComparisons)};
}

}  // namespace graft::fuzz

// What the compiler calls.
using graft::fuzz::OnComparison;
extern "C" {
void __sanitizer_cov_trace_pc() {
  graft::fuzz::OnBlock(reinterpret_cast<uintptr_t>(__builtin_return_address(0)));
}
void __sanitizer_cov_trace_cmp1(uint8_t a, uint8_t b) { OnComparison(a, b, 1); }
void __sanitizer_cov_trace_cmp2(uint16_t a, uint16_t b) { OnComparison(a, b, 2); }
void __sanitizer_cov_trace_cmp4(uint32_t a, uint32_t b) { OnComparison(a, b, 4); }
void __sanitizer_cov_trace_cmp8(uint64_t a, uint64_t b) { OnComparison(a, b, 8); }
void __sanitizer_cov_trace_const_cmp1(uint8_t a, uint8_t b) { OnComparison(a, b, 1); }
void __sanitizer_cov_trace_const_cmp2(uint16_t a, uint16_t b) { OnComparison(a, b, 2); }
void __sanitizer_cov_trace_const_cmp4(uint32_t a, uint32_t b) { OnComparison(a, b, 4); }
void __sanitizer_cov_trace_const_cmp8(uint64_t a, uint64_t b) { OnComparison(a, b, 8); }
void __sanitizer_cov_trace_cmpf(float, float) {}
void __sanitizer_cov_trace_cmpd(double, double) {}
// cases: their number, their width in bits, their values.
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t* cases) {
  for (uint64_t i = 0; i < cases[0]; ++i)
    OnComparison(value, cases[2 + i], static_cast<uint8_t>(cases[1] / 8));
}
}
