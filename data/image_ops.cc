#include "data/image_ops.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace graft {
namespace {

using Table = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

Image WithTables(const Image& image, const std::array<Table, 3>& tables) {
  Image out = image;
  for (size_t i = 0; i < out.rgb.size(); ++i) out.rgb[i] = tables[i % 3][out.rgb[i]];
  return out;
}

Table Identity() {
  Table table;
  for (int v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(v);
  return table;
}

// Maps each channel by a table that is made from its histogram.
template <class MakeTable>
Image ByHistogram(const Image& image, const MakeTable& make) {
  std::array<Histogram, 3> counts{};
  for (size_t i = 0; i < image.rgb.size(); ++i) ++counts[i % 3][image.rgb[i]];
  return WithTables(image, {make(counts[0]), make(counts[1]), make(counts[2])});
}

// What convert("L") computes: ITU-R 601-2 luma in 16 bits.
uint8_t Grey(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

// What Image.blend(degenerate, image, factor) computes, in float.
template <class Degenerate>
Image Blend(const Image& image, double factor, const Degenerate& degenerate) {
  const float alpha = static_cast<float>(factor);
  if (factor == 1) return image;
  Image out = image;
  for (size_t i = 0; i < out.rgb.size(); ++i) {
    const int other = degenerate(i);
    const float value =
        static_cast<float>(other) + alpha * static_cast<float>(image.rgb[i] - other);
    out.rgb[i] = value <= 0 ? 0 : value >= 255 ? 255 : static_cast<uint8_t>(value);
  }
  return out;
}

// The filter SMOOTH, (1 1 1; 1 5 1; 1 1 1) / 13; the border stays.
std::vector<uint8_t> Smooth(const Image& image) {
  std::vector<uint8_t> out = image.rgb;
  const int row = 3 * image.width;
  const float one = 1.0f / 13, five = 5.0f / 13;
  for (int y = 1; y + 1 < image.height; ++y)
    for (int i = 3; i < row - 3; ++i) {
      const uint8_t* at = &image.rgb[y * row + i];
      const auto of_row = [&](const uint8_t* p, float middle) {
        return static_cast<float>(p[-3]) * one + static_cast<float>(p[0]) * middle +
               static_cast<float>(p[3]) * one;
      };
      float sum = 0.5f;  // rounds
      sum += of_row(at + row, one);
      sum += of_row(at, five);
      sum += of_row(at - row, one);
      out[y * row + i] = sum <= 0 ? 0 : sum >= 255 ? 255 : static_cast<uint8_t>(sum);
    }
  return out;
}

// A number with 16 bits behind the point, in which Pillow steps along rows and columns.
int Fixed(double v) { return static_cast<int>(std::floor(v * 65536.0 + 0.5)); }

}  // namespace

Image Mirror(const Image& image) {
  Image out = image;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      std::copy_n(&image.rgb[3 * (y * image.width + image.width - 1 - x)], 3,
                  &out.rgb[3 * (y * image.width + x)]);
  return out;
}

Image Brightness(const Image& image, double factor) {
  return Blend(image, factor, [](size_t) { return 0; });
}

Image Saturation(const Image& image, double factor) {
  return Blend(image, factor, [&](size_t i) { return Grey(&image.rgb[i - i % 3]); });
}

Image Contrast(const Image& image, double factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.rgb.size(); i += 3) sum += Grey(&image.rgb[i]);
  const double count = static_cast<double>(image.rgb.size() / 3);
  const int mean = static_cast<int>(static_cast<double>(sum) / count + 0.5);
  return Blend(image, factor, [mean](size_t) { return mean; });
}

Image Sharpness(const Image& image, double factor) {
  const std::vector<uint8_t> smooth = Smooth(image);
  return Blend(image, factor, [&](size_t i) { return smooth[i]; });
}

Image Posterize(const Image& image, int bits) {
  Table table;
  for (int v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(v & ~((1 << (8 - bits)) - 1));
  return WithTables(image, {table, table, table});
}

Image Solarize(const Image& image, int threshold) {
  Table table;
  for (int v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(v < threshold ? v : 255 - v);
  return WithTables(image, {table, table, table});
}

Image AutoContrast(const Image& image) {
  return ByHistogram(image, [](const Histogram& counts) {
    Table table = Identity();
    const auto found = [](int64_t n) { return n > 0; };
    const int low = static_cast<int>(std::ranges::find_if(counts, found) - counts.begin());
    const int high = 255 - static_cast<int>(std::find_if(counts.rbegin(), counts.rend(), found) -
                                            counts.rbegin());
    if (high <= low) return table;
    const double scale = 255.0 / (high - low), offset = -low * scale;
    for (int v = 0; v < 256; ++v)
      table[v] = static_cast<uint8_t>(std::clamp(static_cast<int>(v * scale + offset), 0, 255));
    return table;
  });
}

Image Equalize(const Image& image) {
  return ByHistogram(image, [](const Histogram& counts) {
    Table table = Identity();
    int64_t all = 0, last = 0;
    int values = 0;
    for (const int64_t n : counts)
      if (n > 0) all += n, last = n, ++values;
    const int64_t step = (all - last) / 255;
    if (values <= 1 || step == 0) return table;
    int64_t n = step / 2;
    for (int v = 0; v < 256; ++v) {
      table[v] = static_cast<uint8_t>(std::min<int64_t>(n / step, 255));
      n += counts[v];
    }
    return table;
  });
}

Image Affine(const Image& image, const std::array<double, 6>& m) {
  Image out = image;
  std::ranges::fill(out.rgb, uint8_t{0});
  const int a = Fixed(m[0]), b = Fixed(m[1]), d = Fixed(m[3]), e = Fixed(m[4]);
  int c = Fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), f = Fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
  for (int y = 0; y < image.height; ++y, c += b, f += e)
    for (int x = 0, u = c, v = f; x < image.width; ++x, u += a, v += d) {
      const int from_x = u >> 16, from_y = v >> 16;
      if (from_x < 0 || from_x >= image.width || from_y < 0 || from_y >= image.height) continue;
      std::copy_n(&image.rgb[3 * (from_y * image.width + from_x)], 3,
                  &out.rgb[3 * (y * image.width + x)]);
    }
  return out;
}

Image ShearX(const Image& image, double by) {
  return Affine(image, {1, std::tan(std::atan(by)), 0, 0, 1, 0});
}

Image ShearY(const Image& image, double by) {
  return Affine(image, {1, 0, 0, std::tan(std::atan(by)), 1, 0});
}

Image Translate(const Image& image, int right, int down) {
  return Affine(image, {1, 0, -static_cast<double>(right), 0, 1, -static_cast<double>(down)});
}

Image Rotate(const Image& image, double degrees) {
  if (degrees == 0) return image;
  const double angle = -degrees * (std::numbers::pi / 180), round = 1e15;
  const double cos = std::round(std::cos(angle) * round) / round;
  const double sin = std::round(std::sin(angle) * round) / round;
  const double x = image.width / 2.0, y = image.height / 2.0;
  return Affine(image, {cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y});
}

}  // namespace graft
