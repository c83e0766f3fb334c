// Augmentation: operations beside Pillow and torchvision, what is drawn, mixing.
#include "data/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "data/image_ops.h"
#include "runtime/error.h"
#include "tests/test_util.h"

namespace graft::augment_test {
namespace {

// Makes an image of 23 x 17 with value[i] = int(127.5 + 100 sin(0.05 i) + 20 sin(1.7 i)).
Image Waves() {
  Image image{.width = 23, .height = 17, .rgb = std::vector<uint8_t>(3 * 23 * 17)};
  for (size_t i = 0; i < image.rgb.size(); ++i) {
    const double x = static_cast<double>(i);
    image.rgb[i] = static_cast<uint8_t>(127.5 + 100 * std::sin(0.05 * x) + 20 * std::sin(1.7 * x));
  }
  return image;
}

// h <- h * 1099511628211 ^ byte
uint64_t Hash(const Image& image) {
  uint64_t hash = 0;
  for (const uint8_t byte : image.rgb) hash = hash * 1099511628211ull ^ byte;
  return hash;
}

TEST(ImageOps, TheImageIsTheOneThatPillowSaw) {
  EXPECT_EQ(Hash(Waves()), 8736754505861474927ull);
  EXPECT_EQ(Hash(Mirror(Waves())), 7992091388405588187ull);
}

// The hashes are those of torchvision 0.28's _apply_op on an image of PIL 13, with the
// interpolation nearest.
TEST(ImageOps, EqualThoseOfPillow) {
  const auto expect = [](const char* what, double by, const Image& image, uint64_t hash) {
    EXPECT_EQ(Hash(image), hash) << what << " " << by;
  };
  const Image image = Waves();
  const auto all = [&](const char* what, const std::function<Image(double)>& op,
                       const std::map<double, uint64_t>& hashes) {
    for (const auto& [by, hash] : hashes) expect(what, by, op(by), hash);
  };
  all("brightness", [&](double m) { return Brightness(image, 1 + m); },
      {{-0.9, 15844045186966840260ull},
       {-0.3, 7252836302297694354ull},
       {0.45, 8998192136350401586ull},
       {0.9, 15724847211951207148ull}});
  all("color", [&](double m) { return Saturation(image, 1 + m); },
      {{-0.9, 623619768047878759ull},
       {0.3, 14294814840367996993ull},
       {0.9, 8595862969210882393ull}});
  all("contrast", [&](double m) { return Contrast(image, 1 + m); },
      {{-0.6, 13772350111317735325ull},
       {0.3, 11365098251425952418ull},
       {0.9, 12600827016090285777ull}});
  all("sharpness", [&](double m) { return Sharpness(image, 1 + m); },
      {{-0.9, 342335310169015084ull},
       {-0.3, 18162475972085471459ull},
       {0.6, 254203971585371423ull},
       {0.9, 12584292467804649098ull}});
  all("posterize", [&](double m) { return Posterize(image, static_cast<int>(m)); },
      {{8, 8736754505861474927ull}, {6, 4460419089812907772ull}, {4, 12112445236861850896ull}});
  all("solarize", [&](double m) { return Solarize(image, static_cast<int>(m)); },
      {{0, 13584743466677198344ull}, {100, 7334981453682608741ull}, {255, 8736754505861474927ull}});
  all("shear x", [&](double m) { return ShearX(image, m); },
      {{-0.3, 3998018789191214982ull},
       {0.1, 11183157182626551573ull},
       {0.29, 11138356577901041417ull}});
  all("shear y", [&](double m) { return ShearY(image, m); },
      {{-0.2, 7965608069364427822ull}, {0.13, 9629332688334964106ull}});
  all("translate x", [&](double m) { return Translate(image, static_cast<int>(m), 0); },
      {{-7.8, 17332289965452116729ull}, {3.2, 6699765218689249380ull}});
  all("translate y", [&](double m) { return Translate(image, 0, static_cast<int>(m)); },
      {{5.9, 6852929071637019857ull}, {-2, 14969133081433631120ull}});
  all("rotate", [&](double m) { return Rotate(image, m); },
      {{-30, 12516894358100956086ull},
       {3, 9965821998711554554ull},
       {17.5, 7658694587753219455ull}});
  expect("autocontrast", 0, AutoContrast(image), 5771613373292385042ull);
  expect("equalize", 0, Equalize(image), 4547704308808456381ull);
}

// What RandAugment of torchvision 0.28 makes of PIL images with 31 bins: its operations in their
// order, as they are and with the sign changed, as tests/parity/check_augment.py --print gives
// them.
TEST(Augment, OperationsOfRandAugmentAreThoseOfTorchvision) {
  const std::map<int, std::vector<uint64_t>> expected = {
      {3, {8736754505861474927ull,  8736754505861474927ull,  8736754505861474927ull,
           8736754505861474927ull,  10383516621471809870ull, 11907860973359757065ull,
           13164039187441691653ull, 17073718084873404377ull, 8736754505861474927ull,
           8736754505861474927ull,  9965821998711554554ull,  15988333310307321050ull,
           11882188881379804414ull, 17947157619297127760ull, 18146879442195991340ull,
           2374931493531635903ull,  7757237467237934300ull,  2863714439780724233ull,
           17477822924973556770ull, 17899828698204376181ull, 8736754505861474927ull,
           8736754505861474927ull,  14051919388691821004ull, 14051919388691821004ull,
           5771613373292385042ull,  5771613373292385042ull,  4547704308808456381ull,
           4547704308808456381ull}},
      {9, {8736754505861474927ull,  8736754505861474927ull,  15531288067524200955ull,
           1923929810334888204ull,  5902298793057609198ull,  1268868686379298895ull,
           6699765218689249380ull,  1584652375538890238ull,  2680628496857912904ull,
           14969133081433631120ull, 15747860579514882891ull, 1350541144395082864ull,
           4556782261698062808ull,  4831103345324982952ull,  2602802990575863315ull,
           8441220278314736336ull,  6198259213231873368ull,  8482527750509701026ull,
           13306111288007800755ull, 13838942260976696932ull, 10962632708494270218ull,
           10962632708494270218ull, 2387401441589069759ull,  2387401441589069759ull,
           5771613373292385042ull,  5771613373292385042ull,  4547704308808456381ull,
           4547704308808456381ull}},
      {30, {8736754505861474927ull,  8736754505861474927ull,  8432984466880399510ull,
            3998018789191214982ull,  3901895602673915940ull,  246078471642539620ull,
            4458797255076326382ull,  16104091794034318589ull, 16671738710291723541ull,
            8810673334783126165ull,  12440819497176232455ull, 12516894358100956086ull,
            15724847211951207148ull, 15844045186966840260ull, 8595862969210882393ull,
            623619768047878759ull,   12600827016090285777ull, 13739125513034266181ull,
            12584292467804649098ull, 342335310169015084ull,   12112445236861850896ull,
            12112445236861850896ull, 13584743466677198344ull, 13584743466677198344ull,
            5771613373292385042ull,  5771613373292385042ull,  4547704308808456381ull,
            4547704308808456381ull}},
  };
  for (const auto& [magnitude, hashes] : expected)
    for (size_t i = 0; i < hashes.size(); ++i)
      EXPECT_EQ(Hash(RandAugmentOperation(Waves(), static_cast<int>(i / 2), magnitude, i % 2 == 1)),
                hashes[i])
          << "operation " << i / 2 << " of magnitude " << magnitude;
}

TEST(Augment, TextIsReadOrRefused) {
  const Augment a = ParseAugment("flip,crop=0.8,randaugment=2x9,mixup=0.2,cutmix=1,erase=0.25");
  EXPECT_EQ(a, (Augment{.crop = 0.8,
                        .flip = 0.5,
                        .erase = 0.25,
                        .mixup = 0.2,
                        .cutmix = 1,
                        .operations = 2,
                        .magnitude = 9}));
  EXPECT_EQ(ParseAugment("light"), ParseAugment("flip=0.5,crop=0.8"));
  EXPECT_FALSE(ParseAugment("none").any());
  EXPECT_FALSE(ParseAugment("").any());
  for (const auto& [text, says] :
       std::map<std::string, std::string>{{"flp", "did you mean 'flip'"},
                                          {"crop", "crop"},
                                          {"crop=2", "0.01 to 1"},
                                          {"crop=nan", "0.01 to 1"},
                                          {"erase=-1", "erase=-1"},
                                          {"randaugment=2", "2x9"},
                                          {"randaugment=2x99", "0 to 30"},
                                          {"randaugment=0x9", "1 to 64"},
                                          {"flip,,crop=0.8", "''"}})
    EXPECT_NE(MessageOf([&] { ParseAugment(text); }).find(says), std::string::npos) << text;
}

StreamKey Stream(size_t example, int64_t epoch = 3) { return AugmentStream(7, epoch, example); }

TEST(Augment, PartsAreOfTheSizesAskedFor) {
  double least = 1, most = 0, aspects = 0, lefts = 0;
  constexpr int kCount = 4000, kSize = 64;
  for (int i = 0; i < kCount; ++i) {
    const Part p = DrawPart(Stream(i), 256, kSize, 0.3, 1, 0.75, 4.0 / 3, true);
    ASSERT_TRUE(p.left >= 0 && p.top >= 0 && p.left + p.width <= kSize &&
                p.top + p.height <= kSize && p.width > 0 && p.height > 0);
    const double area = p.width * p.height / (1.0 * kSize * kSize);
    least = std::min(least, area), most = std::max(most, area);
    aspects += std::log(static_cast<double>(p.width) / p.height);
    if (p.width < kSize) lefts += static_cast<double>(p.left) / (kSize - p.width) / kCount;
  }
  EXPECT_NEAR(least, 0.3, 0.03);
  EXPECT_GT(most, 0.95);
  EXPECT_NEAR(aspects / kCount, 0, 0.02);
  EXPECT_NEAR(lefts, 0.5, 0.1);
}

TEST(Augment, EveryOperationAndBothSignsAreDrawn) {
  const Augment a = ParseAugment("randaugment=1x15");
  Image image{.width = 24, .height = 24, .rgb = std::vector<uint8_t>(3 * 24 * 24)};
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(i * 37 % 251);
  std::map<uint64_t, int> results;
  for (size_t i = 0; i < 2000; ++i)
    ++results[Hash(AugmentImage(a, Stream(i), image, Filter::kBicubic))];
  std::map<uint64_t, int> expected;
  for (int op = 0; op < 14; ++op)
    for (const bool negative : {false, true})
      expected[Hash(RandAugmentOperation(image, op, 15, negative))] += 1;
  EXPECT_EQ(results.size(), expected.size());
  for (const auto& [hash, ways] : expected)
    EXPECT_NEAR(results[hash], 2000 / 28.0 * ways, 40) << ways;
}

TEST(Augment, DrawsAreThoseOfSeedEpochAndExample) {
  const Augment a = ParseAugment("strong");
  Image image{.width = 16, .height = 16, .rgb = std::vector<uint8_t>(3 * 16 * 16, 90)};
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(i % 256);
  const auto hash = [&](size_t example, int64_t epoch) {
    return Hash(AugmentImage(a, Stream(example, epoch), image, Filter::kBilinear));
  };
  EXPECT_EQ(hash(1, 0), hash(1, 0));
  EXPECT_NE(hash(1, 0), hash(1, 1));
  EXPECT_NE(hash(1, 0), hash(2, 0));
}

TEST(Augment, HalfAreFlipped) {
  const Augment a = ParseAugment("flip");
  int flipped = 0;
  for (size_t i = 0; i < 1000; ++i)
    flipped += AugmentImage(a, Stream(i), Waves(), Filter::kBicubic) != Waves();
  EXPECT_NEAR(flipped, 500, 60);
}

// The mean of lam in mixup is 1/2, and a small alpha has it near 0 or 1.
TEST(Augment, SharesAreBeta) {
  for (const auto& [alpha, variance] :
       {std::pair{0.2, 0.25 / 1.4}, {1.0, 1 / 12.0}, {4.0, 1 / 36.0}}) {
    const Augment a = ParseAugment(fmt::format("mixup={}", alpha));
    double sum = 0, squares = 0;
    constexpr int kCount = 8000;
    for (int i = 0; i < kCount; ++i) {
      const double lam = DrawMix(a, Stream(i), 32).lam;
      ASSERT_TRUE(lam >= 0 && lam <= 1);
      sum += lam, squares += (lam - 0.5) * (lam - 0.5);
    }
    EXPECT_NEAR(sum / kCount, 0.5, 0.02) << alpha;
    EXPECT_NEAR(squares / kCount, variance, 0.006) << alpha;
  }
}

TEST(Augment, CutsAreTheShareOfTheLoss) {
  const Augment a = ParseAugment("cutmix=1");
  constexpr int kSize = 8;
  const std::vector<float> other(3 * kSize * kSize, 2);
  for (size_t i = 0; i < 200; ++i) {
    std::vector<float> image(3 * kSize * kSize, 1);
    const Mix mix = DrawMix(a, Stream(i), kSize);
    ASSERT_TRUE(mix.cut);
    MixInto(mix, kSize, other.data(), image.data());
    const auto own = std::ranges::count(image, 1.0f);
    EXPECT_NEAR(mix.lam, static_cast<double>(own) / std::ssize(image), 1e-12);
  }
  std::vector<float> image(3 * kSize * kSize, 1);
  MixInto({.lam = 0.25}, kSize, other.data(), image.data());
  EXPECT_EQ(image[5], 1.75f);
  int cuts = 0;
  for (size_t i = 0; i < 400; ++i)
    cuts += DrawMix(ParseAugment("mixup=0.2,cutmix=1"), Stream(i), kSize).cut;
  EXPECT_NEAR(cuts, 200, 50);
}

// timm's rand_bbox (tests/parity/check_augment.py): an odd side keeps its length.
TEST(Augment, CutsAreThoseOfTimm) {
  const auto cut = [](int x, int y, double lam) {
    const Part p = CutAround(x, y, 16, lam);
    return std::vector<int>{p.left, p.top, p.width, p.height};
  };
  EXPECT_EQ(cut(8, 8, 0.3), (std::vector<int>{2, 2, 13, 13}));
  EXPECT_EQ(cut(0, 15, 0.3), (std::vector<int>{0, 9, 7, 7}));
  EXPECT_EQ(cut(15, 7, 0.75), (std::vector<int>{11, 3, 5, 8}));
  EXPECT_EQ(cut(5, 5, 1), (std::vector<int>{5, 5, 0, 0}));
}

TEST(Augment, ErasedIsTheMean) {
  const Augment a = ParseAugment("erase=0.5");
  int erased = 0;
  for (size_t i = 0; i < 400; ++i) {
    std::vector<float> image(3 * 32 * 32, 1);
    Erase(DrawErased(a, Stream(i), 32), 32, image.data());
    const auto zeros = std::ranges::count(image, 0.0f);
    erased += zeros > 0;
    if (zeros > 0) {
      EXPECT_NEAR(static_cast<double>(zeros) / std::ssize(image), 0.175, 0.17);
    }
  }
  EXPECT_NEAR(erased, 200, 50);
}

}  // namespace
}  // namespace graft::augment_test
