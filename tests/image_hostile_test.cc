// Broken and hostile image files give a clear Error or an image, never a crash or a huge
// allocation.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <zlib.h>

#include "runtime/io/atomic_file.h"
#include "tests/image_test_util.h"

namespace graft::image_hostile_test {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string DecodeError(const std::string& bytes) {
  return MessageOf([&] { DecodeImage(AsBytes(bytes), "photo.jpg"); });
}

std::string ReadFixture(const std::string& name) {
  return ReadFile(kImageFixtures / name, 1 << 20);
}

// Makes a PNG that ends after its header, whose checksum is right.
std::string PngHeader(uint32_t width, uint32_t height, char depth, char color) {
  std::string body = "IHDR";
  for (uint32_t side : {width, height})
    for (int shift : {24, 16, 8, 0}) body += static_cast<char>(side >> shift);
  body += depth;
  body += color;
  body += "\0\0\0"s;
  const uint32_t crc = Crc32(body.data(), body.size());
  std::string png = "\x89PNG\r\n\x1a\n\0\0\0\x0d"s + body;
  for (int shift : {24, 16, 8, 0}) png += static_cast<char>(crc >> shift);
  return png;
}

std::string JpegOfSize(uint16_t width, uint16_t height) {
  std::string jpeg = ReadFixture("rgb_444.jpg");
  const size_t at = jpeg.find("\xff\xc0");
  for (size_t i = 0; i < 2; ++i) {
    jpeg[at + 5 + i] = static_cast<char>(height >> (8 - 8 * i));
    jpeg[at + 7 + i] = static_cast<char>(width >> (8 - 8 * i));
  }
  return jpeg;
}

std::vector<std::vector<std::string>> AllFixtures() {
  auto rows = ReadTable("decoded.tsv");
  for (auto& row : ReadTable("formats.tsv")) rows.push_back(std::move(row));
  return rows;
}

std::string Little(uint32_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string GifOfSize(uint32_t width, uint32_t height) {
  return "GIF89a" + Little(width, 2) + Little(height, 2) +
         "\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"s;
}

std::string BmpOfSize(uint32_t width, uint32_t height, uint32_t bits, uint32_t compression) {
  return "BM" + Little(58, 4) + Little(0, 4) + Little(54, 4) + Little(40, 4) + Little(width, 4) +
         Little(height, 4) + Little(1, 2) + Little(bits, 2) + Little(compression, 4) +
         std::string(20, '\0') + "\0\0\0\0"s;
}

// Makes an extended header with a canvas of this size, and nothing else.
std::string WebpOfSize(uint32_t width, uint32_t height) {
  return "RIFF" + Little(22, 4) + "WEBPVP8X" + Little(10, 4) + Little(2, 4) + Little(width - 1, 3) +
         Little(height - 1, 3);
}

// A fixture whose tags of width and height are changed.
std::string TiffOfSize(uint32_t width, uint32_t height) {
  std::string tiff = ReadFixture("tif_white_is_0.tif");
  for (const auto& [tag, value] : {std::pair{256u, width}, std::pair{257u, height}}) {
    const size_t at = tiff.find(Little(tag, 2) + Little(3, 2) + Little(1, 4));
    tiff.replace(at + 8, 2, Little(value, 2));
  }
  return tiff;
}

TEST(ImageHostile, Messages) {
  const std::string grey_png = ReadFixture("grey8.png"), jpeg = ReadFixture("rgb_420.jpg");
  std::string bad_crc = grey_png;
  bad_crc[bad_crc.size() - 20] ^= 1;
  std::string two_components = jpeg;
  two_components[jpeg.find("\xff\xc0") + 9] = 2;
  const std::pair<std::string, std::string> cases[] = {
      {"", "photo.jpg: expected an image, found an empty file"},
      {"hello world",
       "expected an image (JPEG, PNG, WebP, GIF, BMP, TIFF, PBM, PGM or PPM), found text that "
       "begins "
       "with 'hello world'"},
      {"GIF89a....", "not a valid GIF image"},
      {ReadFixture("gif_large.gif").substr(0, 820),
       "file is truncated: the GIF image ends too early"},
      {GifOfSize(60000, 60000), "60000 x 60000 pixels, more than the limit of 178956970"},
      {"GIF89a\1\0\1\0\0\0\0;"s, "not a valid GIF image: no image in it"},
      {"RIFF....WEBPVP8 ", "not a valid WebP image: file is truncated"},
      {WebpOfSize(16383, 16383), "16383 x 16383 pixels, more than the limit of 178956970"},
      {"BM......", "file is truncated: the header of the BMP image"},
      {BmpOfSize(20000, 20000, 24, 0), "20000 x 20000 pixels, more than the limit of 178956970"},
      {BmpOfSize(13000, 13000, 24, 0), "file is truncated: its header asks for at least"},
      {BmpOfSize(13000, 13000, 8, 1), "file is truncated: the BMP image ends before its last row"},
      {BmpOfSize(0, 3, 24, 0), "expected an image of at least 1 x 1 pixels, found 0 x 3"},
      {BmpOfSize(2, 2, 24, 4), "a BMP image of 24 bits, compression 4; expected"},
      {BmpOfSize(2, 2, 7, 0), "a BMP image of 7 bits"},
      {"II*\0\0\0\0\0"s, "not a valid TIFF image"},
      {TiffOfSize(60000, 60000), "60000 x 60000 pixels, more than the limit of 178956970"},
      {TiffOfSize(0, 5), "photo.jpg: "},
      {"version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"},
      {"\x01\x02\xff"s, "found bytes 01 02 ff"},
      {"\xff\xd8\xff"s, "photo.jpg: file is truncated"},
      {"\xff\xd8\xff\xd9"s, "not a valid JPEG file"},
      {jpeg.substr(0, jpeg.size() / 2), "file is truncated"},
      {ReadFixture("rgb_progressive.jpg").substr(0, 700), "file is truncated"},
      {jpeg.substr(0, jpeg.size() - 2), "file is truncated"},
      {two_components, "photo.jpg: "},
      {grey_png.substr(0, 8), "file is truncated"},
      {grey_png.substr(0, 100), "file is truncated"},
      {bad_crc, "not a valid PNG file"},
      {PngHeader(20000, 20000, 8, 2), "20000 x 20000 pixels, more than the limit of 178956970"},
      {PngHeader(13000, 13000, 8, 2), "file is truncated: its header asks for at least"},
      {PngHeader(0, 5, 8, 2), "expected an image of at least 1 x 1 pixels, found 0 x 5"},
      {PngHeader(5, 5, 3, 0), "not a valid PNG file"},
      {PngHeader(0x7fffffff, 0x7fffffff, 16, 6), "more than the limit of 178956970"},
      {JpegOfSize(20000, 20000), "20000 x 20000 pixels, more than the limit of 178956970"},
      {JpegOfSize(13000, 13000), "file is truncated: its header asks for at least"},
      {"P6 20000 20000 255\n", "more than the limit of 178956970"},
      {"P6 13000 13000 255\n", "file is truncated: its header asks for at least 507000019 bytes"},
      {"P6 0 3 255\n", "expected an image of at least 1 x 1 pixels, found 0 x 3"},
      {"P5 2 2 70000\n1234", "expected a maximum value from 1 to 65535, found 70000"},
      {"P5 2 2 0\n1234", "expected a maximum value from 1 to 65535, found 0"},
      {"P5 2 -2 255\n1234", "expected the height as a number, found '-2'"},
      {"P5 x 2 255\n1234", "expected the width as a number, found 'x'"},
      {"P5 2 99999999999999 255\n", "the height is longer than 10 digits"},
      {"P5 2 9999999999 255\n", "expected the height as a number"},
      {"P5 2", "file is truncated: the P5 image ends where the height is expected"},
      {"P5 2 2 255\n123", "file is truncated"},
      {"P2 2 1 9\n5 10", "sample 10 is beyond the maximum 9"},
      {"P2 2 2 9\n5 5 5   ", "file is truncated: the P2 image ends where a sample is expected"},
      {"P1 2 2\n0120", "expected 0 or 1, found '2'"},
      {"P1 2 2\n010   #", "file is truncated: the P1 image ends where a pixel is expected"},
      {"P7\nWIDTH 2", "found a PAM image"},
  };
  for (const auto& [bytes, message] : cases)
    EXPECT_THAT(DecodeError(bytes), AllOf(HasSubstr("photo.jpg: "), HasSubstr(message)));
}

// A progressive JPEG whose last scan is there so many times more.
std::string JpegWithScans(int more) {
  const std::string jpeg = ReadFixture("rgb_progressive.jpg");
  const size_t scan = jpeg.rfind("\xff\xda"), end = jpeg.rfind("\xff\xd9");
  std::string repeated = jpeg.substr(0, end);
  for (int i = 0; i < more; ++i) repeated += jpeg.substr(scan, end - scan);
  return repeated + jpeg.substr(end);
}

TEST(ImageHostile, JpegScansHaveALimit) {
  const Image image = DecodeImage(AsBytes(JpegWithScans(50)), "photo.jpg");
  EXPECT_EQ(image.rgb.size(), 3u * static_cast<size_t>(image.width * image.height));
  for (const int more : {100, 400})
    EXPECT_EQ(DecodeError(JpegWithScans(more)),
              "photo.jpg: not a valid JPEG file: more than 100 scans");
}

// Makes grey8.png with another chunk behind the header, deflated from so many bytes.
std::string PngWithChunk(const std::string& type, size_t bytes, int count = 1) {
  const std::string data(bytes, 'x');
  std::string packed(compressBound(data.size()), '\0');
  uLongf size = packed.size();
  EXPECT_EQ(compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                      reinterpret_cast<const Bytef*>(data.data()), data.size(), 9),
            Z_OK);
  const std::string keyword = type == "iTXt" ? "k\0\1\0\0\0"s : "k\0\0"s;
  const std::string body = type + keyword + packed.substr(0, size);
  std::string chunk;
  for (int shift : {24, 16, 8, 0}) chunk += static_cast<char>((body.size() - 4) >> shift);
  chunk += body;
  const uint32_t crc = Crc32(body.data(), body.size());
  for (int shift : {24, 16, 8, 0}) chunk += static_cast<char>(crc >> shift);
  std::string png = ReadFixture("grey8.png");
  for (int i = 0; i < count; ++i) png.insert(33, chunk);
  return png;
}

// PIL's bound of 1 MiB, also where the file is smaller than its colour profile.
TEST(ImageHostile, PngTextsHaveALimit) {
  const Image plain = DecodeImage(AsBytes(ReadFixture("grey8.png")), "photo.jpg");
  EXPECT_EQ(DecodeImage(AsBytes(PngWithChunk("zTXt", 1'000'000)), "photo.jpg"), plain);
  EXPECT_EQ(DecodeImage(AsBytes(PngWithChunk("zTXt", 1'000'000, 10)), "photo.jpg"), plain);
  const std::string message =
      "photo.jpg: a text or colour profile of more than 1 MiB, or 16 MiB in all";
  for (const char* type : {"zTXt", "iTXt", "iCCP"})
    EXPECT_THAT(DecodeError(PngWithChunk(type, 80'000'000)), HasSubstr(message)) << type;
  EXPECT_THAT(DecodeError(PngWithChunk("zTXt", 1'000'000, 40)), HasSubstr(message));
}

// What decoding says that it takes, before it does.
TEST(ImageHostile, CostsAreToldBeforeTheyArise) {
  const auto cost = [](const std::string& bytes) {
    DecodeCost told{};
    int calls = 0;
    DecodeImage(AsBytes(bytes), "photo.jpg", [&](const DecodeCost& c) { told = c, ++calls; });
    EXPECT_EQ(calls, 1);
    return told;
  };
  for (const auto& row : AllFixtures()) {
    const std::string bytes = ReadFixture(row[0]);
    const DecodeCost told = cost(bytes);
    EXPECT_EQ(std::to_string(told.width) + "x" + std::to_string(told.height),
              row[1] + "x" + row[2]);
    EXPECT_GE(told.bytes, static_cast<int64_t>(bytes.size()) + 3 * told.width * told.height);
  }
  // A progressive file has room for its coefficients.
  const DecodeCost one = cost(ReadFixture("rgb_420.jpg")),
                   many = cost(ReadFixture("rgb_progressive.jpg"));
  EXPECT_GT(many.bytes - one.bytes, many.width * many.height);
  // Refused there, nothing is allocated: a header of 13000 x 13000 in a file that might hold it.
  std::string pixels = "P4 13000 13000\n";
  pixels.resize(pixels.size() + 13000 * 1625);
  EXPECT_EQ(MessageOf([&] {
              DecodeImage(AsBytes(pixels), "photo.pbm", [&](const DecodeCost& c) {
                EXPECT_GE(c.bytes, int64_t{3} * 13000 * 13000);
                throw Error("too large");
              });
            }),
            "too large");
}

TEST(ImageHostile, Files) {
  const TempDir folder;
  EXPECT_THAT(MessageOf([&] { ReadImage(folder / "no.png"); }),
              HasSubstr("no.png: cannot open: No such file or directory"));
  EXPECT_THAT(MessageOf([&] { ReadImage(folder.path().string()); }),
              HasSubstr("expected a file, found a directory"));
  EXPECT_THAT(MessageOf([&] { ReadImage("/dev/zero"); }), HasSubstr("found a device or pipe"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(MessageOf([&] { ReadImage(folder / "pipe"); }), HasSubstr("found a device or pipe"));
  folder.Write("empty.jpg", "");
  EXPECT_THAT(MessageOf([&] { ReadImage(folder / "empty.jpg"); }),
              HasSubstr("found an empty file"));
}

// Each fixture is cut at every length. A cut file is an error or, where only trailing bytes are
// lost, the same image; nothing in between. (Plain PNM ends in a number: cut, it is another
// number.)
TEST(ImageHostile, Truncations) {
  size_t errors = 0, images = 0;
  for (const auto& row : AllFixtures()) {
    const std::string whole = ReadFixture(row[0]);
    const size_t step = whole.size() > 700 ? 3 : 1;
    for (size_t length = 0; length < whole.size(); length += step) {
      // A copy of the exact size, so that the sanitizers see every byte read behind the end.
      const std::vector<char> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      try {
        const Image image = DecodeImage(std::as_bytes(std::span(cut)), row[0]);
        if (!row[0].starts_with("plain")) {
          EXPECT_EQ(Crc(image), row[3]) << row[0] << " cut to " << length;
        }
        ++images;
      } catch (const Error&) {
        ++errors;
      }
    }
  }
  std::printf("%zu truncated files refused, %zu without loss\n", errors, images);
  EXPECT_GT(errors, 10 * images);  // of several frames only the first is needed
}

TEST(ImageHostile, RandomDamage) {
  uint64_t state = 1;
  const auto random = [&state](size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % n;
  };
  size_t errors = 0, images = 0;
  for (const auto& row : AllFixtures()) {
    const std::string whole = ReadFixture(row[0]);
    for (int round = 0; round < 80; ++round) {
      std::vector<char> bytes(whole.begin(), whole.end());
      const size_t changes = 1 + random(4);
      for (size_t i = 0; i < changes; ++i) {
        // Half of the damage in the first 64 bytes, where the sizes are.
        const size_t at = random(round % 2 ? bytes.size() : std::min<size_t>(64, bytes.size()));
        bytes[at] = random(2) ? static_cast<char>(random(256))
                              : static_cast<char>(bytes[at] ^ (1 << random(8)));
      }
      try {
        const Image image = DecodeImage(std::as_bytes(std::span(bytes)), row[0]);
        EXPECT_EQ(image.rgb.size(),
                  size_t{3} * static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
        ++images;
      } catch (const Error&) {
        ++errors;
      }
    }
  }
  std::printf("%zu damaged files refused, %zu decoded\n", errors, images);
}

}  // namespace
}  // namespace graft::image_hostile_test
