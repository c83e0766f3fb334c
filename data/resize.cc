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

// 8 of 32 bits are for the result and 2 for sums of weights below 0 or above 1; the rest is the
// fraction.
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

int32_t ToFixed(double w) {
  return static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kFractionBits));
}

// One direction of a resize: which inputs an output reads, with which weights.
class Axis {
 public:
  Axis(int in, int out, Filter filter)
      : in_(in),
        filter_(filter),
        scale_(static_cast<double>(in) / out),
        stretch_(std::max(scale_, 1.0)),
        inverse_(1.0 / stretch_) {}

  struct Window {
    int64_t first, end;  // inputs
    int64_t size() const { return end - first; }
  };
  Window WindowOf(int output) const {
    const double support = (filter_ == Filter::kBicubic ? 2.0 : 1.0) * stretch_;
    return {std::max(0, static_cast<int>(Center(output) - support + 0.5)),
            std::min(in_, static_cast<int>(Center(output) + support + 0.5))};
  }
  // Appends the fixed-point weights of inputs [from, to) of the output's window; `sum` is that of
  // all its weights.
  void AppendWeights(int output, int64_t from, int64_t to, double sum,
                     std::vector<int32_t>& weights) const {
    for (int64_t x = from; x < to; ++x) {
      const double w = Weight(output, x);
      weights.push_back(ToFixed(sum != 0.0 ? w / sum : w));
    }
  }
  double SumOfWeights(int output) const {
    const Window window = WindowOf(output);
    double sum = 0.0;
    for (int64_t x = window.first; x < window.end; ++x) sum += Weight(output, x);
    return sum;
  }

 private:
  double Center(int output) const { return (output + 0.5) * scale_; }
  double Weight(int output, int64_t input) const {
    const double distance =
        std::abs((static_cast<double>(input) - Center(output) + 0.5) * inverse_);
    return filter_ == Filter::kBicubic ? Bicubic(distance) : Bilinear(distance);
  }

  int in_;
  Filter filter_;
  double scale_, stretch_, inverse_;  // enlarging reads neighbours, shrinking averages
};

// Columns or rows of an image.
struct Range {
  int begin, end;
  int size() const { return end - begin; }
};

// The inputs that the outputs read.
Range InputsOf(const Axis& axis, const Range& outputs) {
  return {static_cast<int>(axis.WindowOf(outputs.begin).first),
          static_cast<int>(axis.WindowOf(outputs.end - 1).end)};
}

// There is memory for so many inputs of an axis at once, however long it is.
constexpr int64_t kStrip = 4096;

uint8_t ToByte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

// Rows are handled eight at a time, transposed, so that one weight meets eight samples in a row.
constexpr size_t kLanes = 8;

// For each output of a strip: its inputs, counted from the strip's first, and where their weights
// begin.
struct Taps {
  struct Window {
    size_t first, count, weights;
  };
  std::vector<Window> windows;
  std::vector<int32_t> weights;
};

Taps MakeTaps(const Axis& axis, const Range& outputs) {
  const int64_t start = axis.WindowOf(outputs.begin).first;
  Taps taps;
  for (int i = outputs.begin; i < outputs.end; ++i) {
    const Axis::Window w = axis.WindowOf(i);
    taps.windows.push_back(
        {static_cast<size_t>(w.first - start), static_cast<size_t>(w.size()), taps.weights.size()});
    axis.AppendWeights(i, w.first, w.end, axis.SumOfWeights(i), taps.weights);
  }
  return taps;
}

// Convolves `samples` [3 * inputs][kLanes]; `out` is kLanes rows of 3 * windows.size() bytes.
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

const uint8_t* Pixel(const Image& image, int64_t x, int64_t y) {
  return image.rgb.data() + 3 * (y * image.width + x);
}
uint8_t* Pixel(Image& image, int64_t x, int64_t y) {
  return image.rgb.data() + 3 * (y * image.width + x);
}

// Makes the output columns [at, at + strip.size()) of `out`, which read at most kStrip input
// columns.
void ResizeStrip(const Image& image, const Range& rows, const Axis& axis, const Range& strip,
                 int64_t at, Image& out) {
  const Taps taps = MakeTaps(axis, strip);
  const Range inputs = InputsOf(axis, strip);
  const size_t in_row = size_t{3} * static_cast<size_t>(inputs.size());
  const size_t out_row = 3 * taps.windows.size();
  std::vector<int32_t> samples(in_row * kLanes);
  std::vector<uint8_t> lanes(out_row * kLanes);
  for (int64_t y = rows.begin; y < rows.end; y += kLanes) {
    const size_t count = std::min(kLanes, static_cast<size_t>(rows.end - y));
    for (size_t r = 0; r < count; ++r) {
      const uint8_t* in = Pixel(image, inputs.begin, y + static_cast<int64_t>(r));
      for (size_t i = 0; i < in_row; ++i) samples[i * kLanes + r] = in[i];
    }
    ConvolveLanes(taps, samples.data(), lanes.data());
    for (size_t r = 0; r < count; ++r)
      std::copy_n(lanes.data() + r * out_row, out_row,
                  Pixel(out, at, y - rows.begin + static_cast<int64_t>(r)));
  }
}

// Makes column `at` of `out`, which reads more than kStrip input columns.
void ResizeLongWindow(const Image& image, const Range& rows, const Axis& axis, int output,
                      int64_t at, Image& out) {
  const Axis::Window window = axis.WindowOf(output);
  const double sum = axis.SumOfWeights(output);
  std::vector<int32_t> sums(3 * static_cast<size_t>(rows.size()), kHalf), weights;
  for (int64_t from = window.first; from < window.end; from += kStrip) {
    weights.clear();
    axis.AppendWeights(output, from, std::min(window.end, from + kStrip), sum, weights);
    for (int y = rows.begin; y < rows.end; ++y) {
      int32_t* const sums_of_row = &sums[3 * static_cast<size_t>(y - rows.begin)];
      const uint8_t* in = Pixel(image, from, y);
      for (const int32_t weight : weights)
        for (size_t c = 0; c < 3; ++c) sums_of_row[c] += weight * *in++;
    }
  }
  for (int y = 0; y < rows.size(); ++y)
    std::transform(&sums[3 * static_cast<size_t>(y)], &sums[3 * static_cast<size_t>(y)] + 3,
                   Pixel(out, at, y), ToByte);
}

// Makes columns of a result of `width` columns, from these rows of the image.
Image ResizeWidth(const Image& image, const Range& rows, int width, const Range& columns,
                  Filter filter) {
  const Axis axis(image.width, width, filter);
  Image out{columns.size(), rows.size(), {}};
  out.rgb.resize(size_t{3} * static_cast<size_t>(out.width) * static_cast<size_t>(out.height));
  for (int x = columns.begin; x < columns.end;) {
    const int64_t start = axis.WindowOf(x).first;
    int end = x;
    while (end < columns.end && axis.WindowOf(end).end - start <= kStrip) ++end;
    if (end > x)
      ResizeStrip(image, rows, axis, {x, end}, x - columns.begin, out);
    else
      ResizeLongWindow(image, rows, axis, end++, x - columns.begin, out);
    x = end;
  }
  return out;
}

// Computes sums[i] += weight * in[i].
GRAFT_WIDE_VECTORS
void AddRow(int32_t* __restrict sums, const uint8_t* __restrict in, int32_t weight, size_t n) {
  for (size_t i = 0; i < n; ++i) sums[i] += weight * in[i];
}

// Makes rows of a result of `height` rows, from these columns of the image, whose first row is row
// `first_row` of `in_height`.
Image ResizeHeight(const Image& image, int first_row, int in_height, const Range& columns,
                   int height, const Range& rows, Filter filter) {
  const Axis axis(in_height, height, filter);
  Image out{columns.size(), rows.size(), {}};
  const size_t row = size_t{3} * static_cast<size_t>(out.width);
  out.rgb.resize(row * static_cast<size_t>(out.height));
  std::vector<int32_t> sums(row), weights;
  for (int y = rows.begin; y < rows.end; ++y) {
    const Axis::Window window = axis.WindowOf(y);
    const double sum = axis.SumOfWeights(y);
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t from = window.first; from < window.end; from += kStrip) {
      weights.clear();
      axis.AppendWeights(y, from, std::min(window.end, from + kStrip), sum, weights);
      for (size_t t = 0; t < weights.size(); ++t)
        AddRow(sums.data(), Pixel(image, columns.begin, from + static_cast<int64_t>(t) - first_row),
               weights[t], row);
    }
    std::transform(sums.begin(), sums.end(), Pixel(out, 0, y - rows.begin), ToByte);
  }
  return out;
}

Image Cut(const Image& image, const Range& columns, const Range& rows) {
  Image out{columns.size(), rows.size(), {}};
  for (int y = rows.begin; y < rows.end; ++y)
    out.rgb.insert(out.rgb.end(), Pixel(image, columns.begin, y), Pixel(image, columns.end, y));
  return out;
}

// Each pass rounds to bytes, so their order shows in the result. Pillow before 13 always begins
// with the width; from 13.0 on it begins with the height when that loses more than twice as many
// pixels as the width. (Observed on Pillow 13.0.0 for 3,000 random pairs of sizes.)
bool HeightFirst(int in_width, int in_height, int width, int height) {
  const int64_t height_loss = int64_t{in_height} - height;
  const int64_t width_loss = int64_t{in_width} - width;
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
  return Resize(image, width, height, filter, {0, 0, width, height});
}

Image Resize(const Image& image, int width, int height, Filter filter, const ImagePart& part) {
  GRAFT_CHECK(width > 0 && height > 0 && image.width > 0 && image.height > 0,
              "resize of {} x {} to {} x {}", image.width, image.height, width, height);
  const Range columns{part.left, part.left + part.width}, rows{part.top, part.top + part.height};
  GRAFT_CHECK(columns.begin >= 0 && columns.size() > 0 && columns.end <= width && rows.begin >= 0 &&
                  rows.size() > 0 && rows.end <= height,
              "columns {} to {} and rows {} to {} of {} x {}", columns.begin, columns.end,
              rows.begin, rows.end, width, height);
  const bool wide = width != image.width, high = height != image.height;
  if (!wide && !high) return Cut(image, columns, rows);
  if (!wide) return ResizeHeight(image, 0, image.height, columns, height, rows, filter);
  if (!high) return ResizeWidth(image, rows, width, columns, filter);
  if (HeightFirst(image.width, image.height, width, height)) {
    const Range all{0, image.width};
    return ResizeWidth(ResizeHeight(image, 0, image.height, all, height, rows, filter),
                       {0, rows.size()}, width, columns, filter);
  }
  const Range inputs = InputsOf(Axis(image.height, height, filter), rows);
  return ResizeHeight(ResizeWidth(image, inputs, width, columns, filter), inputs.begin,
                      image.height, {0, columns.size()}, height, rows, filter);
}

int64_t ResizeBytes(int in_width, int in_height, int width, int height, const ImagePart& part) {
  int64_t between = 0;
  if (width != in_width && height != in_height)
    between = HeightFirst(in_width, in_height, width, height) ? int64_t{in_width} * part.height
                                                              : int64_t{in_height} * part.width;
  constexpr int64_t kStrips = 2 << 20;  // samples, lanes and weights of a strip
  return 3 * (between + int64_t{part.width} * part.height) + kStrips;
}

}  // namespace graft
