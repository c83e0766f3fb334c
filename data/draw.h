// Draws for data/generate.cc: random numbers from a counter, colours and filled shapes.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "data/image.h"

namespace graft {

// splitmix64's finaliser: a bijection of 64-bit words in which every input bit reaches every output
// bit.
uint64_t HashBits(uint64_t x);

// The draws number 0, 1, ... of the stream `key`; draw n is a hash of (key, n).
class HashStream {
 public:
  explicit HashStream(uint64_t key) : key_(HashBits(key)) {}
  uint64_t Bits() { return HashBits(key_ + 0x9e3779b97f4a7c15u * ++count_); }
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1p-53; }  // [0, 1)
  double Between(double low, double high) { return low + (high - low) * Uniform(); }
  int Below(int n) { return static_cast<int>(Uniform() * n); }

 private:
  uint64_t key_, count_ = 0;
};

using Color = std::array<double, 3>;  // 0..1

// `hue` is in turns; saturation and value are in 0..1.
Color FromHsv(double hue, double saturation, double value);

// Pixels are in 0..1 and become bytes only at the end.
class Canvas {
 public:
  explicit Canvas(int size);
  int size() const { return size_; }
  // Fills with a linear ramp between two colours, from top to bottom.
  void FillGradient(const Color& top, const Color& bottom);
  // Blends `color` in where inside(x, y) holds; coordinates and the box are fractions of the side.
  // Edges are antialiased by 3 x 3 samples per pixel.
  struct Box {
    double left, top, right, bottom;
  };
  void Fill(const Box& box, const Color& color, const std::function<bool(double, double)>& inside);
  // Adds noise of this amplitude, triangular around 0, to every channel and rounds to bytes.
  Image ToImage(HashStream& stream, double noise) const;

 private:
  int size_;
  std::vector<double> pixels_;  // [size, size, 3]
};

enum class ShapeKind { kDisk, kSquare, kTriangle, kPlus, kRing, kStar, kBar, kCrescent };
inline constexpr int kShapeKinds = 8;

// A shape within the circle of `radius` around (x, y), all in fractions of the side. `tilt` is the
// tangent of half the angle of rotation, which needs no sine.
struct PlacedShape {
  ShapeKind kind;
  double x, y, radius, tilt;
};
void DrawShape(Canvas& canvas, const PlacedShape& shape, const Color& color);

}  // namespace graft
