// Reads how a camera was held (EXIF's orientation), and turns images by it.
#pragma once
#include <cstddef>
#include <span>

#include "data/image.h"

namespace graft {

// The orientation, 1 (as stored) to 8, that a JPEG (APP1), PNG (eXIf) or WebP (EXIF) file states in
// its EXIF block; 1 if it states none or the block is damaged.
int ExifOrientation(std::span<const std::byte> file);

// Turns and mirrors an image by image.orientation, as PIL's ImageOps.exif_transpose does; the
// orientation then is 1.
Image Upright(const Image& image);

}  // namespace graft
