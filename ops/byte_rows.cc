// byte_rows: what low_matmul multiplies in int8, made once for all products that read the same
// rows. Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): low_cells.h and
// the record.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/low_cells.h"
#include "ops/low_reference.h"
#include "ops/records.h"
#include "ops/rows.h"
#include "ops/targets.h"
#include "runtime/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/byte_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/hadamard-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::ScalableTag<float>;

// The nearest whole numbers of what is far within 32 bits, or not a number.
template <class D, class V>
HWY_INLINE auto SmallInt(D, V v) {
#if HWY_TARGET == HWY_AVX3
  return hn::Vec<hn::RebindToSigned<D>>{
      _mm512_cvtps_epi32(v.raw)};  // NearestInt also mends overflow
#else
  return hn::NearestInt(v);
#endif
}

// Stores numbers of 0 to 256 as bytes, the last as 255.
template <class D, class V>
HWY_INLINE void StoreBytes(D, V v, uint8_t* out) {
#if HWY_TARGET == HWY_AVX3
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(v.raw));
#else
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, v), d8, out);
#endif
}

// What the numbers of a row become.
template <class T>
HWY_INLINE ByteRow RangeOf(const T* x, int64_t k) {
  const DF d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto least = hn::Zero(d), most = least, odd = least;
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const auto v = LoadNumbers(d, x + i);
    least = hn::Min(least, v), most = hn::Max(most, v), odd = hn::Add(odd, hn::Sub(v, v));
  }
  float min = hn::GetLane(hn::MinOfLanes(d, least)), max = hn::GetLane(hn::MaxOfLanes(d, most));
  float rest = hn::GetLane(hn::SumOfLanes(d, odd));
  for (; i < k; ++i) {
    const float v = Number(x + i);
    min = std::min(min, v), max = std::max(max, v), rest += v - v;
  }
  return ByteRowOf(min, max, rest);
}

// The same of the transformed row, which it makes.
template <class T>
HWY_INLINE ByteRow TransformedRange(const T* x, int64_t k, float* transformed) {
  const DF d;
  const auto zero = hn::Zero(d);
  auto least = zero, most = zero, odd = zero;
  HadamardOf(
      x, k, transformed, [&](auto v) HWY_ATTR __attribute__((always_inline)) {
        least = hn::Min(least, v), most = hn::Max(most, v);
        // Sums of finite numbers may overflow: 0 x infinity is NaN, which Min and Max pass over.
        odd = hn::MulAdd(v, zero, odd);
      });
  return ByteRowOf(hn::GetLane(hn::MinOfLanes(d, least)), hn::GetLane(hn::MaxOfLanes(d, most)),
                   hn::GetLane(hn::SumOfLanes(d, odd)));
}

// The lowest byte of what ByteOf adds up.
template <class T>
HWY_INLINE void BytesOf(const T* x, int64_t k, const ByteRow& row, uint8_t* out) {
  int64_t i = 0;
#if HWY_TARGET == HWY_AVX3
  const DF d;
  const auto times = hn::Set(d, row.inverse), shift = hn::Set(d, kWhole + row.zero);
  for (; i + kHadamardStep <= k; i += kHadamardStep) {
    const auto q =
        hn::BitCast(hn::RebindToSigned<DF>(), hn::MulAdd(LoadNumbers(d, x + i), times, shift));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(q.raw));
  }
#endif
  for (; i < k; ++i) out[i] = ByteOf(Number(x + i), row);
}

// Rows [rows, k] from number `at` on -> rows of `stride` bytes. The ranges of a few rows are found
// before they are used, as the end of each takes long.
void RowsToBytes(const Tensor& x, int64_t at, int64_t rows, int64_t k, int64_t stride, uint8_t* out,
                 float* range) {
  constexpr int64_t kAhead = 4;
  ByteRow found[kAhead];
  HWY_ALIGN float transformed[kAhead * kMostBytes];
  const bool transform = HadamardVectors(k) > 0;
  WithNumbers(x, at, [&](const auto* from) HWY_ATTR {
    for (int64_t first = 0; first < rows; first += kAhead) {
      const int64_t n = std::min(kAhead, rows - first);
      for (int64_t r = 0; r < n; ++r) {
        const auto* row = from + (first + r) * k;
        found[r] = transform ? TransformedRange(row, k, transformed + r * k) : RangeOf(row, k);
      }
      for (int64_t r = 0; r < n; ++r) {
        const int64_t i = first + r;
        transform ? BytesOf(transformed + r * k, k, found[r], out + i * stride)
                  : BytesOf(from + i * k, k, found[r], out + i * stride);
        range[2 * i] = found[r].scale, range[2 * i + 1] = found[r].zero;
      }
    }
  });
}

// A number that is not finite makes the row's scale NaN, which is 1 otherwise.
template <class T>
void StaticBytesOf(const T* x, const float* factors, int64_t k, int32_t zero, uint8_t* out,
                   float* range) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float least = static_cast<float>(-zero), most = static_cast<float>(255 - zero);
  const auto low = hn::Set(d, least), high = hn::Set(d, most);
  const auto shift = hn::Set(di, zero);
  auto odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const auto scaled = hn::Mul(LoadNumbers(d, x + i), hn::LoadU(d, factors + i));
    odd = hn::Add(odd, hn::Sub(scaled, scaled));
    StoreBytes(di, hn::Add(SmallInt(d, hn::Min(hn::Max(scaled, low), high)), shift), out + i);
  }
  float rest = hn::GetLane(hn::SumOfLanes(d, odd));
  for (; i < k; ++i) {
    const float scaled = Number(x + i) * factors[i];
    rest += scaled - scaled;
    const float q = std::nearbyint(std::min(std::max(least, scaled), most));
    out[i] = static_cast<uint8_t>(static_cast<int32_t>(q) + zero);
  }
  range[0] = 1 + rest, range[1] = static_cast<float>(zero);
}
void RowToStaticBytes(const Tensor& x, int64_t at, const float* factors, int64_t k, int32_t zero,
                      uint8_t* out, float* range) {
  WithNumbers(x, at, [&](const auto* row) HWY_ATTR {
    if (HadamardVectors(k) == 0) return StaticBytesOf(row, factors, k, zero, out, range);
    HWY_ALIGN float transformed[kMostBytes];
    HadamardOf(row, k, transformed, [](auto) {});
    StaticBytesOf(static_cast<const float*>(transformed), factors, k, zero, out, range);
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(RowsToBytes);
HWY_EXPORT(RowToStaticBytes);

constexpr int64_t kRowsOfPiece = 16;

// What is behind the last number of a row.
void ClearLastCell(std::byte* row, int64_t k) {
  const int64_t cells = CellsOf(CellType::kInt8, k);
  if (k % 4 != 0) std::memset(row + cells * 4 - 4, 0, 4);
}

std::vector<TensorType> InferByteRows(Types in, const Attrs&) {
  ExpectCount(in, 1);
  if (in[0].dtype != DType::kBf16) ExpectType(in[0], DType::kF32, "x");
  ExpectRank(in[0], 2, "x");
  const Dim& k = in[0].shape[1];
  if (!k.fixed() || k.constant > kMostBytes)
    Fail("x: expected rows of at most {} numbers, found {}", kMostBytes, ToString(in[0]));
  const Dim &rows = in[0].shape[0], cells = CellsOf(CellType::kInt8, k.constant);
  return {{DType::kI32, {rows, cells}}, {DType::kF32, {rows, 2}}};
}

void RefByteRows(const ReferenceArgs& args) {
  const int64_t m = args.in_shape[0][0], k = args.in_shape[0][1];
  for (int64_t i = 0; i < m; ++i)
    ByteCells(&args.in[0][static_cast<size_t>(i * k)], k,
              &args.out[0][static_cast<size_t>(i * CellsOf(CellType::kInt8, k))],
              &args.out[1][static_cast<size_t>(2 * i)]);
}

void RunByteRows(const KernelArgs& args) noexcept {
  const Extents& x = args.in[0].shape;
  MakeByteRows(args.in[0], x[0], x[1], static_cast<std::byte*>(args.out[0].data),
               args.out[1].f32());
}

Cost ByteRowsCost(const CostArgs& args) {
  const Extents& x = args.in[0];
  return {(HadamardVectors(x[1]) > 0 ? 12 : 5) * Elements(x), args.Bytes()};
}

std::vector<Sample> ByteRowsSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, shape] : {std::pair<const char*, Extents>{"one", {1, 1}},
                                     {"odd", {3, 7}},
                                     {"prime", {13, 31}},
                                     {"eight", {5, 16}},
                                     {"narrow", {5, 48}},
                                     {"four", {9, 192}},
                                     {"wide", {17, 1536}},
                                     {"empty", {0, 5}},
                                     {"bench", {394, 768}}})
    for (const bool bf16 : {false, true})
      samples.push_back(
          {std::string(label) + (bf16 ? "16" : ""), {{.shape = shape, .bf16 = bf16}}});
  return samples;
}

std::vector<ErrorSample> ByteRowsErrors() {
  return {{{F32({3})}, {}, "expected x of rank 2"},
          {{{DType::kI32, {3, 4}}}, {}, "expected x as f32"},
          {{F32({3, 5000})}, {}, "at most 4096 numbers"}};
}

}  // namespace

void MakeByteRows(const Tensor& a, int64_t m, int64_t k, std::byte* cells, float* range) noexcept {
  const int64_t row = CellsOf(CellType::kInt8, k) * 4;
  ParallelFor(CeilDiv(m, kRowsOfPiece), [&](int64_t piece) {
    const int64_t begin = piece * kRowsOfPiece, end = std::min(m, begin + kRowsOfPiece);
    for (int64_t i = begin; i < end; ++i) ClearLastCell(cells + i * row, k);
    HWY_DYNAMIC_DISPATCH(RowsToBytes)
    (a, begin * k, end - begin, k, row, reinterpret_cast<uint8_t*>(cells + begin * row),
     range + 2 * begin);
  });
}

void MakeStaticRows(const Tensor& a, int64_t m, int64_t k, const float* factors, int32_t zero,
                    std::byte* cells, float* range) noexcept {
  const int64_t row = CellsOf(CellType::kInt8, k) * 4;
  ParallelFor(m, [&](int64_t i) {
    std::byte* to = cells + i * row;
    ClearLastCell(to, k);
    HWY_DYNAMIC_DISPATCH(RowToStaticBytes)
    (a, i * k, factors, k, zero, reinterpret_cast<uint8_t*>(to), range + 2 * i);
  });
}

constinit const OpDef kByteRows{.name = "byte_rows",
                                .infer = InferByteRows,
                                .reference = RefByteRows,
                                .kernel = RunByteRows,
                                .cost = ByteRowsCost,
                                .samples = ByteRowsSamples,
                                .error_samples = ByteRowsErrors};

}  // namespace graft
#endif  // HWY_ONCE
