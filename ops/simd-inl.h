// The loops that SIMD kernels are made of; a kernel is a lambda on vectors. Loops run over whole
// vectors and send the tail through a padded copy, so that an element gets the same bits wherever
// it stands. Chunks of parallel loops are fixed by shape. The files that include this one are
// compiled once per SIMD target.
#if defined(GRAFT_OPS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_SIMD_INL_H_
#undef GRAFT_OPS_SIMD_INL_H_
#else
#define GRAFT_OPS_SIMD_INL_H_
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "hwy/highway.h"
#include "ops/math-inl.h"
#include "ops/records.h"
#include "runtime/threads.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

HWY_INLINE VF LoadV(const float* p) { return hn::LoadU(DF(), p); }
HWY_INLINE VF SetV(float x) { return hn::Set(DF(), x); }

// Loads the first n < Lanes elements, then zeros. (A masked load may touch what lies behind the
// buffer.)
HWY_INLINE VF LoadTail(const float* p, size_t n) {
  HWY_ALIGN float padded[hn::MaxLanes(DF())] = {};
  std::copy_n(p, n, padded);
  return hn::Load(DF(), padded);
}

// Calls body(in, out, i) for i = 0, Lanes, 2 Lanes, ...: it reads a vector at in[k] + i and writes
// one at out[k] + i. An output may be one of the inputs.
template <size_t kIn, size_t kOut, class Body>
HWY_INLINE void ForVectors(size_t n, const std::array<const float*, kIn>& in,
                           const std::array<float*, kOut>& out, const Body& body) {
  const size_t lanes = hn::Lanes(DF());
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) body(in, out, i);
  if (i == n) return;
  HWY_ALIGN float padded[kIn + kOut][hn::MaxLanes(DF())] = {};
  std::array<const float*, kIn> from;
  std::array<float*, kOut> to;
  for (size_t k = 0; k < kIn; ++k) {
    std::copy_n(in[k] + i, n - i, padded[k]);
    from[k] = padded[k];
  }
  for (size_t k = 0; k < kOut; ++k) to[k] = padded[kIn + k];
  body(from, to, size_t{0});
  for (size_t k = 0; k < kOut; ++k) std::copy_n(to[k], n - i, out[k] + i);
}

// out[i] = f(in[i]...)
template <class F, class... In>
HWY_INLINE void Transform(size_t n, float* out, const F& f, const In*... in) {
  const std::array<const float*, sizeof...(In)> from{in...};
  ForVectors(n, from, std::array<float*, 1>{out},
             [&f](const auto& p, const auto& o, size_t i) HWY_ATTR {
               [&]<size_t... k>(std::index_sequence<k...>) HWY_ATTR {
                 hn::StoreU(f(hn::LoadU(DF(), p[k] + i)...), DF(), o[0] + i);
               }
               (std::make_index_sequence<sizeof...(In)>());
             });
}

// Sum over i of f(in[i]...), with four accumulators.
template <class F, class... In>
HWY_INLINE float SumOf(size_t n, const F& f, const In*... in) {
  const DF d;
  const size_t lanes = hn::Lanes(d);
  VF s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, f(hn::LoadU(d, in + i)...));
    s1 = hn::Add(s1, f(hn::LoadU(d, in + i + lanes)...));
    s2 = hn::Add(s2, f(hn::LoadU(d, in + i + 2 * lanes)...));
    s3 = hn::Add(s3, f(hn::LoadU(d, in + i + 3 * lanes)...));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, f(hn::LoadU(d, in + i)...));
  if (const size_t rest = n - i)
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(d, rest), f(LoadTail(in + i, rest)...)));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

// The greatest element; -infinity if there is none. A NaN may be passed over.
HWY_INLINE float MaxOf(size_t n, const float* x) {
  const DF d;
  const size_t lanes = hn::Lanes(d);
  const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF m0 = lowest, m1 = lowest;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    m0 = hn::Max(m0, hn::LoadU(d, x + i));
    m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
  }
  for (; i + lanes <= n; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, x + i));
  if (const size_t rest = n - i)
    m1 = hn::Max(m1, hn::IfThenElse(hn::FirstN(d, rest), LoadTail(x + i, rest), lowest));
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
}

// Calls f(begin, count) on pieces of [0, n), in parallel.
template <class F>
void ForChunks(int64_t n, const F& f) {
  const FixedChunks cut(n, kChunk);
  ParallelFor(cut.count(), [&](int64_t i) HWY_ATTR {
    f(cut.begin(i), static_cast<size_t>(cut.end(i) - cut.begin(i)));
  });
}

// Calls f(first, count) for all rows of `cols` elements, at most so many at once, in parallel by
// blocks of rows.
template <class F>
void ForRowGroups(int64_t rows, size_t cols, int64_t most, const F& f) {
  const int64_t block =
      std::max<int64_t>(1, kChunk / std::max<int64_t>(1, static_cast<int64_t>(cols)));
  const FixedChunks cut(rows, block);
  ParallelFor(cut.count(), [&](int64_t i) HWY_ATTR {
    for (int64_t r = cut.begin(i); r < cut.end(i); r += most) f(r, std::min(most, cut.end(i) - r));
  });
}
// Calls f(row) for each.
template <class F>
void ForRows(int64_t rows, size_t cols, const F& f) {
  ForRowGroups(rows, cols, 1, [&](int64_t r, int64_t) HWY_ATTR { f(r); });
}

// Sums over the rows of [rows, cols] in parts of kRowsOfPart rows, added in order.
// f(row, rows, column, columns, sums) puts the sums over a block of the matrix to
// sums[k][0..columns).
template <size_t kOut, class F>
void SumRowBlocks(int64_t rows, int64_t cols, const std::array<float*, kOut>& out,
                  std::byte* scratch, const F& f) {
  const FixedChunks row_cut(rows, kRowsOfPart), col_cut(cols, kColsOfPart);
  const int64_t parts = row_cut.count(), blocks = col_cut.count();
  float* partial = reinterpret_cast<float*>(scratch);  // [parts, kOut, cols]
  ParallelFor(std::max<int64_t>(parts, 1) * blocks, [&](int64_t i) HWY_ATTR {
    const int64_t part = i / blocks, c = col_cut.begin(i % blocks), r = row_cut.begin(part);
    std::array<float*, kOut> sums;
    for (size_t k = 0; k < kOut; ++k)
      sums[k] = c + (parts <= 1 ? out[k] : partial + (part * int64_t{kOut} + int64_t(k)) * cols);
    f(r, row_cut.end(part) - r, c, static_cast<size_t>(col_cut.end(i % blocks) - c), sums);
  });
  if (parts <= 1) return;
  ParallelFor(blocks, [&](int64_t block) HWY_ATTR {
    const int64_t c = col_cut.begin(block);
    const size_t n = static_cast<size_t>(col_cut.end(block) - c);
    for (size_t k = 0; k < kOut; ++k) {
      std::copy_n(partial + int64_t(k) * cols + c, n, out[k] + c);
      for (int64_t part = 1; part < parts; ++part)
        Transform(
            n, out[k] + c, [](VF s, VF v) HWY_ATTR { return hn::Add(s, v); }, out[k] + c,
            partial + (part * int64_t{kOut} + int64_t(k)) * cols + c);
    }
  });
}

// These put f(in 0) or f(in 0, in 1) into result 0, where all shapes are equal.
template <class F>
void Map1(const KernelArgs& a, const F& f) {
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  ForChunks(a.out[0].shape.size(),
            [&](int64_t at, size_t n) HWY_ATTR { Transform(n, y + at, f, x + at); });
}
template <class F>
void Map2(const KernelArgs& a, const F& f) {
  const float *x = a.in[0].f32(), *z = a.in[1].f32();
  float* y = a.out[0].f32();
  ForChunks(a.out[0].shape.size(),
            [&](int64_t at, size_t n) HWY_ATTR { Transform(n, y + at, f, x + at, z + at); });
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_SIMD_INL_H_
