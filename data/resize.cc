// Two passes of fixed-point convolution. The tables of weights are computed in double exactly as
// PIL does, because equal bytes need equal rounding: the order of the operations below matters.
#include "data/resize.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

// GCC compiles the two inner loops for wider vectors too and picks at load time. The arithmetic is
// integer, so the result does not depend on the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define GRAFT_WIDE_VECTORS __attribute__((target_clones("avx2", "sse4.2", "default")))
#else
#define GRAFT_WIDE_VECTORS
#endif

namespace graft {
namespace {

// 8 bits for the result, 2 for sums of weights below 0 or above 1, the rest of 32 for the fraction.
constexpr int kFractionBits = 32 - 8 - 2;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

double Bilinear(double x) { return x < 1.0 ? 1.0 - x : 0.0; }

// Cubic convolution with a = -1/2, for x >= 0.
double Bicubic(double x) {
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// For each output position: the first input it reads and one fixed-point weight per input.
struct Taps {
  struct Window {
    size_t first, count, weights;  // `weights` is an offset into Taps::weights
  };
  std::vector<Window> windows;
  std::vector<int32_t> weights;
};

int32_t ToFixed(double w) {
  return static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kFractionBits));
}

Taps MakeTaps(int in, int out, Filter filter) {
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0);  // enlarging reads neighbours, shrinking averages
  const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * stretch;
  const double inverse = 1.0 / stretch;
  Taps taps;
  std::vector<double> window;
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(in, static_cast<int>(center + support + 0.5));
    window.clear();
    double sum = 0.0;
    for (int x = 0; x < last - first; ++x) {
      const double distance = std::abs((x + first - center + 0.5) * inverse);
      window.push_back(filter == Filter::kBicubic ? Bicubic(distance) : Bilinear(distance));
      sum += window.back();
    }
    taps.windows.push_back({static_cast<size_t>(first), window.size(), taps.weights.size()});
    for (double w : window) taps.weights.push_back(ToFixed(sum != 0.0 ? w / sum : w));
  }
  return taps;
}

uint8_t ToByte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

// Rows are handled eight at a time, transposed, so that one weight meets eight samples in a row.
constexpr size_t kLanes = 8;

// samples: [3 * in width][kLanes]; out: kLanes rows of 3 * windows.size() bytes.
GRAFT_WIDE_VECTORS
void ConvolveLanes(const Taps& taps, const int32_t* samples, uint8_t* out) {
  const size_t row = 3 * taps.windows.size();
  for (size_t x = 0; x < taps.windows.size(); ++x) {
    const Taps::Window& window = taps.windows[x];
    for (size_t c = 0; c < 3; ++c) {
      int32_t sums[kLanes];
      for (size_t r = 0; r < kLanes; ++r) sums[r] = kHalf;
      const int32_t* in = samples + (3 * window.first + c) * kLanes;
      for (size_t t = 0; t < window.count; ++t, in += 3 * kLanes) {
        const int32_t weight = taps.weights[window.weights + t];
        for (size_t r = 0; r < kLanes; ++r) sums[r] += weight * in[r];
      }
      for (size_t r = 0; r < kLanes; ++r) out[r * row + 3 * x + c] = ToByte(sums[r]);
    }
  }
}

Image ResizeWidth(const Image& image, int width, Filter filter) {
  const Taps taps = MakeTaps(image.width, width, filter);
  const size_t in_row = 3 * static_cast<size_t>(image.width), out_row = 3 * taps.windows.size();
  const auto height = static_cast<size_t>(image.height);
  Image out{width, image.height, std::vector<uint8_t>(out_row * height)};
  std::vector<int32_t> samples(in_row * kLanes);
  std::vector<uint8_t> rows(out_row * kLanes);
  for (size_t y = 0; y < height; y += kLanes) {
    const size_t count = std::min(kLanes, height - y);
    for (size_t r = 0; r < count; ++r) {
      const uint8_t* in = image.rgb.data() + (y + r) * in_row;
      for (size_t i = 0; i < in_row; ++i) samples[i * kLanes + r] = in[i];
    }
    ConvolveLanes(taps, samples.data(), rows.data());
    std::copy_n(rows.data(), count * out_row, out.rgb.data() + y * out_row);
  }
  return out;
}

// sums[i] += weight * in[i]
GRAFT_WIDE_VECTORS
void AddRow(int32_t* __restrict sums, const uint8_t* __restrict in, int32_t weight, size_t n) {
  for (size_t i = 0; i < n; ++i) sums[i] += weight * in[i];
}

Image ResizeHeight(const Image& image, int height, Filter filter) {
  const Taps taps = MakeTaps(image.height, height, filter);
  const size_t row = 3 * static_cast<size_t>(image.width);
  Image out{image.width, height, std::vector<uint8_t>(row * taps.windows.size())};
  std::vector<int32_t> sums(row);
  for (size_t y = 0; y < taps.windows.size(); ++y) {
    const Taps::Window& window = taps.windows[y];
    std::fill(sums.begin(), sums.end(), kHalf);
    for (size_t t = 0; t < window.count; ++t)
      AddRow(sums.data(), image.rgb.data() + (window.first + t) * row,
             taps.weights[window.weights + t], row);
    std::transform(sums.begin(), sums.end(), out.rgb.data() + y * row, ToByte);
  }
  return out;
}

// Each pass rounds to bytes, so their order shows in the result. Pillow before 13 always begins
// with the width; from 13.0 on it begins with the height when that loses more than twice as many
// pixels as the width. (Observed on Pillow 13.0.0 for 3,000 random pairs of sizes.)
bool HeightFirst(const Image& image, int width, int height) {
  const int64_t height_loss = int64_t{image.height} - height;
  const int64_t width_loss = int64_t{image.width} - width;
  return height_loss > 0 && height_loss > 2 * width_loss;
}

}  // namespace

std::string_view ToString(Filter filter) {
  return filter == Filter::kBicubic ? "bicubic" : "bilinear";
}

Filter ParseFilter(std::string_view text) {
  for (Filter filter : {Filter::kBilinear, Filter::kBicubic})
    if (text == ToString(filter)) return filter;
  Fail("filter: expected bilinear or bicubic, found '{}'", text);
}

Image Resize(const Image& image, int width, int height, Filter filter) {
  GRAFT_CHECK(width > 0 && height > 0 && image.width > 0 && image.height > 0,
              "resize of {} x {} to {} x {}", image.width, image.height, width, height);
  const bool wide = width != image.width, high = height != image.height;
  if (wide && high) {
    if (HeightFirst(image, width, height))
      return ResizeWidth(ResizeHeight(image, height, filter), width, filter);
    return ResizeHeight(ResizeWidth(image, width, filter), height, filter);
  }
  if (wide) return ResizeWidth(image, width, filter);
  return high ? ResizeHeight(image, height, filter) : image;
}

}  // namespace graft
