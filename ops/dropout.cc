// Dropout and drop-path: x times a mask of 0 and 1/(1-p). An element's word is that of the stream
// (seed, purpose, scope) at {step, first + sequence, position in the sequence}; drop-path draws at
// position 0. Multiplying, not selecting, keeps a NaN where the mask is 0.
#include "ops/records.h"
#include "ops/targets.h"
#include "runtime/rng.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/dropout.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

#ifndef GRAFT_OPS_DROPOUT_ONCE_
#define GRAFT_OPS_DROPOUT_ONCE_
namespace graft {
namespace {

struct DropState {
  uint64_t key = 0;
  uint32_t threshold = 0;
  double scale = 0;
  bool per_sequence = false;
};

DropState StateOf(const Attrs& attrs) {
  const DropoutAttrs& a = attrs.As<DropoutAttrs>();
  const Purpose purpose = a.per_sequence ? Purpose::kDropPath : Purpose::kDropout;
  return {MakeKey(static_cast<uint64_t>(a.seed), purpose, a.stream), DropThreshold(a.p),
          a.p < 1 ? 1 / (1 - a.p) : 0, a.per_sequence};
}

// A range of elements of one sequence, and where its words begin.
struct Run {
  StreamKey stream;
  uint64_t position = 0;
};

// The place of row r in its sequence. T is int32_t, or double in the reference.
template <class T>
Run PlaceOf(const DropState& s, const T* offsets, int64_t sequences, const T* rng, int64_t row,
            int64_t cols) {
  const T* after = std::upper_bound(offsets, offsets + sequences, static_cast<T>(row));
  const int64_t sequence = std::max<int64_t>(0, after - offsets - 1);
  Run run;
  run.stream = {s.key, static_cast<uint32_t>(static_cast<int64_t>(rng[0])),
                static_cast<uint32_t>(static_cast<int64_t>(rng[1]) + sequence)};
  if (!s.per_sequence)
    run.position = static_cast<uint64_t>((row - static_cast<int64_t>(offsets[sequence])) * cols);
  return run;
}

// The mask of one element of a row: 0 or 1 / (1 - p).
double MaskOf(const DropState& s, const Run& run, int64_t col) {
  const uint64_t position = s.per_sequence ? 0 : run.position + static_cast<uint64_t>(col);
  return RandomWord(run.stream, position) >= s.threshold ? s.scale : 0;
}

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

using DU = hn::RebindToUnsigned<DF>;
using VU = hn::Vec<DU>;
constexpr size_t kWords = 1024;  // random words made at a time

#if HWY_TARGET == HWY_SCALAR
void FillWords(const StreamKey& s, uint32_t block, size_t blocks, uint32_t* words) {
  for (size_t b = 0; b < blocks; ++b) {
    const Philox4 four = RandomBlock(s, block + static_cast<uint32_t>(b));
    std::copy_n(four.data(), 4, words + 4 * b);
  }
}
#else
// The two halves of the 64-bit products.
HWY_INLINE void MulWide(VU a, uint32_t by, VU& high, VU& low) {
  const DU d;
  const hn::RepartitionToWide<DU> wide;
  const VU m = hn::Set(d, by);
  const auto even = hn::MulEven(a, m);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), m);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
}

// Makes the words of RandomBlock (rng.h) for blocks block, block + 1, ..., one in each lane; whole
// vectors are filled.
void FillWords(const StreamKey& s, uint32_t block, size_t blocks, uint32_t* words) {
  const DU d;
  for (size_t b = 0; b < blocks; b += hn::Lanes(d)) {
    VU c0 = hn::Add(hn::Iota(d, 0), hn::Set(d, block + static_cast<uint32_t>(b)));
    VU c1 = hn::Set(d, s.sample), c2 = hn::Set(d, static_cast<uint32_t>(s.step));
    VU c3 = hn::Set(d, static_cast<uint32_t>(s.step >> 32));
    uint32_t k0 = static_cast<uint32_t>(s.key), k1 = static_cast<uint32_t>(s.key >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      VU a_high, a_low, b_high, b_low;
      MulWide(c0, 0xD2511F53, a_high, a_low);
      MulWide(c2, 0xCD9E8D57, b_high, b_low);
      c0 = hn::Xor(hn::Xor(b_high, c1), hn::Set(d, k0));
      c2 = hn::Xor(hn::Xor(a_high, c3), hn::Set(d, k1));
      c1 = b_low, c3 = a_low;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, words + 4 * b);
  }
}
#endif

// Drops in one row: its elements [0, n) are positions run.position ... of the stream.
void DropElements(const DropState& s, const Run& run, const float* x, float* y, size_t n) {
  HWY_ALIGN uint32_t words[kWords + 8 * hn::MaxLanes(DU())];
  const DU d;
  const VU threshold = hn::Set(d, s.threshold);
  const VF scale = SetV(static_cast<float>(s.scale));
  for (size_t c = 0; c < n; c += kWords) {
    const size_t count = std::min(kWords, n - c);
    const uint64_t position = run.position + c;
    const size_t skip = position % 4;
    FillWords(run.stream, static_cast<uint32_t>(position / 4), (skip + count + 3) / 4, words);
    Transform(
        count, y + c,
        [&](VF v, VF word) HWY_ATTR {
          const VU w = hn::BitCast(d, word);
          const auto keep = hn::RebindMask(DF(), hn::Eq(hn::Max(w, threshold), w));
          return hn::Mul(v, hn::IfThenElseZero(keep, scale));
        },
        x + c, reinterpret_cast<const float*>(words + skip));
  }
}

void DropoutF32(const KernelArgs& a) {
  const DropState& s = *static_cast<const DropState*>(a.state);
  const int64_t cols = a.in[0].shape.cols(), sequences = a.in[1].shape[0] - 1;
  const size_t n = static_cast<size_t>(cols);
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const Run run = PlaceOf(s, a.in[1].i32(), sequences, a.in[2].i32(), r, cols);
    const float* x = a.in[0].f32() + r * cols;
    float* y = a.out[0].f32() + r * cols;
    if (!s.per_sequence) return DropElements(s, run, x, y, n);
    const VF mask = SetV(static_cast<float>(MaskOf(s, run, 0)));
    Transform(
        n, y, [mask](VF v) HWY_ATTR { return hn::Mul(v, mask); }, x);
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(DropoutF32);

void Reference(const ReferenceArgs& a) {
  const DropState s = StateOf(a.attrs);
  const int64_t cols = a.in_shape[0].cols(), sequences = a.in_shape[1][0] - 1;
  for (int64_t r = 0; r < a.in_shape[0].rows(); ++r) {
    const Run run = PlaceOf(s, a.in[1].data(), sequences, a.in[2].data(), r, cols);
    for (int64_t c = 0; c < cols; ++c) {
      const size_t i = static_cast<size_t>(r * cols + c);
      a.out[0][i] = a.in[0][i] * MaskOf(s, run, c);
    }
  }
}

std::vector<TensorType> Infer(Types in, const Attrs& attrs) {
  ExpectCount(in, 3);
  ExpectType(in[0], DType::kF32, "x");
  if (in[0].shape.size() != 1) ExpectRank(in[0], 2, "x");  // a vector is one row
  Columns(in[0]);
  ExpectType(in[1], DType::kI32, "offsets");
  ExpectRank(in[1], 1, "offsets");
  ExpectType(in[2], DType::kI32, "rng");
  ExpectShape(in[2], {2}, "rng");
  const double p = attrs.As<DropoutAttrs>().p;
  if (!(p >= 0 && p <= 1)) Fail("expected a probability p in [0, 1], found {}", p);
  return {in[0]};
}

SampleInput Ints(std::vector<int32_t> values) {
  SampleInput input;
  input.shape = {static_cast<int64_t>(values.size())};
  input.ints = std::move(values);
  return input;
}

std::vector<Sample> Samples() {
  const DropoutAttrs half{.p = 0.5, .seed = 7, .stream = "blocks.0"};
  const DropoutAttrs path{.p = 0.4, .per_sequence = true, .seed = 7, .stream = "blocks.1"};
  std::vector<int32_t> images;
  for (int32_t i = 0; i <= 8; ++i) images.push_back(197 * i);
  return {
      {"one", {{{1, 1}}, Ints({0, 1}), Ints({0, 0})}, half},
      {"odd", {{{9, 7}}, Ints({0, 3, 4, 9}), Ints({3, 5})}, half},
      {"prime", {{{31, 13}}, Ints({0, 11, 31}), Ints({1000, 0})}, half},
      {"empty", {{{0, 5}}, Ints({0, 0}), Ints({3, 5})}, half},
      {"no_sequence", {{{0, 5}}, Ints({0}), Ints({3, 5})}, half},
      {"vector", {{{31}}, Ints({0, 1}), Ints({3, 0})}, half},
      {"path", {{{9, 7}}, Ints({0, 3, 4, 9}), Ints({3, 5})}, path},
      {"never", {{{9, 7}}, Ints({0, 3, 4, 9}), Ints({3, 5})}, DropoutAttrs{.p = 0, .stream = ""}},
      {"always", {{{9, 7}}, Ints({0, 3, 4, 9}), Ints({3, 5})}, DropoutAttrs{.p = 1, .stream = ""}},
      {"large", {{{150, 257}}, Ints({0, 71, 72, 150}), Ints({3, 5})}, half},
      {"bench", {{{1576, 768}}, Ints(images), Ints({3, 5})}, half},
      {"bench_path", {{{1576, 768}}, Ints(images), Ints({3, 5})}, path}};
}

std::vector<ErrorSample> Errors() {
  const TensorType x{DType::kF32, {9, 7}}, offsets{DType::kI32, {4}}, rng{DType::kI32, {2}};
  const DropoutAttrs half{.p = 0.5, .stream = ""};
  return {{{x, offsets}, half, "expected 3 inputs, found 2"},
          {{{DType::kF32, {9, 2, 2}}, offsets, rng}, half, "expected x of rank 2, found"},
          {{x, {DType::kF32, {4}}, rng}, half, "expected offsets as i32, found f32[4]"},
          {{x, offsets, {DType::kI32, {3}}}, half, "expected rng [2], found i32[3]"},
          {{x, offsets, rng},
           DropoutAttrs{.p = 1.5, .stream = ""},
           "probability p in [0, 1], found 1.5"}};
}

}  // namespace

constinit const OpDef kDropout{
    .name = "dropout",
    .default_attrs = +[] { return Attrs(DropoutAttrs{}); },
    .infer = Infer,
    .reference = Reference,
    .prepare = +[](const PrepareArgs& a) -> Prepared {
      return {.run =
                  +[](const KernelArgs& k) noexcept {
                    HWY_DYNAMIC_DISPATCH(DropoutF32)
                    (k);
                  },
              .state = std::make_shared<const DropState>(StateOf(a.attrs)),
              .impl = {}};
    },
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      std::vector<ValueId> d(3);
      if (v.need[0])
        d[0] = Dropout(v.g, v.cotangent[0], v.in[1], v.in[2], v.attrs.As<DropoutAttrs>());
      return d;
    },
    .cost = PerElement<12>,
    .samples = Samples,
    .error_samples = Errors,
    .in_place = 0,
    .random = true};

}  // namespace graft
#endif  // HWY_ONCE
