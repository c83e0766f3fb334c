#include "ops/low_reference.h"

#include <algorithm>
#include <cmath>

#include "ops/low_cells.h"

namespace graft {
namespace {

double Byte64(float scaled, int64_t zero) {
  const auto z = static_cast<double>(zero);
  return std::clamp(std::nearbyint(double{scaled}) + z, 0.0, 255.0) - z;
}

}  // namespace

void RoundToBf16(std::vector<double>& x) { RoundToBf16(x.data(), {std::ssize(x), 1}, x.data()); }

void RoundToBf16(const double* x, const Line64& line, double* out) {
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] = double{FromBf16(ToBf16(static_cast<float>(line.At(x, i))))};
}

void RoundRow(const double* x, const Line64& line, double* out) {
  float min = 0, max = 0;
  for (int64_t i = 0; i < line.count; ++i) {
    const auto v = static_cast<float>(line.At(x, i));
    min = std::min(min, v), max = std::max(max, v);
  }
  const ByteRow row = ByteRowOf(min, max, 0);
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] =
        double{row.scale} * Byte64(static_cast<float>(line.At(x, i)) * row.inverse, row.zero);
}

void RoundStaticRow(const double* x, const Line64& line, const double* factors, int64_t zero,
                    double* out) {
  for (int64_t i = 0; i < line.count; ++i) {
    const float scaled = static_cast<float>(line.At(x, i)) * static_cast<float>(factors[i]);
    out[i * line.stride] = factors[line.count + i] * Byte64(scaled, zero) + (scaled - scaled);
  }
}

void RoundColumn(const double* w, const Line64& line, const double* factors, double* out) {
  std::vector<float> v;
  for (int64_t i = 0; i < line.count; ++i) {
    const auto x = static_cast<float>(line.At(w, i));
    v.push_back(factors ? x * static_cast<float>(factors[line.count + i]) : x);
  }
  const float scale = ByteScale(v.data(), line.count, 1);
  for (int64_t i = 0; i < line.count; ++i)
    out[i * line.stride] = double{scale} * ToByte(v[static_cast<size_t>(i)], scale) /
                           (factors ? factors[line.count + i] : 1);
}

}  // namespace graft
