// Resizing and preprocessing equal those of Pillow and PyTorch bit for bit; the text form of
// --preprocess is tested, too.
#include <gmock/gmock.h>

#include <cstring>

#include "data/preprocess.h"
#include "tests/image_test_util.h"

namespace graft::image_resize_test {
namespace {

using ::testing::HasSubstr;

TEST(ImageResize, EqualsPillow) {
  const auto rows = ReadTable("resized.tsv");
  ASSERT_EQ(rows.size(), 410u);
  for (const auto& row : rows) {
    const auto n = [&row](size_t i) { return std::stoi(row[i]); };
    const Image image = NoiseImage(static_cast<uint32_t>(n(0)), n(1), n(2));
    const Image resized = Resize(image, n(3), n(4), ParseFilter(row[5]));
    EXPECT_EQ(Crc(resized), row[6]) << "case " << row[0] << ": " << row[1] << " x " << row[2]
                                    << " to " << row[3] << " x " << row[4] << " " << row[5];
  }
}

// A part is the same bytes as of the whole, whichever pass comes first.
TEST(ImageResize, PartsEqualTheWhole) {
  const struct {
    int width, height, wide, high;
  } cases[] = {{40, 30, 17, 50}, {30, 90, 25, 20},  {21, 33, 21, 12},  {21, 33, 40, 33},
               {9, 9, 9, 9},     {5000, 4, 300, 9}, {9000, 70, 12, 60}};
  for (const auto& c : cases) {
    const Image image = NoiseImage(5, c.width, c.height);
    const Image whole = Resize(image, c.wide, c.high, Filter::kBicubic);
    const ImagePart part{c.wide / 3, c.high / 4, c.wide / 2, c.high / 2};
    const Image got = Resize(image, c.wide, c.high, Filter::kBicubic, part);
    ASSERT_EQ(got.width, part.width);
    ASSERT_EQ(got.height, part.height);
    for (int y = 0; y < part.height; ++y) {
      const auto from = static_cast<size_t>(3 * ((part.top + y) * c.wide + part.left));
      EXPECT_EQ(std::memcmp(got.rgb.data() + static_cast<size_t>(3 * y * part.width),
                            whole.rgb.data() + from, static_cast<size_t>(3 * part.width)),
                0)
          << c.width << " x " << c.height << ", row " << y;
    }
  }
}

TEST(ImageResize, ConstantStaysConstant) {
  Image image{50, 31, std::vector<uint8_t>(3 * 50 * 31, 200)};
  for (Filter filter : {Filter::kBilinear, Filter::kBicubic})
    for (uint8_t value : Resize(image, 23, 77, filter).rgb) ASSERT_EQ(value, 200);
}

TEST(Preprocess, NormalizesAsPyTorch) {
  for (const auto& row : ReadTable("normalized.tsv")) {
    const Preprocess p =
        ParsePreprocess(fmt::format("resize=1,filter=bilinear,mean={},std={}", row[0], row[1]));
    std::vector<uint8_t> rgb(3 * 256);
    for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i / 3);
    std::vector<float> out(rgb.size());
    Normalizer(p).Apply(rgb, out.data());
    for (size_t c = 0; c < 3; ++c)
      EXPECT_EQ(fmt::format("{:08x}", Crc32(out.data() + 256 * c, 256 * sizeof(float))), row[2]);
  }
}

TEST(Preprocess, PlanarOrder) {
  const Image image{2, 1, {0, 51, 255, 102, 153, 204}};
  const Preprocess p = ParsePreprocess("resize=2,filter=bilinear,mean=0|0|1,std=1|2|1");
  const std::vector<float> out = Apply(image, p);
  const std::vector<float> expected = {0,    0.4f,  0,    0.4f,  // red, two equal rows
                                       0.1f, 0.3f,  0.1f, 0.3f,  // green
                                       0,    -0.2f, 0,    -0.2f};
  ASSERT_EQ(out.size(), expected.size());
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], 1e-6f) << i;
}

// The longer side is rounded down, the crop's start to the even neighbour as in Python.
TEST(Preprocess, ResizeAndCropSizes) {
  const struct {
    int width, height, resize, crop, wide, high, left, top;
  } cases[] = {
      {100, 50, 20, 10, 40, 20, 15, 5}, {100, 33, 20, 15, 60, 20, 22, 2},
      {33, 100, 20, 15, 20, 60, 2, 22}, {31, 37, 16, 9, 16, 19, 4, 5},
      {31, 37, 16, 12, 16, 19, 2, 4},   {40, 40, 7, 4, 7, 7, 2, 2},
      {40, 40, 9, 4, 9, 9, 2, 2},       {5, 5, 8, 8, 8, 8, 0, 0},
  };
  for (const auto& c : cases) {
    const Image image = NoiseImage(3, c.width, c.height);
    Preprocess p;
    p.resize = c.resize, p.crop = c.crop;
    const Image got = ResizeAndCrop(image, p);
    const Image full = Resize(image, c.wide, c.high, p.filter);
    ASSERT_EQ(got.width, c.crop);
    for (int y = 0; y < c.crop; ++y) {
      const auto from = static_cast<size_t>(3 * ((c.top + y) * c.wide + c.left));
      EXPECT_EQ(std::memcmp(got.rgb.data() + static_cast<size_t>(3 * y * c.crop),
                            full.rgb.data() + from, static_cast<size_t>(3 * c.crop)),
                0)
          << c.width << " x " << c.height << ", row " << y;
    }
  }
}

TEST(Preprocess, TextRoundTrip) {
  for (const PreprocessPreset& preset : PreprocessPresets()) {
    EXPECT_EQ(ParsePreprocess(preset.name), preset.value);
    EXPECT_EQ(ParsePreprocess(ToString(preset.value)), preset.value) << preset.name;
    EXPECT_THAT(ListPreprocess(), HasSubstr(ToString(preset.value)));
  }
  EXPECT_EQ(ToString(ParsePreprocess("imagenet")),
            "resize=256,crop=224,filter=bicubic,mean=0.485|0.456|0.406,std=0.229|0.224|0.225");
  EXPECT_EQ(ToString(ParsePreprocess("vtab, filter=bilinear, mean=0.5")),
            "resize=224,filter=bilinear,mean=0.5|0.5|0.5,std=0.229|0.224|0.225");
}

// What means the same has one form.
TEST(Preprocess, FitAndCenter) {
  const std::string colours = ",mean=0.485|0.456|0.406,std=0.229|0.224|0.225";
  const std::pair<const char*, std::string> cases[] = {
      {"imagenet,fit=both,center=floor",
       "resize=256,crop=224,fit=both,center=floor,filter=bicubic" + colours},
      {"imagenet,fit=shorter,center=round", "resize=256,crop=224,filter=bicubic" + colours},
      {"imagenet,fit=both,resize=224,center=floor", "resize=224,filter=bicubic" + colours},
      {"vtab,fit=both", "resize=224,filter=bicubic" + colours},
      {"vtab,crop=224", "resize=224,crop=224,filter=bicubic" + colours},
      {"imagenet,fit=none", "crop=224,fit=none" + colours}};
  for (const auto& [text, form] : cases) {
    const Preprocess p = ParsePreprocess(text);
    EXPECT_EQ(ToString(p), form) << text;
    EXPECT_EQ(ParsePreprocess(form), p) << text;
  }
  EXPECT_EQ(ForImageSize(ParsePreprocess("imagenet,fit=none"), 32).size(), 32);
}

TEST(Preprocess, ForImageSize) {
  EXPECT_EQ(ForImageSize(ParsePreprocess("imagenet"), 384).resize,
            438);  // timm: floor(384 / 0.875)
  EXPECT_EQ(ForImageSize(ParsePreprocess("imagenet"), 384).crop, 384);
  EXPECT_EQ(ForImageSize(ParsePreprocess("imagenet"), 224), ParsePreprocess("imagenet"));
  EXPECT_EQ(ForImageSize(ParsePreprocess("vtab"), 32).resize, 32);
  EXPECT_EQ(ForImageSize(ParsePreprocess("vtab"), 32).size(), 32);
}

TEST(Preprocess, Errors) {
  const std::pair<std::string, std::string> cases[] = {
      {"imgnet", "unknown name 'imgnet'; did you mean 'imagenet'?"},
      {"", "unknown name ''"},
      {"resize=224", "'filter' is missing in 'resize=224'; write it, or begin with a preset"},
      {"vtab,size=3", "unknown key 'size'; did you mean 'resize'?"},
      {"vtab,filter=cubic", "expected bilinear or bicubic, found 'cubic'"},
      {"vtab,mean=1|2", "mean: expected 3 numbers joined by '|' (or one for all channels)"},
      {"vtab,mean=a", "mean: expected a number, found 'a'"},
      {"vtab,std=0", "std: expected positive numbers, found '0'"},
      {"vtab,std=nan", "std: expected positive numbers, found 'nan'"},
      {"vtab,mean=inf", "mean: expected finite numbers, found 'inf'"},
      {"vtab,resize=0", "resize: expected 1 to 16384 pixels, found 0"},
      {"vtab,resize=99999999999", "resize: expected a number, found '99999999999'"},
      {"vtab,resize=8192", "resize=8192: expected at most 4096 pixels for what the model reads"},
      {"vtab,resize=9000,crop=5000", "crop=5000: expected at most 4096 pixels"},
      {"vtab,crop=225", "crop=225 does not fit into resize=224"},
      {"vtab,crop=2,crop=3", "'crop' is given twice"},
      {"vtab,fit=squash", "fit: expected shorter, both, none, found 'squash'"},
      {"vtab,fit=none", "fit=none needs a crop"},
      {"vtab,fit=shorter", "fit=shorter needs a crop"},
      {"imagenet,center=ceil", "center: expected round, floor, found 'ceil'"},
      {"fit=none,crop=8,mean=0", "'std' is missing"},
      {"vtab,imagenet", "expected key=value, found 'imagenet'"},
  };
  for (const auto& [text, message] : cases)
    EXPECT_THAT(MessageOf([&text = text] { ParsePreprocess(text); }), HasSubstr(message)) << text;
  const Image narrow{16384, 1, std::vector<uint8_t>(3 * 16384)};
  EXPECT_THAT(MessageOf([&] { ResizeAndCrop(narrow, ParsePreprocess("imagenet")); }),
              HasSubstr("16384 x 1 pixels is too narrow"));
  EXPECT_THAT(MessageOf([&] { ResizeAndCrop(narrow, ParsePreprocess("imagenet,fit=none")); }),
              HasSubstr("16384 x 1 pixels is smaller than crop=224"));
}

}  // namespace
}  // namespace graft::image_resize_test
