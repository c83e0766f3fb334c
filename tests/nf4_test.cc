// Bytes and values of NF4 equal those of bitsandbytes (fixtures/make_nf4.py); the kernels equal the
// scalar code bit for bit on every SIMD target; a store keeps the quantised form alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/nf4_kernel.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"
#include "runtime/threads.h"
#include "tests/nf4_testing.h"
#include "tests/test_util.h"

namespace graft::testing::nf4_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// --- tables --------------------------------------------------------------------------------------

// The quantile of a normal distribution: Newton's method on the complementary error function.
double Quantile(double p) {
  double x = 0;
  for (int i = 0; i < 100; ++i) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    x -= (0.5 * std::erfc(-x / std::sqrt(2)) - p) / density;
  }
  return x;
}

TEST(Nf4Tables, LevelsAreQuantiles) {
  constexpr double kOffset = 0.9677083;
  std::vector<double> levels{0};
  for (int i = 0; i < 8; ++i) levels.push_back(Quantile(kOffset + (0.5 - kOffset) * i / 8));
  for (int i = 0; i < 7; ++i) levels.push_back(-Quantile(kOffset + (0.5 - kOffset) * i / 7));
  std::ranges::sort(levels);
  const double largest = levels.back();
  for (size_t i = 0; i < 16; ++i)
    EXPECT_NEAR(double{kNf4Levels[i]}, levels[i] / largest, 1.2e-7) << i;
  EXPECT_EQ(kNf4Levels[0], -1);
  EXPECT_EQ(kNf4Levels[7], 0);
  EXPECT_EQ(kNf4Levels[15], 1);
}

TEST(Nf4Tables, ScaleMapIsTheSignedDynamicMap) {
  const std::array<float, 256>& map = Nf4ScaleMap();
  for (size_t i = 1; i < map.size(); ++i) EXPECT_LT(map[i - 1], map[i]);
  EXPECT_NEAR(map.front(), -0.99296875, 1e-7);
  EXPECT_EQ(map.back(), 1);
  EXPECT_EQ(map[127], 0);
  for (size_t i = 0; i < 127; ++i) EXPECT_EQ(map[i], -map[254 - i]) << i;
  // 2^i entries of each sign between 10^(i-7) and 10^(i-6).
  for (int i = 0; i < 7; ++i)
    EXPECT_EQ(
        std::ranges::count_if(
            map, [&](float x) { return x > std::pow(10.0, i - 7) && x < std::pow(10.0, i - 6); }),
        1 << i);
}

// --- quantising ----------------------------------------------------------------------------------

// As in fixtures/make_nf4.py.
std::vector<float> Draw(int64_t count, uint32_t seed) {
  std::vector<float> weights;
  for (int64_t i = 0; i < count; ++i) {
    int64_t total = -131070;
    for (int k = 0; k < 4; ++k) {
      seed = seed * 1664525 + 1013904223;
      total += seed >> 16;
    }
    weights.push_back(static_cast<float>(total) * 0x1p-20f);
  }
  return weights;
}

TEST(Nf4, BytesAndValuesAreThoseOfTheFixture) {
  const std::string path = kFixtures + "nf4.json";
  const Json fixture = ReadJson(path);
  EXPECT_EQ(Hex(Nf4ScaleMap()), GetString(fixture, "scale_map", path));
  for (const auto& [name, c] : GetObject(fixture, "cases", path).items()) {
    SCOPED_TRACE(name);
    constexpr int64_t kMost = 1 << 20;
    std::vector<float> weights =
        Draw(GetInt(c, "count", 1, kMost, path), static_cast<uint32_t>(c["seed"].get<int>()));
    if (c.contains("zeros"))
      std::fill(weights.begin() + c["zeros"][0].get<int>(),
                weights.begin() + c["zeros"][1].get<int>(), 0.0f);
    for (const int threads : {1, 3}) {
      SetThreads(threads);
      const Nf4Tensor t =
          QuantizeNf4(weights, GetInt(c, "block", 1, kMost, path), GetBool(c, "double", path), "w");
      EXPECT_EQ(Hex(t.codes), c["codes"]);
      if (t.double_quantised) {
        EXPECT_EQ(Hex(t.absmax_codes), c["absmax_codes"]);
        EXPECT_EQ(Hex(t.absmax2), c["absmax2"]);
        EXPECT_EQ(Hex(std::span(&t.offset, 1)), c["offset"]);
      } else {
        EXPECT_EQ(Hex(t.absmax), c["absmax"]);
      }
      const std::vector<float> values = Dequantized(t);
      EXPECT_EQ(Sha256Hex(std::as_bytes(std::span(values))), c["values_sha256"]);
    }
    SetThreads(1);
  }
}

// A tie takes the lower level; the first of two values is in the high half of the byte.
TEST(Nf4, NearestLevelAndOrderOfHalves) {
  const float middle = (kNf4Levels[9] + kNf4Levels[10]) / 2;
  const std::vector<float> w{1, middle, std::nextafter(middle, 1.0f), -1, -0.09f, 0};
  const Nf4Tensor t = QuantizeNf4(w, 32, false, "w");
  EXPECT_THAT(t.codes, ElementsAre(0xF9, 0xA0, 0x67));
  EXPECT_EQ(t.absmax, std::vector<float>{1});
}

TEST(Nf4, ZerosTinyAndOddTensors) {
  for (const bool twice : {true, false}) {
    EXPECT_EQ(Dequantized(QuantizeNf4(std::vector<float>(100), 32, twice, "w")),
              std::vector<float>(100));
    EXPECT_TRUE(Dequantized(QuantizeNf4({}, 64, twice, "w")).empty());
    // A value below the reciprocal's range must not become NaN, nor its zeros anything else.
    std::vector<float> tiny(33);
    tiny[1] = 1e-40f, tiny[32] = 0.5f;
    const std::vector<float> back = Dequantized(QuantizeNf4(tiny, 32, twice, "w"));
    for (size_t i = 0; i < 32; ++i) EXPECT_LE(std::abs(back[i]), twice ? 0.3f : 1e-39f) << i;
    EXPECT_EQ(back[0], 0);
    EXPECT_NEAR(back[32], 0.5f, 1e-6);
  }
  EXPECT_EQ(QuantizeNf4(std::vector<float>{0.5f}, 64, true, "w").codes,
            std::vector<uint8_t>{0xF7});  // what is left over is the code of 0
}

TEST(Nf4, ErrorOnNormalWeights) {
  const std::vector<float> w = Normal(1 << 20, 3);
  for (const auto& [twice, percent] : {std::pair{false, 9.197}, {true, 9.199}}) {
    const std::vector<float> back = Dequantized(QuantizeNf4(w, 64, twice, "w"));
    double error = 0, norm = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      error += std::pow(double{back[i]} - double{w[i]}, 2);
      norm += std::pow(double{w[i]}, 2);
    }
    EXPECT_NEAR(100 * std::sqrt(error / norm), percent, 0.02);
  }
}

TEST(Nf4, Refuses) {
  const std::vector<float> w(64);
  for (const int64_t block : {0, 16, 48, 8192})
    EXPECT_THAT(MessageOf([&] { QuantizeNf4(w, block, true, "w"); }),
                HasSubstr("a power of two from 32 to 4096"));
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> broken = w;
    broken[7] = bad;
    EXPECT_THAT(MessageOf([&] { QuantizeNf4(broken, 64, true, "fc1"); }), HasSubstr("'fc1' holds"));
  }
}

// --- kernels -------------------------------------------------------------------------------------

// The weight as tensors that a kernel reads, 4-byte aligned only.
struct Stored {
  Nf4Attrs format;
  Nf4Tensor t;
  std::vector<float> values;  // dequantised by the scalar code
  Stored(const Nf4Attrs& f, unsigned seed)
      : format(f),
        t(QuantizeNf4(Normal(f.rows * f.cols, seed, 1), f.block, f.double_quantised, "w")),
        values(Dequantized(t)) {}
  Nf4View View() {
    std::vector<Tensor> params{{t.codes.data(), DType::kU8, {}}};
    if (format.double_quantised) {
      params.push_back({t.absmax_codes.data(), DType::kU8, {}});
      params.push_back({t.absmax2.data(), DType::kF32, {}});
      params.push_back({&t.offset, DType::kF32, {}});
    } else {
      params.push_back({t.absmax.data(), DType::kF32, {}});
    }
    return ViewNf4(format, params);
  }
};

TEST(Nf4Kernel, EqualsTheScalarCodeFromAnyPlaceOnEveryTarget) {
  for (const Nf4Attrs& format : {Nf4Attrs{3, 67, 32}, {37, 91, 64, false}, {101, 103, 32}}) {
    Stored stored(format, 1);
    const int64_t n = stored.t.count;
    ForEachTarget([&](const std::string& target) {
      std::mt19937 random(2);
      for (int i = 0; i < 200; ++i) {
        const int64_t begin = static_cast<int64_t>(random()) % (n + 1);
        const int64_t count =
            static_cast<int64_t>(random()) % std::min<int64_t>(n - begin + 1, 300);
        std::vector<float> out(static_cast<size_t>(count) + 1, 7.0f);
        DequantizeNf4(stored.View(), begin, count, out.data());
        EXPECT_EQ(out.back(), 7) << "wrote behind the end";
        ASSERT_TRUE(std::equal(out.begin(), out.end() - 1, stored.values.begin() + begin))
            << target << ": " << begin << " + " << count;
      }
    });
  }
}

// A part that is made on the way is the part that PackB makes of the dequantised weight.
TEST(Nf4Kernel, PacksAsPackB) {
  for (const Nf4Attrs& format : {Nf4Attrs{130, 203, 64}, {71, 330, 32, false}}) {
    Stored stored(format, 3);
    const Nf4View view = stored.View();
    ForEachTarget([&](const std::string& target) {
      for (const bool transposed : {true, false}) {
        const int64_t k = transposed ? format.cols : format.rows;
        const int64_t n = transposed ? format.rows : format.cols;
        const int64_t row = transposed ? 1 : format.cols, col = transposed ? format.cols : 1;
        const GemmSource source = Nf4Source(view, transposed);
        for (const GemmPart& part : {GemmPart{0, k, 0, n},
                                     {17, k - 30, 0, n},
                                     {k - 5, 5, 0, n},
                                     {0, k, n / 2, n - n / 2}}) {
          const size_t floats = PackedBytes(part.depth, part.cols) / sizeof(float);
          std::vector<float> got(floats, -7), want(floats, -7);
          PackB({stored.values.data() + part.k * row + part.n * col, row, col}, part.depth,
                part.cols, want.data());
          for (int64_t i = 0; i < source.pieces(source.context, part); ++i)
            source.pack(source.context, part, i, got.data());
          EXPECT_EQ(got, want) << target << " transposed " << transposed << ", from row " << part.k;
        }
      }
    });
  }
}

// --- in a store ----------------------------------------------------------------------------------

TEST(Nf4Params, TakeThePlaceOfTheMatrix) {
  ParamStore params;
  params.Set("w", {48, 50}, Normal(2400, 1));
  const ParamStore before = params;
  const Nf4Attrs format{48, 50, 64};
  QuantizeParam(params, "w", format);
  EXPECT_THAT(params.names(),
              ElementsAre("w.nf4", "w.nf4.absmax", "w.nf4.absmax2", "w.nf4.offset"));
  EXPECT_EQ(params.bytes().owned, static_cast<size_t>(Nf4SizesOf(format).bytes));
  EXPECT_EQ(Nf4SizesOf(format).bytes, 1200 + 38 + 4 + 4);
  EXPECT_EQ(before.values("w").size(), 2400u);  // a copy of the store still has it

  const uint8_t* codes = params.Get("w.nf4").u8().data();
  QuantizeParam(params, "w", format);  // a second graph on the same store
  EXPECT_EQ(params.Get("w.nf4").u8().data(), codes);
  EXPECT_THAT(
      MessageOf([&] {
        QuantizeParam(params, "w", {48, 50, 32});
      }),
      HasSubstr("'w.nf4.absmax': expected u8[75] of a weight [48,50] in blocks of 32, found "
                "u8[38]"));
  EXPECT_THAT(MessageOf([&] {
                QuantizeParam(params, "w", {48, 50, 64, false});
              }),
              HasSubstr("expected f32[38]"));

  params.Set("w", {48, 50}, Normal(2400, 2));  // a fresh base replaces what was there
  QuantizeParam(params, "w", format);
  EXPECT_FALSE(params.Has("w"));
  EXPECT_EQ(Hex(params.Get("w.nf4").u8()), Hex(QuantizeNf4(Normal(2400, 2), 64, true, "w").codes));
}

TEST(Nf4Params, Refuses) {
  ParamStore params;
  params.Set("w", {6, 4}, Normal(24, 1));
  EXPECT_THAT(MessageOf([&] {
                QuantizeParam(params, "v", {6, 4});
              }),
              HasSubstr("no parameter is named 'v'"));
  EXPECT_THAT(MessageOf([&] {
                QuantizeParam(params, "w", {4, 6});
              }),
              HasSubstr("'w': expected f32[4,6], found f32[6,4]"));
  EXPECT_THAT(MessageOf([&] {
                QuantizeParam(params, "w", {6, 4, 100});
              }),
              HasSubstr("a power of two"));
  EXPECT_TRUE(params.Has("w"));
  Graph g;
  const ValueId w = Nf4Weight(g, "w", {6, 4});
  const ValueId codes = g.node(g.value(w).producer).in[0];
  EXPECT_THAT(MessageOf([&] { g.SetTrainable(codes, true); }), HasSubstr("cannot train"));
}

TEST(Nf4Params, SavedAndReadBack) {
  const TempDir dir;
  ParamStore params;
  params.Set("w", {31, 33}, Normal(31 * 33, 1));
  QuantizeParam(params, "w", {31, 33, 32});
  WriteSafetensors(dir / "w.safetensors", params, {});
  const SafetensorsFile file = SafetensorsFile::Open(dir / "w.safetensors");
  ParamStore loaded;
  for (const FileTensor& t : file.tensors())
    t.dtype == FileDType::kU8 ? file.LoadU8(t, t.name, &loaded) : file.Load(t, t.name, &loaded);
  EXPECT_EQ(loaded.names(), params.names());
  for (const auto& [name, entry] : params.entries()) {
    EXPECT_TRUE(loaded.Get(name).type() == entry.type()) << name;
    EXPECT_TRUE(std::ranges::equal(loaded.Get(name).bytes(), entry.bytes())) << name;
  }
  QuantizeParam(loaded, "w", {31, 33, 32});  // finds what it wants
  EXPECT_THAT(MessageOf([&] { file.LoadU8(file.Get("w.nf4.offset"), "x", &loaded); }),
              HasSubstr("'w.nf4.offset': expected U8, found F32"));
}

}  // namespace
}  // namespace graft::testing::nf4_test
