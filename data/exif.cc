#include "data/exif.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace graft {
namespace {

using namespace std::string_view_literals;

// Reads numbers of a block whose every offset may be wrong: what lies outside counts as not there.
class Numbers {
 public:
  Numbers(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  std::optional<uint32_t> At(uint64_t offset, size_t size) const {
    if (offset > bytes_.size() || bytes_.size() - offset < size) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t at = big_endian_ ? i : size - 1 - i;
      value = value << 8 | static_cast<unsigned char>(bytes_[offset + at]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

// Reads the tag in the first directory of a TIFF block, a whole number of 16 or 32 bits. Of several
// such tags the first one that can be read counts, as in PIL.
int OrientationOfTiff(std::string_view tiff) {
  constexpr uint32_t kTag = 0x0112, kEntryBytes = 12;
  const bool big = tiff.starts_with("MM\0\x2a"sv);
  if (!big && !tiff.starts_with("II\x2a\0"sv)) return 1;
  const Numbers numbers(tiff, big);
  const uint64_t directory = numbers.At(4, 4).value_or(UINT32_MAX);
  const uint32_t entries = numbers.At(directory, 2).value_or(0);
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + uint64_t{i} * kEntryBytes;
    const auto tag = numbers.At(entry, 2), type = numbers.At(entry + 2, 2),
               count = numbers.At(entry + 4, 4);
    if (!numbers.At(entry + 8, 4)) return 1;  // cut short
    const bool is_short = type == 3 || type == 8, is_long = type == 4 || type == 9;
    if (tag != kTag || count == 0u || (!is_short && !is_long)) continue;
    const uint64_t bytes = uint64_t{*count} * (is_short ? 2 : 4);
    const uint64_t place = bytes <= 4 ? entry + 8 : *numbers.At(entry + 8, 4);
    if (place > tiff.size() || tiff.size() - place < bytes) continue;
    const uint32_t value = *numbers.At(place, is_short ? 2 : 4);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

// The EXIF block among a JPEG's markers before its pixels; a long one goes on in further markers.
std::string BlockOfJpeg(std::string_view file) {
  constexpr std::string_view kExif = "Exif\0\0"sv;
  constexpr unsigned kApp1 = 0xe1, kPixels = 0xda, kEnd = 0xd9;
  std::string block;
  for (size_t at = 2; at + 4 <= file.size();) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(file[i]); };
    if (byte(at) != 0xff || byte(at + 1) == 0xff || byte(at + 1) == 0) {
      ++at;  // fill bytes, or junk between markers
      continue;
    }
    const unsigned marker = byte(at + 1);
    if (marker == kPixels || marker == kEnd) break;
    at += 2;
    if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // without a length
    const size_t length = byte(at) * 256u + byte(at + 1);
    if (length < 2 || length > file.size() - at) break;
    const std::string_view content = file.substr(at + 2, length - 2);
    if (marker == kApp1 && content.starts_with(kExif)) block += content.substr(kExif.size());
    at += length;
  }
  return block;
}

// The last eXIf chunk of a PNG file.
std::string_view BlockOfPng(std::string_view file) {
  const Numbers numbers(file, true);
  std::string_view block;
  for (size_t at = 8; at + 12 <= file.size();) {
    const uint32_t length = *numbers.At(at, 4);
    if (length > file.size() - at - 12) break;
    if (file.substr(at + 4, 4) == "eXIf") block = file.substr(at + 8, length);
    at += size_t{12} + length;
  }
  return block;
}

// The EXIF chunk of a WebP file. Chunks are name, length (little-endian) and bytes, padded to an
// even length.
std::string_view BlockOfWebp(std::string_view file) {
  const Numbers numbers(file, false);
  for (size_t at = 12; at + 8 <= file.size();) {
    const uint32_t length = *numbers.At(at + 4, 4);
    if (length > file.size() - at - 8) break;
    if (file.substr(at, 4) == "EXIF") return file.substr(at + 8, length);
    at += size_t{8} + length + length % 2;
  }
  return "";
}

}  // namespace

int ExifOrientation(std::span<const std::byte> file) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  if (bytes.starts_with("\xff\xd8"sv)) {
    const std::string block = BlockOfJpeg(bytes);
    std::string_view tiff = block;
    if (tiff.starts_with("Exif\0\0"sv)) tiff.remove_prefix(6);  // some write it twice
    return OrientationOfTiff(tiff);
  }
  if (bytes.starts_with("\x89PNG"sv)) return OrientationOfTiff(BlockOfPng(bytes));
  if (bytes.starts_with("RIFF"sv) && bytes.substr(8).starts_with("WEBP"sv)) {
    std::string_view tiff = BlockOfWebp(bytes);
    if (tiff.starts_with("Exif\0\0"sv)) tiff.remove_prefix(6);
    return OrientationOfTiff(tiff);
  }
  return 1;
}

Image Upright(const Image& image) {
  const int width = image.width, height = image.height, o = image.orientation;
  const bool swapped = o >= 5;
  Image out{swapped ? height : width, swapped ? width : height, {}};
  out.rgb.resize(image.rgb.size());
  // Where the row and column of the result come from: orientations 2, 3, 7 and 8 read columns
  // backwards, 3, 4, 6 and 7 rows.
  const bool from_right = o == 2 || o == 3 || o == 7 || o == 8;
  const bool from_below = o == 3 || o == 4 || o == 6 || o == 7;
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x, to += 3) {
      const int column = swapped ? y : x, row = swapped ? x : y;
      const int64_t in_x = from_right ? width - 1 - column : column;
      const int64_t in_y = from_below ? height - 1 - row : row;
      std::copy_n(image.rgb.data() + 3 * (in_y * width + in_x), 3, to);
    }
  return out;
}

}  // namespace graft
