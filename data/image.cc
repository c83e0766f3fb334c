#include "data/image.h"

#include <algorithm>

#include "data/exif.h"
#include "data/image_decoders.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"

namespace graft {
namespace {

bool StartsWith(ImageBytes bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

// Names a format that people have on disk but that is not read here, or "".
std::string_view ForeignFormat(ImageBytes bytes) {
  using namespace std::string_view_literals;
  if (StartsWith(bytes, "P7")) return "a PAM image";
  if (StartsWith(bytes, "ftyp", 4)) return "a HEIF, AVIF or video file";
  if (StartsWith(bytes, "%PDF")) return "a PDF document";
  if (StartsWith(bytes, "\x93NUMPY")) return "a NumPy array";
  if (StartsWith(bytes, "PK\x03\x04")) return "a zip archive";
  if (StartsWith(bytes, "version https://git-lfs"))
    return "a Git LFS pointer, not the image itself";
  return "";
}

// The first bytes: as text if they are text, else in hexadecimal.
std::string DescribeBytes(ImageBytes bytes) {
  if (const std::string_view foreign = ForeignFormat(bytes); !foreign.empty())
    return std::string(foreign);
  const ImageBytes head = bytes.first(std::min<size_t>(bytes.size(), 16));
  const bool is_text = std::all_of(head.begin(), head.end(), [](std::byte b) {
    const int c = std::to_integer<int>(b);
    return (c >= 32 && c < 127) || c == '\n' || c == '\r' || c == '\t';
  });
  std::string shown;
  for (std::byte b : head) {
    const int c = std::to_integer<int>(b);
    if (is_text)
      shown += c < 32 ? ' ' : static_cast<char>(c);
    else
      shown += fmt::format("{}{:02x}", shown.empty() ? "" : " ", c);
  }
  return is_text ? fmt::format("text that begins with '{}'", shown)
                 : fmt::format("bytes {}", shown);
}

}  // namespace

void CheckImageSize(int64_t width, int64_t height, std::string_view name) {
  if (width <= 0 || height <= 0)
    Fail("{}: expected an image of at least 1 x 1 pixels, found {} x {}", name, width, height);
  if (height > kMaxImagePixels / width)
    Fail("{}: the image has {} x {} pixels, more than the limit of {} in all; scale it down first",
         name, width, height, kMaxImagePixels);
}

void CheckImageBytes(ImageBytes bytes, int64_t least, std::string_view name) {
  if (static_cast<int64_t>(bytes.size()) < least)
    Fail("{}: file is truncated: its header asks for at least {} bytes, found {}", name, least,
         bytes.size());
}

Image Begin(ImageBytes bytes, int64_t width, int64_t height, int64_t buffers,
            const DecodeCheck& check) {
  const int w = static_cast<int>(width), h = static_cast<int>(height);
  if (check) check({w, h, static_cast<int64_t>(bytes.size()) + buffers + 3 * width * height});
  return {w, h, {}};
}

namespace {

Image DecodePixels(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  using namespace std::string_view_literals;
  if (bytes.empty()) Fail("{}: expected an image, found an empty file", name);
  if (StartsWith(bytes, "\xff\xd8\xff")) return DecodeJpeg(bytes, name, check);
  if (StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return DecodePng(bytes, name, check);
  if (bytes.size() >= 2 && bytes[0] == std::byte{'P'} && bytes[1] >= std::byte{'1'} &&
      bytes[1] <= std::byte{'6'})
    return DecodePnm(bytes, name, check);
  if (StartsWith(bytes, "RIFF") && StartsWith(bytes, "WEBP", 8))
    return DecodeWebp(bytes, name, check);
  if (StartsWith(bytes, "GIF8")) return DecodeGif(bytes, name, check);
  if (StartsWith(bytes, "BM")) return DecodeBmp(bytes, name, check);
  if (StartsWith(bytes, "II*\0"sv) || StartsWith(bytes, "MM\0*"sv))
    return DecodeTiff(bytes, name, check);
  Fail("{}: expected an image (JPEG, PNG, WebP, GIF, BMP, TIFF, PBM, PGM or PPM), found {}", name,
       DescribeBytes(bytes));
}

}  // namespace

Image DecodeImage(std::span<const std::byte> bytes, std::string_view name,
                  const DecodeCheck& check) {
  Image image = DecodePixels(bytes, name, check);
  if (const int stated = ExifOrientation(bytes); stated != 1) image.orientation = stated;
  return image;
}

Image ReadImage(const std::string& path, const DecodeCheck& check) {
  const std::string bytes = ReadFile(path, kMaxImageBytes);
  return DecodeImage(std::as_bytes(std::span(bytes)), path, check);
}

}  // namespace graft
