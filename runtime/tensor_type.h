// Element types, symbolic and concrete shapes, all of them plain values that own nothing.
//
// A dimension of the graph is an affine form  constant + sequences*S + tokens*T : S sequences in
// the batch, T tokens in all of them. One graph therefore serves every batch; a Session binds (S,
// T).
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace graft {

// f32 for all arithmetic, i32 for indices, u8 for the codes of quantised parameters, bf16 for what
// lies between two operators of low precision.
enum class DType : uint8_t { kF32, kI32, kU8, kBf16 };
constexpr size_t ByteSize(DType dtype) {
  return dtype == DType::kU8 ? 1 : dtype == DType::kBf16 ? 2 : 4;
}
std::string ToString(DType dtype);

// What a run binds: the number of sequences (images, texts) and of tokens in all of them.
struct Counts {
  int64_t sequences = 1, tokens = 0;
  bool operator==(const Counts&) const = default;
};

struct Dim {
  int64_t constant = 0, sequences = 0, tokens = 0;
  constexpr Dim() = default;
  constexpr Dim(int64_t c) : constant(c) {}  // implicit: most dimensions are plain numbers
  constexpr Dim(int64_t c, int64_t s, int64_t t) : constant(c), sequences(s), tokens(t) {}
  static constexpr Dim Sequences(int64_t times = 1) { return {0, times, 0}; }
  static constexpr Dim Tokens(int64_t times = 1) { return {0, 0, times}; }
  constexpr bool fixed() const { return sequences == 0 && tokens == 0; }
  constexpr int64_t At(const Counts& n) const {
    return constant + sequences * n.sequences + tokens * n.tokens;
  }
  bool operator==(const Dim&) const = default;
};
constexpr Dim operator+(Dim a, Dim b) {
  return {a.constant + b.constant, a.sequences + b.sequences, a.tokens + b.tokens};
}
constexpr Dim operator*(Dim a, int64_t k) {
  return {a.constant * k, a.sequences * k, a.tokens * k};
}

// At most four dimensions. They are kept in place, as graphs make and copy shapes all the time.
class Shape {
 public:
  static constexpr size_t kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<Dim> dims) : Shape(dims.begin(), dims.end()) {}
  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }
  // Throws Error for a fifth one.
  void push_back(Dim dim) {
    if (rank_ == kMaxRank) FailRank();
    dims_[rank_++] = dim;
  }
  size_t size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  Dim* begin() { return dims_.data(); }
  Dim* end() { return dims_.data() + rank_; }
  const Dim* begin() const { return dims_.data(); }
  const Dim* end() const { return dims_.data() + rank_; }
  Dim& operator[](size_t i) { return dims_[i]; }
  const Dim& operator[](size_t i) const { return dims_[i]; }
  Dim& back() { return dims_[rank_ - 1]; }
  const Dim& back() const { return dims_[rank_ - 1]; }
  bool operator==(const Shape&) const = default;  // dimensions past the rank are all alike

 private:
  [[noreturn]] void FailRank() const;
  std::array<Dim, kMaxRank> dims_{};
  size_t rank_ = 0;
};

// The largest part of a dimension of a graph, so that a product of two of them does not wrap.
constexpr int64_t kMaxDim = int64_t{1} << 31;
// Throws Error for a dimension that is negative or beyond kMaxDim in one of its parts.
void CheckDims(const Shape& shape);

struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;
  bool operator==(const TensorType&) const = default;
};

// A concrete shape of rank at most 4, without allocation.
struct Extents {
  std::array<int64_t, 4> d{};
  int rank = 0;
  Extents() = default;
  Extents(std::initializer_list<int64_t> dims) {
    for (int64_t x : dims) d[rank++] = x;
  }
  int64_t operator[](int i) const { return d[i]; }
  int64_t size() const;                                    // product of the extents
  int64_t cols() const { return rank ? d[rank - 1] : 1; }  // the last one
  int64_t rows() const;                                    // product of all but the last
  bool operator==(const Extents&) const = default;
};

Extents At(const Shape& shape, const Counts& counts);
Shape ToShape(const Extents& extents);

std::string ToString(const Dim& dim);      // "197", "197*s", "1+s+2*t"
std::string ToString(const Shape& shape);  // "[197*s,768]"
std::string ToString(const Extents& extents);
std::string ToString(const TensorType& type);  // "f32[197*s,768]"
// The inverse of ToString. Throws Error that names the text.
TensorType ParseTensorType(std::string_view text);

// An untyped view of a buffer that someone else owns.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Extents shape;
  float* f32() const { return static_cast<float*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }
  uint8_t* u8() const { return static_cast<uint8_t*>(data); }
  uint16_t* bf16() const { return static_cast<uint16_t*>(data); }  // bits
};

}  // namespace graft
