// EXIF orientation: pixels as PIL's ImageOps.exif_transpose gives them, and blocks that lie.
#include "data/exif.h"

#include <gmock/gmock.h>

#include "data/preprocess.h"
#include "tests/image_test_util.h"

namespace graft::exif_test {
namespace {

using namespace std::string_literals;

std::string Bytes(uint64_t x, int size, bool big) {
  std::string bytes;
  for (int i = 0; i < size; ++i)
    bytes += static_cast<char>(x >> 8 * (big ? size - 1 - i : i) & 255);
  return bytes;
}

struct Entry {
  uint64_t tag = 0x0112, type = 3, count = 1, value = 6;
};

std::string Tiff(const std::vector<Entry>& entries, bool big = false, uint64_t first = 8,
                 int64_t claimed = -1) {
  std::string tiff = (big ? "MM\0\x2a"s : "II\x2a\0"s) + Bytes(first, 4, big);
  tiff += Bytes(claimed < 0 ? entries.size() : static_cast<uint64_t>(claimed), 2, big);
  for (const Entry& e : entries) {
    tiff += Bytes(e.tag, 2, big) + Bytes(e.type, 2, big) + Bytes(e.count, 4, big);
    const bool is_short = e.type == 3 && e.count == 1;
    tiff += is_short ? Bytes(e.value, 2, big) + "\0\0"s : Bytes(e.value, 4, big);
  }
  return tiff + "\0\0\0\0"s;
}

std::string Segment(const std::string& content) {
  return "\xff\xe1" + Bytes(content.size() + 2, 2, true) + content;
}

std::string Jpeg(const std::string& tiff) {
  return "\xff\xd8" + Segment("Exif\0\0"s + tiff) + "\xff\xda\0\2"s;
}

std::string Png(const std::string& tiff) {
  return "\x89PNG\r\n\x1a\n" + Bytes(tiff.size(), 4, true) + "eXIf" + tiff + "CRC.";
}

int Of(const std::string& file) { return ExifOrientation(AsBytes(file)); }

TEST(Exif, AllOrientationsInBothFormatsAndByteOrders) {
  for (uint64_t o = 1; o <= 8; ++o)
    for (const bool big : {false, true}) {
      const std::string tiff = Tiff({{0x0100, 4, 1, 77}, {0x0112, 3, 1, o}}, big);
      EXPECT_EQ(Of(Jpeg(tiff)), static_cast<int>(o));
      EXPECT_EQ(Of(Png(tiff)), static_cast<int>(o));
    }
  EXPECT_EQ(Of(Jpeg(Tiff({{0x0112, 4, 1, 8}}))), 8);
  EXPECT_EQ(Of(Jpeg("Exif\0\0"s + Tiff({{}}))), 6);  // the word twice
  // A long block goes on in the next marker, behind other ones.
  const std::string tiff = Tiff({{}});
  EXPECT_EQ(Of("\xff\xd8\xff\xe0\0\4ab"s + Segment("Exif\0\0"s + tiff.substr(0, 12)) +
               Segment("Exif\0\0"s + tiff.substr(12)) + "\xff\xda\0\2"s),
            6);
}

TEST(Exif, WhatIsDamagedSaysNothing) {
  const std::string good = Tiff({{}});
  for (const std::string& file : {Jpeg(good), Png(good)})
    for (size_t n = 0; n < file.size(); ++n) {
      const int o = Of(file.substr(0, n));
      EXPECT_TRUE(o == 1 || o == 6) << n;
    }
  for (const std::string& tiff :
       {Tiff({{0x0112, 3, 1, 0}}), Tiff({{0x0112, 3, 1, 9}}), Tiff({{0x0112, 2, 1, 6}}),
        Tiff({{0x0112, 3, 0, 6}}), Tiff({{0x0112, 3, 0xffffffff, 6}}),
        Tiff({{0x0112, 3, 3, 0xfffffff0}}), Tiff({{}}, false, 0xffffffff), Tiff({{}}, false, 3),
        Tiff({{0x0100, 4, 1, 6}}, false, 8, 65535), Tiff({}), ""s, "II"s, "II\x2b\0"s,
        "XX\x2a\0\x08\0\0\0"s})
    for (const std::string& file : {Jpeg(tiff), Png(tiff)}) EXPECT_EQ(Of(file), 1);
  // Only markers before the pixels count, and a length that leads nowhere ends the search.
  EXPECT_EQ(Of("\xff\xd8\xff\xda\0\2"s + Segment("Exif\0\0"s + good)), 1);
  EXPECT_EQ(Of("\xff\xd8\xff\xe0\0\0"s + Segment("Exif\0\0"s + good)), 1);
  EXPECT_EQ(Of("\xff\xd8"s + std::string(1000, '\xff')), 1);
}

// Pillow 13 transposed a picture of two rows, a b c and d e f, by each orientation.
TEST(Exif, UprightIsThatOfPillow) {
  const std::pair<int, std::string> expected[] = {{1, "abcdef"}, {2, "cbafed"}, {3, "fedcba"},
                                                  {4, "defabc"}, {5, "adbecf"}, {6, "daebfc"},
                                                  {7, "fcebda"}, {8, "cfbead"}};
  for (const auto& [orientation, letters] : expected) {
    Image image{3, 2, {}};
    for (const char c : "abcdef"s) image.rgb.insert(image.rgb.end(), 3, static_cast<uint8_t>(c));
    image.orientation = orientation;
    const Image upright = Upright(image);
    EXPECT_EQ(upright.width, orientation < 5 ? 3 : 2);
    EXPECT_EQ(upright.orientation, 1);
    std::string found;
    for (size_t i = 0; i < upright.rgb.size(); i += 3)
      found += static_cast<char>(upright.rgb[i + 1]);
    EXPECT_EQ(found, letters) << orientation;
    // The transform turns images on request alone.
    const Preprocess as_stored = ParsePreprocess("unit,resize=2"),
                     turned = ParsePreprocess("unit,resize=2,exif=true");
    EXPECT_EQ(ResizeAndCrop(image, turned), ResizeAndCrop(upright, as_stored)) << orientation;
    Image plain = image;
    plain.orientation = 1;
    EXPECT_EQ(ResizeAndCrop(image, as_stored), ResizeAndCrop(plain, as_stored)) << orientation;
  }
  EXPECT_THAT(ToString(ParsePreprocess("unit,exif=true")), ::testing::EndsWith(",exif=true"));
  EXPECT_NE(ReadImage((kImageFixtures / "rgb_exif_turned.jpg").string()).orientation, 1);
}

}  // namespace
}  // namespace graft::exif_test
