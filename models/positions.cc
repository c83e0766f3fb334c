// Makes position embeddings for images of another size: ResizePositions of vit.h.
#include <algorithm>
#include <cmath>

#include "models/vit.h"

namespace graft {
namespace {

// Keys' cubic kernel. PIL and torch's antialiased bicubic have a = -0.5, torch's plain one has
// -0.75.
double Cubic(double x, double a) {
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// Row i holds the weights of the `from` source positions for target i; the kernel widens when
// shrinking.
std::vector<double> ResampleMatrix(int64_t from, int64_t to) {
  std::vector<double> m(from * to);
  const double scale = static_cast<double>(from) / static_cast<double>(to),
               width = std::max(1.0, scale);
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    double sum = 0;
    for (int64_t j = 0; j < from; ++j)
      sum += m[i * from + j] = Cubic((static_cast<double>(j) + 0.5 - center) / width, -0.5);
    for (int64_t j = 0; j < from; ++j) m[i * from + j] /= sum;
  }
  return m;
}

// The same matrix with four neighbours each, whatever the scale; beyond the border the last one
// repeats.
std::vector<double> PlainMatrix(int64_t from, int64_t to) {
  std::vector<double> m(from * to);
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale - 0.5;
    const int64_t first = static_cast<int64_t>(std::floor(center)) - 1;
    for (int64_t j = first; j < first + 4; ++j)
      m[i * from + std::clamp<int64_t>(j, 0, from - 1)] +=
          Cubic(static_cast<double>(j) - center, -0.75);
  }
  return m;
}

}  // namespace

void ResizePositions(ParamStore& params, int64_t before, int64_t from, int64_t to, Resampling how) {
  const Extents shape = params.shape("pos_embed");
  const int64_t width = shape.cols();
  GRAFT_CHECK(shape.rows() == before + from * from, "grid {}", from);
  const std::vector<double> m =
      how == Resampling::kPlain ? PlainMatrix(from, to) : ResampleMatrix(from, to);
  const std::span<const float> old = params.values("pos_embed");
  std::vector<float> fresh((before + to * to) * width);
  std::copy_n(old.begin(), before * width, fresh.begin());
  for (int64_t y = 0; y < to; ++y)
    for (int64_t x = 0; x < to; ++x)
      for (int64_t sy = 0; sy < from; ++sy)
        for (int64_t sx = 0; sx < from; ++sx) {
          const double w = m[y * from + sy] * m[x * from + sx];
          if (w == 0) continue;
          const float* source = &old[(before + sy * from + sx) * width];
          float* target = &fresh[(before + y * to + x) * width];
          for (int64_t d = 0; d < width; ++d) target[d] += static_cast<float>(w * source[d]);
        }
  params.Set("pos_embed", {before + to * to, width}, fresh);
}

}  // namespace graft
