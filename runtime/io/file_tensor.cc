#include "runtime/io/file_tensor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/error.h"

namespace graft {
namespace {

struct Info {
  std::string_view name;
  int bits;
};
constexpr Info kInfos[] = {
    // in the order of FileDType
    {"BOOL", 8},        {"U8", 8},      {"I8", 8},      {"U16", 16},        {"I16", 16},
    {"F16", 16},        {"BF16", 16},   {"U32", 32},    {"I32", 32},        {"F32", 32},
    {"U64", 64},        {"I64", 64},    {"F64", 64},    {"C64", 64},        {"F4", 4},
    {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"F8_E4M3", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2", 8},
    {"F8_E5M2FNUZ", 8}, {"F8_E8M0", 8},
};

float FromBf16(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

float FromF16(uint16_t x) {
  const uint32_t sign = static_cast<uint32_t>(x & 0x8000) << 16;
  const uint32_t exponent = x >> 10 & 31, mantissa = x & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000 | mantissa << 13);
  if (exponent == 0)  // subnormal: mantissa * 2^-24 is exact
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f));
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

uint16_t ToF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000;
  const uint32_t size = bits & 0x7FFFFFFF;
  const auto with_sign = [&](uint32_t half) { return static_cast<uint16_t>(sign | half); };
  if (size > 0x7F800000) return with_sign(0x7E00);   // NaN
  if (size >= 0x477FF000) return with_sign(0x7C00);  // from 65520 on
  if (size < 0x38800000)  // subnormal: beside 0.5 a float has the steps of 2^-24 that it needs
    return with_sign(std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) -
                     std::bit_cast<uint32_t>(0.5f));
  return with_sign((size + 0xFFF + (size >> 13 & 1) - 0x38000000) >> 13);
}

template <class F>
void Halve(std::span<const float> in, std::span<std::byte> out, F convert) {
  for (size_t i = 0; i < in.size(); ++i) {
    const uint16_t half = convert(in[i]);
    std::memcpy(out.data() + i * sizeof(half), &half, sizeof(half));
  }
}

template <class T, class F>
void Convert(std::span<const std::byte> in, std::span<float> out, F convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    T x;
    std::memcpy(&x, in.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(x);
  }
}

template <class T>
void Cast(std::span<const std::byte> in, std::span<float> out) {
  Convert<T>(in, out, [](T x) { return static_cast<float>(x); });
}

}  // namespace

static_assert(std::size(kInfos) == static_cast<size_t>(FileDType::kF8E8M0) + 1);

std::string_view ToString(FileDType dtype) { return kInfos[static_cast<size_t>(dtype)].name; }
int BitSize(FileDType dtype) { return kInfos[static_cast<size_t>(dtype)].bits; }

std::optional<FileDType> ParseFileDType(std::string_view name) {
  for (size_t i = 0; i < std::size(kInfos); ++i)
    if (kInfos[i].name == name) return static_cast<FileDType>(i);
  return std::nullopt;
}

bool ConvertsToFloat(FileDType dtype) { return dtype <= FileDType::kF64; }

bool IsFloatingPoint(FileDType dtype) {
  return dtype == FileDType::kF16 || dtype == FileDType::kBF16 || dtype == FileDType::kF32 ||
         dtype == FileDType::kF64;
}

void ToFloat(FileDType dtype, std::span<const std::byte> in, std::span<float> out) {
  GRAFT_CHECK(ConvertsToFloat(dtype), "{}", ToString(dtype));
  GRAFT_CHECK(in.size() == out.size() * static_cast<size_t>(BitSize(dtype)) / 8);
  switch (dtype) {
    case FileDType::kBool:
      return Convert<uint8_t>(in, out, [](uint8_t x) { return x ? 1.f : 0.f; });
    case FileDType::kU8:
      return Cast<uint8_t>(in, out);
    case FileDType::kI8:
      return Cast<int8_t>(in, out);
    case FileDType::kU16:
      return Cast<uint16_t>(in, out);
    case FileDType::kI16:
      return Cast<int16_t>(in, out);
    case FileDType::kF16:
      return Convert<uint16_t>(in, out, FromF16);
    case FileDType::kBF16:
      return Convert<uint16_t>(in, out, FromBf16);
    case FileDType::kU32:
      return Cast<uint32_t>(in, out);
    case FileDType::kI32:
      return Cast<int32_t>(in, out);
    case FileDType::kF32:
      return Cast<float>(in, out);
    case FileDType::kU64:
      return Cast<uint64_t>(in, out);
    case FileDType::kI64:
      return Cast<int64_t>(in, out);
    case FileDType::kF64:
      return Cast<double>(in, out);
    default:
      return;
  }
}

void FromFloat(FileDType dtype, std::span<const float> in, std::span<std::byte> out) {
  GRAFT_CHECK(out.size() == in.size() * static_cast<size_t>(BitSize(dtype)) / 8);
  if (dtype == FileDType::kF16) return Halve(in, out, ToF16);
  if (dtype == FileDType::kBF16) return Halve(in, out, ToBf16);
  GRAFT_CHECK(dtype == FileDType::kF32, "{}", ToString(dtype));
  std::ranges::copy(std::as_bytes(in), out.begin());
}

void RoundTo(FileDType dtype, std::span<float> values) {
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(BitSize(dtype)) / 8);
  FromFloat(dtype, values, bytes);
  ToFloat(dtype, bytes, values);
}

int64_t TensorBytes(FileDType dtype, std::span<const int64_t> shape) {
  // The product is taken in the order of the dimensions, as in the official reader: [2^40, 2^40, 0]
  // is refused by both.
  uint64_t bits = 1;
  for (const int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bits, static_cast<uint64_t>(extent), &bits)) return -1;
  if (__builtin_mul_overflow(bits, static_cast<uint64_t>(BitSize(dtype)), &bits)) return -1;
  return bits % 8 == 0 ? static_cast<int64_t>(bits / 8) : -1;
}

TensorToWrite ToWrite(std::string name, const ParamStore::Entry& entry) {
  return {.name = std::move(name),
          .dtype = entry.dtype == DType::kU8 ? FileDType::kU8 : FileDType::kF32,
          .shape = {entry.shape.d.begin(), entry.shape.d.begin() + entry.shape.rank},
          .bytes = entry.bytes()};
}

}  // namespace graft
