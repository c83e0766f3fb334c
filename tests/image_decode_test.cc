// Pixels equal those of Pillow's convert("RGB"), for committed fixtures of every kind, and for real
// images if they are there.
#include <gmock/gmock.h>

#include "data/preprocess.h"
#include "runtime/io/atomic_file.h"
#include "tests/image_test_util.h"

namespace graft::image_decode_test {
namespace {

using ::testing::HasSubstr;

TEST(ImageDecode, FixturesEqualPillow) {
  const auto rows = ReadTable("decoded.tsv");
  ASSERT_GT(rows.size(), 70u);
  for (const auto& row : rows) {
    const Image image = ReadImage(kImageFixtures / row[0]);
    EXPECT_EQ(image.width, std::stoi(row[1])) << row[0];
    EXPECT_EQ(image.height, std::stoi(row[2])) << row[0];
    EXPECT_EQ(Crc(image), row[3]) << row[0];
  }
}

TEST(ImageDecode, OtherFormatsEqualPillow) {
  const auto rows = ReadTable("formats.tsv");
  ASSERT_GT(rows.size(), 60u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row[0]);
    const Image image = ReadImage(kImageFixtures / row[0]);
    EXPECT_EQ(image.width, std::stoi(row[1]));
    EXPECT_EQ(image.height, std::stoi(row[2]));
    EXPECT_EQ(Crc(image), row[3]);
    EXPECT_EQ(image.orientation, row[0] == "webp_exif.webp" ? 6 : 1);  // a TIFF is turned already
  }
}

TEST(ImageDecode, SharedImagesEqualPillow) {
  GRAFT_NEED_SHARED_DATA();
  for (const auto& row : ReadTable("shared.tsv")) {
    const Image image = ReadImage(SharedData() / row[0]);
    EXPECT_EQ(Crc(image), row[3]) << row[0];
    EXPECT_EQ(Crc(Resize(image, 224, 224, Filter::kBicubic)), row[4]) << row[0];
    EXPECT_EQ(Crc(Resize(image, 224, 224, Filter::kBilinear)), row[5]) << row[0];
    EXPECT_EQ(Crc(ResizeAndCrop(image, ParsePreprocess("imagenet"))), row[6]) << row[0];
  }
}

TEST(ImageDecode, PngRoundTrip) {
  for (int size : {1, 2, 33}) {
    const Image image = NoiseImage(7, size, size + 1);
    EXPECT_EQ(DecodeImage(EncodePng(image), "round trip"), image);
  }
  const TempDir folder;
  WritePng(folder / "a.png", NoiseImage(1, 5, 4));
  EXPECT_EQ(ReadImage(folder / "a.png"), NoiseImage(1, 5, 4));
  EXPECT_THAT(MessageOf([&] { WritePng(folder / "none/a.png", NoiseImage(1, 5, 4)); }),
              HasSubstr("cannot create the file"));
}

// The content tells the format, so fixtures under wrong names decode all the same.
TEST(ImageDecode, NameDoesNotMatter) {
  const std::string jpeg = ReadFile(kImageFixtures / "rgb_444.jpg", 1 << 20);
  EXPECT_EQ(DecodeImage(std::as_bytes(std::span(jpeg)), "x.png"),
            ReadImage(kImageFixtures / "rgb_444.jpg"));
}

}  // namespace
}  // namespace graft::image_decode_test
