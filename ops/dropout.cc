// Dropout and drop-path: x times a mask of 0 and 1/(1-p). An element's word is that of the stream
// (seed, purpose, scope) at {step, first + sequence, position in the sequence}; drop-path draws at
// position 0. Multiplying, not selecting, keeps a NaN where the mask is 0.
#include <algorithm>

#include "ops/records.h"
#include "runtime/rng.h"
#include "runtime/threads.h"

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

// Where row r stands. T is int32_t, or double in the reference.
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

// The mask of a row's element: 0 or 1 / (1 - p).
double MaskOf(const DropState& s, const Run& run, int64_t col) {
  const uint64_t position = s.per_sequence ? 0 : run.position + static_cast<uint64_t>(col);
  return RandomWord(run.stream, position) >= s.threshold ? s.scale : 0;
}

void DropoutF32(const KernelArgs& a) noexcept {
  const DropState& s = *static_cast<const DropState*>(a.state);
  const int64_t cols = a.in[0].shape.cols(), sequences = a.in[1].shape[0] - 1;
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  const FixedChunks cut(a.in[0].shape.rows(), std::max<int64_t>(1, kChunk / cols));
  ParallelFor(cut.count(), [&](int64_t i) {
    for (int64_t r = cut.begin(i); r < cut.end(i); ++r) {
      const Run run = PlaceOf(s, a.in[1].i32(), sequences, a.in[2].i32(), r, cols);
      for (int64_t c = 0; c < cols; ++c)
        y[r * cols + c] = x[r * cols + c] * static_cast<float>(MaskOf(s, run, c));
    }
  });
}

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
  ExpectRank(in[0], 2, "x");
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
  return {{"one", {{{1, 1}}, Ints({0, 1}), Ints({0, 0})}, half},
          {"odd", {{{9, 7}}, Ints({0, 3, 4, 9}), Ints({3, 5})}, half},
          {"prime", {{{31, 13}}, Ints({0, 11, 31}), Ints({1000, 0})}, half},
          {"empty", {{{0, 5}}, Ints({0, 0}), Ints({3, 5})}, half},
          {"no_sequence", {{{0, 5}}, Ints({0}), Ints({3, 5})}, half},
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
          {{{DType::kF32, {9}}, offsets, rng}, half, "expected x of rank 2, found f32[9]"},
          {{x, {DType::kF32, {4}}, rng}, half, "expected offsets as i32, found f32[4]"},
          {{x, offsets, {DType::kI32, {3}}}, half, "expected rng [2], found i32[3]"},
          {{x, offsets, rng}, DropoutAttrs{.p = 1.5, .stream = ""}, "probability p in [0, 1], found 1.5"}};
}

}  // namespace

constinit const OpDef kDropout{
    .name = "dropout",
    .default_attrs = +[] { return Attrs(DropoutAttrs{}); },
    .infer = Infer,
    .reference = Reference,
    .prepare = +[](const PrepareArgs& a) -> Prepared {
      return {.run = DropoutF32, .state = std::make_shared<const DropState>(StateOf(a.attrs)),
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
