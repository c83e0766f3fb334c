#include "runtime/tensor_type.h"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace graft {

namespace {

constexpr std::string_view kDTypes[] = {"f32", "i32", "u8", "bf16"};  // in the order of DType

}  // namespace

std::string ToString(DType dtype) { return std::string(kDTypes[static_cast<size_t>(dtype)]); }

int64_t Extents::size() const {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= (*this)[i];
  return n;
}

int64_t Extents::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < rank; ++i) n *= (*this)[i];
  return n;
}

Extents At(const Shape& shape, const Counts& counts) {
  GRAFT_CHECK(shape.size() <= 4, "rank {}", shape.size());
  Extents e;
  for (const Dim& dim : shape) e.d[static_cast<size_t>(e.rank++)] = dim.At(counts);
  return e;
}

void Shape::FailRank() const {
  Fail("shape {}: expected at most {} dimensions, found more", ToString(*this), kMaxRank);
}

void CheckDims(const Shape& shape) {
  for (const Dim& dim : shape)
    for (const int64_t part : {dim.constant, dim.sequences, dim.tokens})
      if (part < 0 || part > kMaxDim)
        Fail("shape {}: expected dimensions from 0 to {}, found {}", ToString(shape), kMaxDim,
             part);
}

Shape ToShape(const Extents& extents) {
  return Shape(extents.d.begin(), extents.d.begin() + extents.rank);
}

std::string ToString(const Dim& dim) {
  std::string text;
  auto term = [&](int64_t k, const char* unit) {
    if (k == 0) return;
    if (!text.empty()) text += '+';
    text += k == 1 ? unit : fmt::format("{}*{}", k, unit);
  };
  if (dim.constant != 0) text = std::to_string(dim.constant);
  term(dim.sequences, "s");
  term(dim.tokens, "t");
  return text.empty() ? "0" : text;
}

std::string ToString(const Shape& shape) {
  std::string text = "[";
  for (const Dim& dim : shape) text += (text.size() > 1 ? "," : "") + ToString(dim);
  return text + "]";
}

std::string ToString(const Extents& extents) { return ToString(ToShape(extents)); }

std::string ToString(const TensorType& type) { return ToString(type.dtype) + ToString(type.shape); }

namespace {

Dim ParseDim(std::string_view text, std::string_view whole) {
  Dim dim;
  while (!text.empty()) {
    const size_t plus = text.find('+');
    std::string_view term = text.substr(0, plus);
    text = plus == std::string_view::npos ? "" : text.substr(plus + 1);
    int64_t k = 1;
    const auto [end, error] = std::from_chars(term.data(), term.data() + term.size(), k);
    const bool number = error == std::errc() && end != term.data();
    term.remove_prefix(static_cast<size_t>(number ? end - term.data() : 0));
    if (number && term.starts_with('*')) term.remove_prefix(1);
    if (k < -kMaxDim || k > kMaxDim)
      Fail("tensor type '{}': expected dimensions up to {}, found {}", whole, kMaxDim, k);
    if (term == "s")
      dim.sequences += k;
    else if (term == "t")
      dim.tokens += k;
    else if (term.empty() && number)
      dim.constant += k;
    else
      Fail("tensor type '{}': expected a dimension such as 197*s, found '{}'", whole, term);
  }
  return dim;
}

}  // namespace

TensorType ParseTensorType(std::string_view text) {
  TensorType type;
  const auto* dtype = std::ranges::find(kDTypes, text.substr(0, text.find('[')));
  if (dtype == std::end(kDTypes))
    Fail("tensor type '{}': expected it to begin with f32, i32, u8 or bf16", text);
  type.dtype = static_cast<DType>(dtype - kDTypes);
  std::string_view dims = text.substr(dtype->size());
  if (dims.size() < 2 || dims.front() != '[' || dims.back() != ']')
    Fail("tensor type '{}': expected dimensions in brackets", text);
  dims = dims.substr(1, dims.size() - 2);
  while (!dims.empty()) {
    const size_t comma = dims.find(',');
    if (type.shape.size() == Shape::kMaxRank)
      Fail("tensor type '{}': at most {} dimensions", text, Shape::kMaxRank);
    type.shape.push_back(ParseDim(dims.substr(0, comma), text));
    dims = comma == std::string_view::npos ? "" : dims.substr(comma + 1);
  }
  return type;
}

}  // namespace graft
