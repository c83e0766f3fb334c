// Antialiased resizing of RGB images, byte for byte what Pillow 13's Image.resize gives for 8-bit
// images.
#pragma once
#include <string_view>

#include "data/image.h"

namespace graft {

enum class Filter { kBilinear, kBicubic };

std::string_view ToString(Filter filter);  // "bilinear", "bicubic"
// Inverse of ToString; throws Error naming the text.
Filter ParseFilter(std::string_view text);

// REQUIRES: width, height > 0 and a non-empty image. Thread-safe; uses one thread.
Image Resize(const Image& image, int width, int height, Filter filter);

}  // namespace graft
