// Decodes image files to RGB pixels, equal to what PIL's Image.open(f).convert("RGB") gives: JPEG,
// PNG, WebP, GIF, BMP, TIFF and the PBM/PGM/PPM family; of several frames the first. The format is
// decided by content, never by the file's name. No function here keeps state, so all may be called
// from many threads at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// Pixels row after row, with three bytes each; rgb.size() == 3 * width * height.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
  int orientation = 1;  // what EXIF says of the pixels, which are as stored (exif.h)
  bool operator==(const Image&) const = default;
};

// Images of more pixels are refused before any memory is allocated for them: 1 GiB / 24 bits / 2,
// the limit from which PIL, too, suspects a decompression bomb and raises.
inline constexpr int64_t kMaxImagePixels = 178'956'970;

// What decoding an image takes at most: its file, the decoder's buffers and the pixels.
struct DecodeCost {
  int width, height;
  int64_t bytes;
};
// Called once, when the header has been read and before anything large is allocated. It may wait,
// or throw to stop there.
using DecodeCheck = std::function<void(const DecodeCost&)>;

// Decodes a whole file held in memory; `name` only appears in messages. Alpha is ignored, EXIF
// orientation is not applied and 16-bit grey is clipped at 255, as convert("RGB") does. Throws
// Error for bytes that are not a complete image of a known format.
Image DecodeImage(std::span<const std::byte> bytes, std::string_view name,
                  const DecodeCheck& check = {});

// The largest file of an image that is read.
inline constexpr uint64_t kMaxImageBytes = uint64_t{1} << 30;

// Decodes a file. Throws Error if `path` is missing, not a regular file or not an image.
Image ReadImage(const std::string& path, const DecodeCheck& check = {});

// Encodes as a lossless 8-bit RGB PNG. WritePng throws Error if the file cannot be written.
std::vector<std::byte> EncodePng(const Image& image);
void WritePng(const std::string& path, const Image& image);

}  // namespace graft
