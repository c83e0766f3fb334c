// Antialiased resizing of RGB images, byte for byte what Pillow 13's Image.resize gives for 8-bit
// images.
#pragma once
#include <string_view>

#include "data/image.h"

namespace graft {

enum class Filter { kBilinear, kBicubic };

std::string_view ToString(Filter filter);  // "bilinear", "bicubic"
// The inverse of ToString. Throws Error naming the text.
Filter ParseFilter(std::string_view text);

// A part of a resized image.
struct ImagePart {
  int left, top, width, height;
};

// REQUIRES: width, height > 0 and a non-empty image. Thread-safe; uses one thread. It works in
// strips: the memory that it needs beside the image is ResizeBytes, however long a side is.
Image Resize(const Image& image, int width, int height, Filter filter);
// Makes one part of the result without the rest. REQUIRES: the part is not empty and lies inside.
Image Resize(const Image& image, int width, int height, Filter filter, const ImagePart& part);

// The bytes that it takes at most, with the result.
int64_t ResizeBytes(int in_width, int in_height, int width, int height, const ImagePart& part);

}  // namespace graft
