// Decodes an image file of any format. A PNG is decoded a second time with the checksums that its
// chunks should have, as few changes would get past them otherwise.
#include <zlib.h>

#include "data/image.h"
#include "fuzz/target.h"

namespace graft::fuzz {
namespace {

void TestImage(std::string_view file) {
  const Image image =
      DecodeImage(BytesOf(reinterpret_cast<const uint8_t*>(file.data()), file.size()), "image");
  GRAFT_CHECK(image.width > 0 && image.height > 0);
  GRAFT_CHECK(image.rgb.size() ==
              size_t{3} * static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
}

// Chunks are length, name, data, checksum of name and data; numbers are big-endian.
std::string WithChecksums(std::string png) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(png.data());
  for (size_t at = 8; at + 12 <= png.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | bytes[at + i];
    if (length > png.size() - at - 12) break;
    const uLong crc = crc32(0, bytes + at + 4, static_cast<uInt>(length + 4));
    for (size_t i = 0; i < 4; ++i)
      png[at + 8 + length + i] = static_cast<char>(crc >> (24 - 8 * i));
    at += 12 + length;
  }
  return png;
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft::fuzz;
  const std::string_view file = TextOf(data, size);
  Accepts([&] { TestImage(file); });
  if (file.starts_with("\x89PNG")) Accepts([&] { TestImage(WithChecksums(std::string(file))); });
  return 0;
}
