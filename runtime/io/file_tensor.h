// What all files of tensors share: element types, their conversion to float, and tensors to be
// written.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/params.h"

namespace graft {

// The element types of files, of which there are far more than a graph has.
enum class FileDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
  kC64,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kF8E4M3,
  kF8E4M3Fnuz,
  kF8E5M2,
  kF8E5M2Fnuz,
  kF8E8M0,
};
std::string_view ToString(FileDType dtype);  // as in the format: "F32", "BF16"
std::optional<FileDType> ParseFileDType(std::string_view name);
int BitSize(FileDType dtype);
// Whether ToFloat converts it: it does so for booleans, integers, and floats of 16, 32 and 64 bits.
bool ConvertsToFloat(FileDType dtype);
bool IsFloatingPoint(FileDType dtype);  // of 16, 32 or 64 bits
// Converts to float. REQUIRES: in.size() == out.size() * BitSize / 8; `in` need not be aligned.
void ToFloat(FileDType dtype, std::span<const std::byte> in, std::span<float> out);
// Converts to floats of 16 or 32 bits as PyTorch does: to the nearest value, of two equally near
// ones to the even one, and to infinity beyond the range.
void FromFloat(FileDType dtype, std::span<const float> in, std::span<std::byte> out);
// Rounds every value as FromFloat and ToFloat would leave it.
void RoundTo(FileDType dtype, std::span<float> values);

// The number of bytes of a tensor; -1 if it is not whole or too large.
int64_t TensorBytes(FileDType dtype, std::span<const int64_t> shape);

// A tensor to be written. Its bytes live elsewhere, so that saving needs no second copy.
struct TensorToWrite {
  std::string name;
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};
TensorToWrite ToWrite(std::string name, const ParamStore::Entry& entry);
template <class T>
TensorToWrite ToWrite(std::string name, std::vector<int64_t> shape, std::span<const T> values) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t> ||
                std::is_same_v<T, int64_t> || std::is_same_v<T, uint8_t>);
  constexpr FileDType kDType = std::is_same_v<T, float>     ? FileDType::kF32
                               : std::is_same_v<T, int32_t> ? FileDType::kI32
                               : std::is_same_v<T, int64_t> ? FileDType::kI64
                                                            : FileDType::kU8;
  return {std::move(name), kDType, std::move(shape), std::as_bytes(values)};
}

}  // namespace graft
