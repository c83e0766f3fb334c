// oneDNN's matrix product behind one small interface, for oneDNN 2.6 and 3.x. No other file
// includes oneDNN. A product is prepared once for fixed strides and a fixed block of rows, then
// runs block by block, each on one thread of our own loop, with caller-owned scratch: in the
// library's default scratchpad mode one primitive run by two threads gives silently wrong results,
// and its own threading changes the summation order of long reductions.
//
// The rows of the capacity are cut into even blocks; those of a last partial block go through the
// scratch, so no row of A beyond m is read and no row of C beyond m is written.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "ops/gemm_core.h"
#include "runtime/threads.h"

namespace graft {

struct OnednnShape {
  int64_t m = 0, k = 0, n = 0;  // m: the most rows of a call
  // When they are dense, A is [m, k], or stored as [k, m], and B is [k, n], or stored as [n, k].
  bool a_transposed = false, b_transposed = false;
  bool packed_b = false;  // B in oneDNN's own layout, by Pack()
  bool bias = false, residual = false;
  Activation activation = Activation::kNone;
  auto operator<=>(const OnednnShape&) const = default;
};

class OnednnGemm {
 public:
  // Returns nothing if the shape is empty, or if oneDNN refuses it or has only its reference code
  // for it (which is 600 times slower): the caller then uses gemm_core. Products of one shape share
  // what is made, for the life of the program.
  static std::optional<OnednnGemm> Prepare(const OnednnShape& shape);

  std::string implementation() const;  // "brg:avx512_core"
  size_t packed_bytes() const;         // 0 unless packed_b
  size_t scratch_bytes() const;
  size_t thread_bytes() const;  // of each thread, for any number up to that at Prepare

  // Packs B, laid out as the shape describes it, into the buffer that Run takes as `b`. It runs on
  // one thread.
  void Pack(const float* b, void* packed) const;

  // Computes m <= shape.m rows of C = act(A B + bias) + residual, in parallel; the residual may be
  // C. `scratch` and a packed B are 64-byte aligned.
  void Run(int64_t m, const float* a, const void* b, const float* bias, const float* residual,
           float* c, std::byte* scratch, const ThreadScratch& own) const noexcept;

 private:
  struct Impl;
  static std::shared_ptr<const Impl> Make(const OnednnShape& shape);
  std::shared_ptr<const Impl> impl_;
};

// Which of the two is to serve a product. The rule comes from bench/gemm_bench on a loaded
// Ice Lake core with AVX-512 and on a loaded Zen 3 core with AVX2. oneDNN is ahead
// - 1.0 to 1.4 times, with AVX-512, where A is transposed (gradients of weights), unless rows of B
//   are a multiple of 4 KiB apart, where it falls to half;
// - 1.2 to 4 times where B is plain and there are at most 16 rows;
// - up to 2 times, with AVX2, where k is short (h B').
// Elsewhere the two are within the noise of that machine, or gemm_core is ahead. `m` is the
// capacity, not the rows of a call: the choice must not change with the batch, as the bits of the
// two differ. An OnednnGemm has one k: a gradient of a weight whose k is the rows of the batch
// needs one for each batch size, or gemm_core. What only gemm_core does (alpha, slope, any
// strides) is the caller's to check.
struct GemmChoice {
  int64_t m = 0, k = 0, n = 0;
  bool a_transposed = false, avx512 = false;
};
constexpr bool PreferOnednn(const GemmChoice& c) {
  if (c.k * c.n < 4096) return false;
  if (c.a_transposed && c.avx512 && c.n % 1024 != 0) return true;
  return c.m <= 16 || (!c.avx512 && c.k <= 16);
}

// Limits oneDNN to "sse4", "avx2" or "avx512", or to nothing for "". Must come before any other
// call of it. Returns false if the library does not know the name or has already started.
bool CapOnednnIsa(const std::string& isa);

}  // namespace graft
