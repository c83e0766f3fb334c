#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "runtime/io/atomic_file.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft::io_safetensors_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string WithHeader(const std::string& header, size_t data_bytes) {
  std::string file;
  for (size_t i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> 8 * i);
  return file + header + std::string(data_bytes, 'x');
}

SafetensorsFile ParseText(const std::string& text) {
  // A copy of exactly this size, so that the address sanitizer sees any read behind its end.
  const auto copy = std::make_shared<std::vector<char>>(text.begin(), text.end());
  return SafetensorsFile::Parse("f", std::as_bytes(std::span(*copy)), copy);
}

std::string ErrorOf(const std::string& text) {
  return MessageOf([&] { ParseText(text); });
}

const char kGood[] =
    R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"U8","shape":[2,2],"data_offsets":[8,12]}})";

TEST(Safetensors, ReadsAGoodFile) {
  const SafetensorsFile file = ParseText(WithHeader(kGood, 12));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_THAT(file.metadata(), ElementsAre(std::pair("k", "v")));
  EXPECT_THAT(file.Get("b").shape, ElementsAre(2, 2));
  EXPECT_EQ(file.bytes(file.Get("b")).size(), 4u);
  EXPECT_EQ(file.Find("c"), nullptr);
  EXPECT_THAT(MessageOf([&] { file.Get("bb"); }), HasSubstr("did you mean 'b'?"));
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  for (const auto& [header, bytes] : std::vector<std::pair<std::string, size_t>>{
           {"{}", 0},
           {"{}      ", 0},
           {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4},
           {R"({"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]}})", 0},
           {R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2},
           {R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3},
           {R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
            R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            2},
           {R"({"a":{"x":[{"y":[1.5,null]}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1},
           {R"({"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
            R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            1}})
    EXPECT_EQ(ErrorOf(WithHeader(header, bytes)), "no error") << header;
}

struct Hostile {
  std::string header;
  size_t bytes;
  const char* message;
};

// Writes the header of a tensor "a" with these fields.
std::string Field(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, HostileHeaders) {
  const std::string deep(100, '['), close(100, ']');
  const std::vector<Hostile> cases = {
      {"", 0, "expected the header to begin with '{'"},
      {" {}", 0, "expected the header to begin with '{'"},
      {"[]", 0, "expected the header to begin with '{'"},
      {"{", 0, "not JSON"},
      {"{} x", 0, "not JSON"},
      {"{}{}", 0, "not JSON"},
      {std::string("{}\0{}", 5), 0, "NUL byte"},
      {"{\"\xff\":{}}", 0, "not JSON in UTF-8"},
      {R"({"a":1})", 0, "unexpected a number in the header at 'a'"},
      {R"({"a":[]})", 0, "unexpected an array"},
      {R"({"a":null})", 0, "unexpected null"},
      {R"({"a":{}})", 0, "no 'dtype' in the header of 'a'"},
      {R"({"a":{"dtype":"F32","shape":[]}})", 4, "no 'data_offsets'"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4,
       "duplicate key 'dtype' in the header of 'a'"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "duplicate key 'a'"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate key '__metadata__'"},
      {R"({"__metadata__":{"k":"v","k":"v"}})", 0, "duplicate key 'k'"},
      {R"({"__metadata__":{"k":1}})", 0, "unexpected a number"},
      {R"({"__metadata__":{"k":{}}})", 0, "unexpected an object"},
      {R"({"__metadata__":null})", 0, "unexpected null"},
      {R"({"__metadata__":"x"})", 0, "unexpected a string"},
      {Field("\"F33\"", "[1]", "[0,4]"), 4, "tensor 'a': unknown dtype 'F33'"},
      {Field("\"f32\"", "[1]", "[0,4]"), 4, "unknown dtype 'f32'"},
      {Field("4", "[1]", "[0,4]"), 4, "unexpected a number"},
      {Field("\"F32\"", "1", "[0,4]"), 4, "unexpected a number"},
      {Field("\"F32\"", "[[1]]", "[0,4]"), 4, "unexpected an array"},
      {Field("\"F32\"", "[-1]", "[0,4]"), 4, "unexpected a negative number"},
      {Field("\"F32\"", "[1.0]", "[0,4]"), 4, "no integer"},
      {Field("\"F32\"", "[1e30]", "[0,4]"), 4, "no integer"},
      {Field("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, "no integer or too large"},
      {Field("\"F32\"", "[18446744073709551615]", "[0,4]"), 4, "too large"},
      {Field("\"F32\"", "[\"1\"]", "[0,4]"), 4, "unexpected a string"},
      {Field("\"F32\"", "[2]", "[0,4]"), 4,
       "F32 of shape [2] has 8 bytes, but data_offsets span 4"},
      {Field("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, "impossible number of bytes"},
      {Field("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0, "impossible number of bytes"},
      {Field("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), 0, "impossible number of bytes"},
      {Field("\"F64\"", "[576460752303423488]", "[0,0]"), 0, "impossible number of bytes"},
      {Field("\"F4\"", "[3]", "[0,1]"), 1, "impossible number of bytes"},
      {Field("\"F32\"", "[1]", "[0]"), 4, "expected 2 data_offsets, found 1"},
      {Field("\"F32\"", "[1]", "[0,4,8]"), 4, "expected 2 data_offsets, found 3"},
      {Field("\"F32\"", "[1]", "[4,0]"), 4, "reversed"},
      {Field("\"F32\"", "[1]", "[4,8]"), 8, "a hole is before it"},
      {Field("\"F32\"", "[1]", "[-4,0]"), 4, "unexpected a negative number"},
      {Field("\"F32\"", "[1]", "[0,4]"), 3, "the file is cut short"},
      {Field("\"F32\"", "[1]", "[0,4]"), 5, "longer than its tensors"},
      {Field("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "a hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps the one before"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "overlaps"},
      {R"({"a":{"x":)" + deep + close + "}}", 0, "nested deeper than 64"},
      {R"({"a":)" + deep, 0, "unexpected an array"},
  };
  for (const Hostile& c : cases)
    EXPECT_THAT(ErrorOf(WithHeader(c.header, c.bytes)), HasSubstr(c.message)) << c.header;
}

TEST(Safetensors, HeaderLength) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("found only 0 bytes"));
  EXPECT_THAT(ErrorOf(std::string(7, '\0')), HasSubstr("found only 7 bytes"));
  EXPECT_THAT(ErrorOf(std::string(8, '\0')), HasSubstr("begin with '{'"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff')), HasSubstr("the format allows 100000000"));
  std::string file = WithHeader("{}", 0);
  file[0] = 3;
  EXPECT_THAT(ErrorOf(file), HasSubstr("cut short"));
  const uint64_t over = 100'000'001;
  std::memcpy(file.data(), &over, 8);
  EXPECT_THAT(ErrorOf(file), HasSubstr("the format allows"));
}

TEST(Safetensors, TruncatedAtEveryLengthOrLonger) {
  const std::string good = WithHeader(kGood, 12);
  ASSERT_EQ(ErrorOf(good), "no error");
  for (size_t n = 0; n < good.size(); ++n) EXPECT_NE(ErrorOf(good.substr(0, n)), "no error") << n;
  EXPECT_THAT(ErrorOf(good + "x"), HasSubstr("longer than its tensors"));
}

// Any damage gives an error, or a file whose tensors still lie inside it; sanitizers see the rest.
TEST(Safetensors, RandomDamage) {
  std::mt19937 random(1);
  const std::string good = WithHeader(kGood, 12);
  int opened = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (uint32_t flips = 1 + random() % 3; flips > 0; --flips)
      bad[random() % bad.size()] =
          static_cast<char>(random() % 3 ? random() : "{}[],:\"09-"[random() % 10]);
    if (ErrorOf(bad) != "no error") continue;
    ++opened;
    const SafetensorsFile file = ParseText(bad);
    uint64_t bytes = 0;
    for (const FileTensor& t : file.tensors()) {
      bytes += file.bytes(t).size();
      if (ConvertsToFloat(t.dtype)) {
        ParamStore store;
        file.Load(t, "t", &store);
      }
    }
    EXPECT_EQ(bytes, 12u);
  }
  EXPECT_GT(opened, 100);  // flips in the data and in names
}

TEST(Safetensors, Conversions) {
  const auto convert = [](FileDType dtype, auto value) {
    float out = NAN;
    ToFloat(dtype, std::as_bytes(std::span(&value, 1)), {&out, 1});
    return out;
  };
  EXPECT_EQ(convert(FileDType::kF64, -1.5), -1.5f);
  EXPECT_EQ(convert(FileDType::kI64, int64_t{-3}), -3.f);
  EXPECT_EQ(convert(FileDType::kU64, uint64_t{1} << 63), 0x1p63f);
  EXPECT_EQ(convert(FileDType::kI8, int8_t{-128}), -128.f);
  EXPECT_EQ(convert(FileDType::kBool, uint8_t{7}), 1.f);
  EXPECT_EQ(convert(FileDType::kBF16, uint16_t{0xBFC0}), -1.5f);
  for (const auto& [bits, value] : std::vector<std::pair<uint16_t, float>>{{0x3C00, 1.f},
                                                                           {0xC000, -2.f},
                                                                           {0x7BFF, 65504.f},
                                                                           {0x0001, 0x1p-24f},
                                                                           {0x03FF, 0x3FFp-24f},
                                                                           {0x0400, 0x1p-14f},
                                                                           {0x8000, -0.f},
                                                                           {0x7C00, INFINITY},
                                                                           {0xFC00, -INFINITY}})
    EXPECT_EQ(convert(FileDType::kF16, bits), value) << bits;
  EXPECT_TRUE(std::signbit(convert(FileDType::kF16, uint16_t{0x8000})));
  EXPECT_TRUE(std::isnan(convert(FileDType::kF16, uint16_t{0x7E01})));
}

// They are rounded to the nearest value and, half-way, to the even one, as torch.Tensor.to does it.
TEST(Safetensors, FloatsAreRoundedToHalfTypes) {
  for (const FileDType type : {FileDType::kF16, FileDType::kBF16}) {
    const auto to = [&](float x) {
      uint16_t bits;
      FromFloat(type, {&x, 1}, std::as_writable_bytes(std::span(&bits, 1)));
      return bits;
    };
    const auto from = [&](uint16_t bits) {
      float x;
      ToFloat(type, std::as_bytes(std::span(&bits, 1)), {&x, 1});
      return x;
    };
    const uint16_t infinity = type == FileDType::kF16 ? 0x7C00 : 0x7F80;
    for (uint16_t bits = 0; bits < infinity; ++bits) {
      const float x = from(bits), next = from(static_cast<uint16_t>(bits + 1));
      ASSERT_EQ(to(x), bits);
      ASSERT_EQ(to(-x), bits | 0x8000);
      if (bits + 1 == infinity) continue;
      const float middle = x + (next - x) / 2;
      ASSERT_EQ(to(middle), bits + (bits & 1)) << middle;
      ASSERT_EQ(to(std::nextafter(middle, 0.f)), bits) << middle;
      ASSERT_EQ(to(std::nextafter(middle, INFINITY)), bits + 1) << middle;
    }
    EXPECT_TRUE(std::isnan(from(to(std::numeric_limits<float>::quiet_NaN()))));
    EXPECT_EQ(to(-std::numeric_limits<float>::infinity()), infinity | 0x8000);
  }
  std::vector<float> values{65519.f, 65520.f, 1e-8f, -3.3f, 0.1f};
  RoundTo(FileDType::kF16, values);
  EXPECT_EQ(values, (std::vector<float>{65504.f, INFINITY, 0.f, -3.30078125f, 0.0999755859375f}));
}

TEST(Safetensors, LoadRefusesWhatItCannotHold) {
  ParamStore store;
  const SafetensorsFile f8 = ParseText(WithHeader(Field("\"F8_E4M3\"", "[1]", "[0,1]"), 1));
  EXPECT_THAT(MessageOf([&] { f8.Load(f8.Get("a"), "a", &store); }),
              HasSubstr("tensor 'a' is F8_E4M3, which does not convert to F32"));
  const SafetensorsFile deep = ParseText(WithHeader(Field("\"U8\"", "[1,1,1,1,1]", "[0,1]"), 1));
  EXPECT_THAT(MessageOf([&] { deep.Load(deep.Get("a"), "a", &store); }),
              HasSubstr("at most 4 dimensions, found [1,1,1,1,1]"));
  EXPECT_EQ(store.size(), 0u);
}

TEST(Safetensors, UnalignedDataIsCopied) {
  for (const std::string pad : {"", " ", "  ", "   "}) {
    std::string text = WithHeader(Field("\"F32\"", "[1]", "[0,4]") + pad, 4);
    const float value = 2.5;
    std::memcpy(text.data() + text.size() - 4, &value, 4);
    const ParamStore store = ParseText(text).LoadAll();
    EXPECT_EQ(store.data("a")[0], 2.5f);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(store.data("a")) % 4, 0u);
  }
}

TEST(Safetensors, RoundTripIsBitExactAndDeterministic) {
  const TempDir dir;
  ParamStore store;
  std::mt19937 random(2);
  for (const auto& [name, shape] : std::vector<std::pair<std::string, Extents>>{
           {"w", {3, 5}}, {"quote\"\\\xc3\xa9", {2}}, {"scalar", {}}, {"empty", {0, 4}}}) {
    float* w = store.Allocate(name, shape);
    for (int64_t i = 0; i < shape.size(); ++i)
      w[i] = std::bit_cast<float>(static_cast<uint32_t>(random()));
  }
  const StringMap metadata{{"graft.recipe", "[\"lora\"]"}, {"a", "line\nbreak"}};
  WriteSafetensors(dir / "a.safetensors", store, metadata);
  WriteSafetensors(dir / "b.safetensors", store, metadata);
  const std::string bytes = ReadFile(dir / "a.safetensors", 1 << 20);
  EXPECT_EQ(bytes, ReadFile(dir / "b.safetensors", 1 << 20));
  EXPECT_EQ(static_cast<uint8_t>(bytes[0]) % 8, 0);
  const SafetensorsFile file = SafetensorsFile::Open(dir / "a.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  const ParamStore loaded = file.LoadAll();
  EXPECT_EQ(loaded.names(), store.names());
  EXPECT_EQ(loaded.bytes().owned, 0u);  // all views into the mapping
  for (const auto& [name, entry] : store.entries()) {
    EXPECT_EQ(loaded.shape(name), entry.shape);
    EXPECT_EQ(std::memcmp(loaded.data(name), entry.data, entry.values().size_bytes()), 0) << name;
  }
}

TEST(Safetensors, SavingOverTheMappedFileKeepsTheView) {
  const TempDir dir;
  ParamStore store;
  store.Set("w", {2}, std::vector<float>{1, 2});
  WriteSafetensors(dir / "f", store, {});
  ParamStore loaded = SafetensorsFile::Open(dir / "f").LoadAll();
  ParamStore changed = loaded;
  changed.Mutable("w")[0] = 5;
  WriteSafetensors(dir / "f", changed, {});
  EXPECT_THAT(loaded.values("w"), ElementsAre(1, 2));
  EXPECT_THAT(SafetensorsFile::Open(dir / "f").LoadAll().values("w"), ElementsAre(5, 2));
}

TEST(Safetensors, WriterRefusesBadNames) {
  const TempDir dir;
  ParamStore store;
  store.Allocate("__metadata__", {1});
  EXPECT_THAT(MessageOf([&] { WriteSafetensors(dir / "f", store, {}); }),
              HasSubstr("__metadata__"));
  const std::vector<TensorToWrite> twice(2, ToWrite("w", store.Get("__metadata__")));
  EXPECT_THAT(MessageOf([&] { WriteSafetensors(dir / "f", twice, {}); }),
              HasSubstr("two tensors are named 'w'"));
  ParamStore latin;
  latin.Allocate("\xe9", {1});
  EXPECT_THAT(MessageOf([&] { WriteSafetensors(dir / "f", latin, {}); }), HasSubstr("UTF-8"));
  EXPECT_FALSE(fs::exists(dir / "f"));
}

class ShardTest : public ::testing::Test {
 protected:
  ShardTest() {
    ParamStore a, b;
    a.Set("x", {1}, std::vector<float>{1});
    b.Set("y", {1}, std::vector<float>{2});
    WriteSafetensors(dir_ / "a.safetensors", a, {});
    WriteSafetensors(dir_ / "b.safetensors", b, {});
  }
  std::string Open(const std::string& index) {
    WriteFileAtomically(dir_ / "model.safetensors.index.json", index);
    return MessageOf([&] { SafetensorsModel::Open(dir_ / "."); });
  }
  TempDir dir_;
};

TEST_F(ShardTest, ReadsAllShards) {
  EXPECT_EQ(Open(R"({"metadata":{"total_size":8},"weight_map":{"x":"a.safetensors",)"
                 R"("y":"b.safetensors"}})"),
            "no error");
  const auto model = SafetensorsModel::Open(dir_ / "model.safetensors.index.json");
  EXPECT_THAT(model.names(), ElementsAre("x", "y"));
  ParamStore store;
  model.Load("x", "z", &store);
  EXPECT_THAT(store.values("z"), ElementsAre(1));
  model.Load("y", "y", &store);
  EXPECT_THAT(store.values("y"), ElementsAre(2));
  EXPECT_THAT(MessageOf([&] { model.Load("w", "z", &store); }),
              HasSubstr("no tensor is named 'w'"));
}

TEST_F(ShardTest, RefusesWrongIndexes) {
  EXPECT_THAT(Open("{}"), HasSubstr("expected a key 'weight_map'"));
  EXPECT_THAT(Open(R"({"weight_map":{}})"), HasSubstr("weight_map is empty"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":1}})"), HasSubstr("expected a file name"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors"}})"),
              HasSubstr("duplicate key 'x'"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":"c.safetensors"}})"), HasSubstr("No such file"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":"b.safetensors"}})"), HasSubstr("'x' is not in"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":"a.safetensors","q":"a.safetensors"}})"),
              HasSubstr("'q' is not in"));
  for (const char* name : {"../a.safetensors", "/etc/passwd", "d/a.safetensors", "", ".."})
    EXPECT_THAT(Open(fmt::format(R"({{"weight_map":{{"x":"{}"}}}})", name)),
                HasSubstr("expected the name of a file in the same directory"));
  ParamStore two;
  two.Allocate("x", {1});
  two.Allocate("y", {1});
  WriteSafetensors(dir_ / "a.safetensors", two, {});
  EXPECT_THAT(Open(R"({"weight_map":{"x":"a.safetensors"}})"), HasSubstr("'y' of"));
  EXPECT_THAT(Open(R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})"),
              HasSubstr("tensor 'y' is in"));
}

TEST(Safetensors, OpenRefusesWhatIsNoFile) {
  const TempDir dir;
  EXPECT_THAT(MessageOf([&] { SafetensorsFile::Open(dir / "none"); }), HasSubstr("No such file"));
  EXPECT_THAT(MessageOf([&] { SafetensorsFile::Open(dir / "."); }), HasSubstr("regular file"));
  EXPECT_THAT(MessageOf([&] { SafetensorsFile::Open("/dev/zero"); }), HasSubstr("regular file"));
  EXPECT_THAT(MessageOf([&] { SafetensorsModel::Open(dir / "."); }),
              HasSubstr("expected model.safetensors or model.safetensors.index.json"));
}

}  // namespace
}  // namespace graft::io_safetensors_test
