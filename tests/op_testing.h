// What the generic tests and the benchmark of operators share: inputs of a sample, running a kernel
// between guard words, comparing with the reference. It is a header, as every test is one file.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "ops/low_cells.h"
#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/threads.h"

namespace graft::testing {

using Doubles = std::vector<std::vector<double>>;

inline bool IsBench(const Sample& s) { return s.label.starts_with("bench"); }

// A sample with everything that is needed to run it.
struct OpCase {
  const OpDef* op = nullptr;
  Attrs attrs;
  std::vector<DType> in_type, out_type;
  std::vector<Extents> in_shape, out_shape;
  Doubles in;                  // exact in their types
  std::vector<bool> infinite;  // by input: whether it may be

  // Results by the reference for these inputs.
  Doubles Reference(const Doubles& inputs) const {
    return RunReference(*op, attrs, inputs, in_shape, out_shape);
  }
  bool IsFloat(size_t i) const { return in_type[i] == DType::kF32 || in_type[i] == DType::kBf16; }
};

// Result types for inputs of these extents, or throws Error. Results that depend on the batch alone
// get three sequences.
inline void InferCase(OpCase& c) {
  std::vector<TensorType> types;
  for (size_t i = 0; i < c.in_shape.size(); ++i)
    types.push_back({c.in_type[i], ToShape(c.in_shape[i])});
  c.out_shape.clear(), c.out_type.clear();
  for (const TensorType& t : c.op->infer(types, c.attrs)) {
    c.out_shape.push_back(At(t.shape, {.sequences = 3, .tokens = 3}));
    c.out_type.push_back(t.dtype);
  }
}

// Element types: i32 where integers are given, u8 where the sample says so. It cannot say i32 of an
// empty input, so those are i32 where the record takes nothing else.
inline void InferTypes(OpCase& c, const Sample& sample) {
  std::vector<size_t> open;
  for (size_t i = 0; i < sample.in.size(); ++i) {
    const SampleInput& input = sample.in[i];
    c.in_type.push_back(input.u8             ? DType::kU8
                        : input.bf16         ? DType::kBf16
                        : input.ints.empty() ? DType::kF32
                                             : DType::kI32);
    if (input.shape.size() == 0 && !input.u8 && !input.bf16) open.push_back(i);
  }
  for (uint32_t guess = 0;; ++guess) {
    for (size_t k = 0; k < open.size(); ++k)
      c.in_type[open[k]] = guess >> k & 1 ? DType::kI32 : DType::kF32;
    try {
      return InferCase(c);
    } catch (const Error&) {
      if (guess + 1 >= 1u << open.size()) throw;
    }
  }
}

inline OpCase MakeCase(const OpDef& op, const Sample& sample, uint32_t seed) {
  OpCase c{.op = &op,
           .attrs = sample.attrs,
           .in_type = {},
           .out_type = {},
           .in_shape = {},
           .out_shape = {},
           .in = {},
           .infinite = {}};
  if (c.attrs.empty() && op.default_attrs) c.attrs = op.default_attrs();
  for (const SampleInput& input : sample.in) {
    c.in_shape.push_back(input.shape);
    c.infinite.push_back(input.infinite);
  }
  InferTypes(c, sample);
  std::mt19937 random(seed);
  for (const SampleInput& input : sample.in) {
    std::vector<double> values(input.ints.begin(), input.ints.end());
    if (input.ints.empty()) {
      std::uniform_real_distribution<double> uniform(input.lo, input.hi);
      values.resize(input.shape.size());
      for (double& v : values)
        v = input.u8     ? static_cast<double>(random() % 256)
            : input.bf16 ? FromBf16(ToBf16(static_cast<float>(uniform(random))))
                         : static_cast<float>(uniform(random));
    }
    GRAFT_CHECK(values.size() == static_cast<size_t>(input.shape.size()), "{}/{}: {} integers",
                op.name, sample.label, values.size());
    c.in.push_back(std::move(values));
  }
  return c;
}

// Memory for n words, 64-byte aligned plus `shift` words, between guard words that are NaN: what is
// read or written outside shows.
class Guarded {
 public:
  Guarded(size_t n, size_t shift) : n_(n), words_(n + 3 * kGuard, kGuardWord) {
    const size_t address = reinterpret_cast<size_t>(words_.data()) / 4;
    begin_ = kGuard + (kGuard - address % kGuard) % kGuard + shift;
    std::fill_n(words_.begin() + static_cast<int64_t>(begin_), n, kPoison);
  }
  void* data() { return words_.data() + begin_; }
  void Fill(const std::vector<double>& values, DType dtype) {
    if (dtype == DType::kU8) {
      std::ranges::transform(values, static_cast<uint8_t*>(data()),
                             [](double v) { return static_cast<uint8_t>(v); });
      return;
    }
    if (dtype == DType::kBf16) {
      std::ranges::transform(values, static_cast<uint16_t*>(data()),
                             [](double v) { return ToBf16(static_cast<float>(v)); });
      return;
    }
    for (size_t i = 0; i < n_; ++i)
      words_[begin_ + i] = dtype == DType::kI32
                               ? static_cast<uint32_t>(static_cast<int32_t>(values[i]))
                               : std::bit_cast<uint32_t>(static_cast<float>(values[i]));
  }
  bool intact() const {
    for (size_t i = 0; i < words_.size(); ++i)
      if ((i < begin_ || i >= begin_ + n_) && words_[i] != kGuardWord) return false;
    return true;
  }
  std::vector<uint32_t> words() const {
    const auto begin = words_.begin() + static_cast<int64_t>(begin_);
    return {begin, begin + static_cast<int64_t>(n_)};
  }

 private:
  static constexpr size_t kGuard = 16;
  static constexpr uint32_t kGuardWord = 0x7fbadbad, kPoison = 0x7fc0dead;
  size_t n_, begin_ = 0;
  std::vector<uint32_t> words_;
};

struct RunOptions {
  size_t shift = 0;        // of the inputs, in words
  bool in_place = false;   // result 0 in the memory of input OpDef::in_place
  bool constant = false;   // all inputs are told to `prepare` as never changing
  std::vector<int> share;  // by result: the input whose memory it takes, or -1
};

struct RunResult {
  std::vector<std::vector<uint32_t>> out;  // bits, in words of 32
  std::string broken;                      // names a buffer whose guard words were overwritten
  std::string impl;
};

// Owns the buffers of a case; Run may be called again and again (benchmarks).
class Runner {
 public:
  Runner(const OpCase& c, RunOptions options) : case_(c), options_(std::move(options)) {
    options_.share.resize(c.out_shape.size(), -1);
    if (options_.in_place) options_.share[0] = c.op->in_place;
    for (size_t i = 0; i < c.in.size(); ++i) {
      in_memory_.emplace_back((c.in[i].size() * ByteSize(c.in_type[i]) + 3) / 4, options_.shift);
      in_.push_back({in_memory_[i].data(), c.in_type[i], c.in_shape[i]});
      in_memory_[i].Fill(c.in[i], c.in_type[i]);
    }
    for (size_t k = 0; k < c.out_shape.size(); ++k) {
      out_memory_.emplace_back((c.out_shape[k].size() * ByteSize(c.out_type[k]) + 3) / 4, 0);
      const int shared = options_.share[k];
      out_.push_back(
          {shared >= 0 ? in_[shared].data : out_memory_[k].data(), c.out_type[k], c.out_shape[k]});
    }
    std::vector<const float*> constant;
    for (Tensor& t : in_)  // a parameter, which is never bf16
      constant.push_back(options_.constant && t.dtype != DType::kBf16 ? t.f32() : nullptr);
    prepared_.run = c.op->kernel;
    PackedConstants packed;
    if (c.op->prepare)
      prepared_ = c.op->prepare({c.in_shape, c.out_shape, constant, c.attrs, packed, c.in_type});
    if (prepared_.finish) prepared_.finish();
    scratch_.emplace_back((prepared_.scratch + 3) / 4, 0);
    const size_t bytes = (prepared_.thread_scratch + 63) / 64 * 64;
    own_ = {nullptr, bytes, Threads()};
    scratch_.emplace_back(bytes / 4 * static_cast<size_t>(own_.threads), 0);
    own_.data = static_cast<std::byte*>(scratch_[1].data());
  }
  Runner(const Runner&) = delete;

  void Run() noexcept {
    prepared_.run({in_, out_, case_.attrs, prepared_.state.get(),
                   static_cast<std::byte*>(scratch_[0].data()), own_});
  }

  RunResult Result() const {
    RunResult r;
    r.impl = prepared_.impl;
    for (size_t k = 0; k < out_.size(); ++k) {
      const int shared = options_.share[k];
      r.out.push_back((shared >= 0 ? in_memory_[shared] : out_memory_[k]).words());
      if (!out_memory_[k].intact()) r.broken = fmt::format("result {}", k);
    }
    for (size_t i = 0; i < in_.size(); ++i)
      if (!in_memory_[i].intact()) r.broken = fmt::format("input {}", i);
    for (const Guarded& scratch : scratch_)
      if (!scratch.intact()) r.broken = "scratch";
    return r;
  }

 private:
  const OpCase& case_;
  RunOptions options_;
  std::vector<Guarded> in_memory_, out_memory_, scratch_;
  std::vector<Tensor> in_, out_;
  ThreadScratch own_;
  Prepared prepared_;
};

inline RunResult RunKernel(const OpCase& c, RunOptions options = {}) {
  Runner runner(c, std::move(options));
  runner.Run();
  return runner.Result();
}

// What the error of each result is measured against beside its own size: with `cancels` the root
// mean square of what the reference makes of absolute values, otherwise nothing.
inline std::vector<double> ErrorScales(const OpCase& c) {
  std::vector<double> scales(c.out_shape.size());
  if (!c.op->cancels) return scales;
  Doubles positive = c.in;
  for (size_t i = 0; i < positive.size(); ++i)
    if (c.IsFloat(i))
      for (double& v : positive[i]) v = std::abs(v);
  const Doubles magnitude = c.Reference(positive);
  for (size_t k = 0; k < scales.size(); ++k) {
    double sum = 0, count = 1e-300;
    for (double m : magnitude[k])
      if (std::isfinite(m)) sum += m * m, ++count;
    scales[k] = std::sqrt(sum / count);
  }
  return scales;
}

// Returns element i of result k. A word holds two elements of bf16.
inline double Element(const OpCase& c, const RunResult& r, size_t k, size_t i) {
  const bool bf16 = c.out_type[k] == DType::kBf16;
  const uint32_t word = r.out[k][bf16 ? i / 2 : i];
  if (bf16) return FromBf16(static_cast<uint16_t>(i % 2 ? word >> 16 : word));
  return c.out_type[k] == DType::kI32 ? static_cast<double>(static_cast<int32_t>(word))
                                      : static_cast<double>(std::bit_cast<float>(word));
}

// Tells whether result bits agree with the reference: |error| <= rtol (|reference| + scale); NaN
// for NaN and infinity for infinity; i32 exactly. Returns "" or what differs.
inline std::string Compare(const OpCase& c, const RunResult& got, const Doubles& want) {
  if (!got.broken.empty()) return "wrote outside of " + got.broken;
  const std::vector<double> scales = ErrorScales(c);
  for (size_t k = 0; k < want.size(); ++k)
    for (size_t i = 0; i < want[k].size(); ++i) {
      const bool integer = c.out_type[k] == DType::kI32;
      const double x = Element(c, got, k, i), y = want[k][i], error = std::abs(x - y);
      double bound = integer ? 0 : c.op->rtol * (std::abs(y) + scales[k]) + 1e-37;
      if (c.out_type[k] == DType::kBf16) bound += std::abs(y) / 128;  // to the other neighbour
      const bool same = std::isnan(y) ? std::isnan(x) : std::isinf(y) ? x == y : error <= bound;
      if (!same)
        return fmt::format(
            "result {} element {} of {}: {}, the reference has {} (error {:.2g}, bound {:.2g})", k,
            i, ToString(c.out_shape[k]), x, y, error, bound);
    }
  return "";
}

}  // namespace graft::testing
