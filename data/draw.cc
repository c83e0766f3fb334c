#include "data/draw.h"

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

constexpr int kSamples = 3;  // per pixel and direction

// The corners of the regular triangle and of the five-pointed star in the unit circle, the first
// one up.
struct Point {
  double u, v;
};
constexpr Point kTriangle[] = {{0, -1}, {0.8660254037844386, 0.5}, {-0.8660254037844386, 0.5}};
constexpr double kInner = 0.42;  // radius of the star's inner corners
constexpr Point kStar[] = {{0, -1},
                           {0.5877852522924731 * kInner, -0.8090169943749475 * kInner},
                           {0.9510565162951535, -0.3090169943749474},
                           {0.9510565162951535 * kInner, 0.3090169943749474 * kInner},
                           {0.5877852522924731, 0.8090169943749475},
                           {0, kInner},
                           {-0.5877852522924731, 0.8090169943749475},
                           {-0.9510565162951535 * kInner, 0.3090169943749474 * kInner},
                           {-0.9510565162951535, -0.3090169943749474},
                           {-0.5877852522924731 * kInner, -0.8090169943749475 * kInner}};

// Uses the even-odd rule.
template <size_t n>
bool InPolygon(const Point (&corners)[n], double u, double v) {
  bool inside = false;
  for (size_t i = 0, j = n - 1; i < n; j = i++) {
    const Point &a = corners[i], &b = corners[j];
    if ((a.v > v) != (b.v > v) && u < (b.u - a.u) * (v - a.v) / (b.v - a.v) + a.u) inside = !inside;
  }
  return inside;
}

// (u, v) are in the shape's own frame, in which its outer circle has radius 1.
bool InShape(ShapeKind kind, double u, double v) {
  const double square = u * u + v * v, far = std::max(std::abs(u), std::abs(v));
  const double near = std::min(std::abs(u), std::abs(v));
  switch (kind) {
    case ShapeKind::kDisk:
      return square < 0.81;
    case ShapeKind::kSquare:
      return far < 0.75;
    case ShapeKind::kTriangle:
      return InPolygon(kTriangle, u, v);
    case ShapeKind::kPlus:
      return near < 0.26 && far < 0.95;
    case ShapeKind::kRing:
      return square < 1.0 && square > 0.36;
    case ShapeKind::kStar:
      return InPolygon(kStar, u, v);
    case ShapeKind::kBar:
      return std::abs(u) < 1.0 && std::abs(v) < 0.3;
    case ShapeKind::kCrescent:
      return square < 1.0 && (u - 0.5) * (u - 0.5) + v * v > 0.64;
  }
  return false;
}

}  // namespace

uint64_t HashBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

Color FromHsv(double hue, double saturation, double value) {
  Color color;
  for (size_t c = 0; c < 3; ++c) {
    // Each channel is a trapezium over the colour circle, a third of a turn from the next.
    double at = hue + static_cast<double>(3 - c) / 3.0;
    at = (at - std::floor(at)) * 6.0;
    const double level = std::clamp(std::abs(at - 3.0) - 1.0, 0.0, 1.0);
    color[c] = value * (1.0 - saturation * (1.0 - level));
  }
  return color;
}

Canvas::Canvas(int size)
    : size_(size), pixels_(static_cast<size_t>(size) * static_cast<size_t>(size) * 3) {}

void Canvas::FillGradient(const Color& top, const Color& bottom) {
  for (int y = 0; y < size_; ++y) {
    const double down = (y + 0.5) / size_;
    for (int x = 0; x < size_; ++x)
      for (size_t c = 0; c < 3; ++c)
        pixels_[static_cast<size_t>(y * size_ + x) * 3 + c] = top[c] + (bottom[c] - top[c]) * down;
  }
}

void Canvas::Fill(const Box& box, const Color& color,
                  const std::function<bool(double, double)>& inside) {
  const auto pixel = [this](double at) {
    return static_cast<int>(std::clamp(std::floor(at * size_), 0.0, static_cast<double>(size_)));
  };
  const int right = std::min(size_, pixel(box.right) + 1);
  const int bottom = std::min(size_, pixel(box.bottom) + 1);
  for (int y = pixel(box.top); y < bottom; ++y) {
    for (int x = pixel(box.left); x < right; ++x) {
      int hits = 0;
      for (int s = 0; s < kSamples * kSamples; ++s)
        hits += inside((x + (s % kSamples + 0.5) / kSamples) / size_,
                       (y + (s / kSamples + 0.5) / kSamples) / size_);
      if (hits == 0) continue;
      const double share = static_cast<double>(hits) / (kSamples * kSamples);
      for (size_t c = 0; c < 3; ++c) {
        double& value = pixels_[static_cast<size_t>(y * size_ + x) * 3 + c];
        value += (color[c] - value) * share;
      }
    }
  }
}

Image Canvas::ToImage(HashStream& stream, double noise) const {
  Image image{size_, size_, std::vector<uint8_t>(pixels_.size())};
  for (size_t i = 0; i < pixels_.size(); ++i) {
    const double shifted = pixels_[i] + noise * (stream.Uniform() + stream.Uniform() - 1.0);
    image.rgb[i] = static_cast<uint8_t>(std::clamp(shifted, 0.0, 1.0) * 255.0 + 0.5);
  }
  return image;
}

void DrawShape(Canvas& canvas, const PlacedShape& shape, const Color& color) {
  // The cosine and sine of an angle whose half has the tangent t.
  const double t = shape.tilt, cosine = (1 - t * t) / (1 + t * t), sine = 2 * t / (1 + t * t);
  const Canvas::Box box{shape.x - shape.radius, shape.y - shape.radius, shape.x + shape.radius,
                        shape.y + shape.radius};
  canvas.Fill(box, color, [&](double x, double y) {
    const double dx = (x - shape.x) / shape.radius, dy = (y - shape.y) / shape.radius;
    return InShape(shape.kind, cosine * dx + sine * dy, cosine * dy - sine * dx);
  });
}

}  // namespace graft
