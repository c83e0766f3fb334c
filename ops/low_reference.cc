#include "ops/low_reference.h"

#include <algorithm>
#include <cmath>

#include "ops/hadamard.h"
#include "ops/low_cells.h"

namespace graft {
namespace {

double Byte64(float scaled, int64_t zero) {
  const auto z = static_cast<double>(zero);
  return std::clamp(std::nearbyint(double{scaled}) + z, 0.0, 255.0) - z;
}

std::vector<float> Transformed(const double* x, const Line64& line, float times = 1) {
  std::vector<float> v;
  for (int64_t i = 0; i < line.count; ++i) v.push_back(static_cast<float>(line.At(x, i)) * times);
  Hadamard(v.data(), line.count);
  return v;
}

ByteRow RangeOf(const std::vector<float>& v) {
  float least = 0, most = 0, rest = 0;
  for (const float x : v) least = std::min(least, x), most = std::max(most, x), rest += x - x;
  return ByteRowOf(least, most, rest);
}

}  // namespace

void RoundToBf16(std::vector<double>& x) { RoundToBf16(x.data(), {std::ssize(x), 1}, x.data()); }

void RoundToBf16(const double* x, const Line64& line, double* out) {
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] = double{FromBf16(ToBf16(static_cast<float>(line.At(x, i))))};
}

void ByteCells(const double* x, int64_t k, double* cells, double* range) {
  const std::vector<float> v = Transformed(x, {k, 1});
  const ByteRow row = RangeOf(v);
  range[0] = double{row.scale}, range[1] = double{row.zero};
  for (int64_t i = 0; i < k; i += 4) {
    uint32_t cell = 0;
    for (int64_t j = i; j < std::min(k, i + 4); ++j)
      cell |= uint32_t{ByteOf(v[static_cast<size_t>(j)], row)} << 8 * (j - i);
    cells[i / 4] = static_cast<double>(static_cast<int32_t>(cell));
  }
}

void NumbersOfCells(const double* cells, int64_t k, const double* range, double* out) {
  for (int64_t i = 0; i < k; ++i) {
    const auto cell = static_cast<uint32_t>(static_cast<int32_t>(cells[i / 4]));
    out[i] = range[0] * (static_cast<double>(cell >> 8 * (i % 4) & 255) - range[1]);
  }
}

void RoundRow(const double* x, const Line64& line, double* out) {
  const std::vector<float> v = Transformed(x, line);
  const ByteRow row = RangeOf(v);
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] =
        double{row.scale} * (ByteOf(v[static_cast<size_t>(i)], row) - double{row.zero});
}

void RoundStaticRow(const double* x, const Line64& line, const double* factors, int64_t zero,
                    double* out) {
  const std::vector<float> v = Transformed(x, line);
  for (int64_t i = 0; i < line.count; ++i) {
    const float scaled = v[static_cast<size_t>(i)] * static_cast<float>(factors[i]);
    out[i * line.stride] = factors[line.count + i] * Byte64(scaled, zero) + (scaled - scaled);
  }
}

void RoundColumn(const double* w, const Line64& line, const double* factors, double* out) {
  std::vector<float> v = Transformed(w, line, 1 / HadamardGain(line.count));
  for (int64_t i = 0; i < line.count && factors; ++i)
    v[static_cast<size_t>(i)] *= static_cast<float>(factors[line.count + i]);
  const float scale = ByteScale(v.data(), line.count);
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] = double{scale} * ToByte(v[static_cast<size_t>(i)], scale) /
                           (factors ? factors[line.count + i] : 1);
}

}  // namespace graft
