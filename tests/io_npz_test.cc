// Tests .npz archives: those of NumPy and of our writer, and broken ones of every kind.
#include <gtest/gtest.h>

#include <cstring>

#include "runtime/io/atomic_file.h"
#include "runtime/io/npz.h"
#include "tests/zip_testing.h"

namespace graft::io_npz_test {
namespace {

// Opens and reads everything.
std::map<std::string, NpyArray> ReadAll(const std::string& bytes) {
  const NpzFile file = NpzFile::Parse("x.npz", std::as_bytes(std::span(bytes)), nullptr);
  std::map<std::string, NpyArray> arrays;
  for (const NpzFile::Array& a : file.arrays()) {
    arrays[a.name] = file.Read(a);
    EXPECT_EQ(arrays[a.name].shape, a.shape);
  }
  return arrays;
}

std::string MessageFor(const std::string& bytes) {
  return MessageOf([&] { ReadAll(bytes); });
}

const std::string kHeader = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
const std::vector<float> kValues{1, 2, 3, 4, 5, 6};
const std::string kArray = Npy(kHeader, Floats(kValues));

TEST(Npz, ReadsWhatNumPyHasDeflated) {
  const NpzFile file = NpzFile::Open(kFixtures + "tiny_vit.npz");
  EXPECT_EQ(file.arrays().size(), 40u);
  const NpzFile::Array* kernel =
      file.Find("Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel");
  ASSERT_NE(kernel, nullptr);
  EXPECT_TRUE(kernel->deflated);
  EXPECT_EQ(kernel->shape, (std::vector<int64_t>{24, 2, 12}));
  EXPECT_EQ(file.Read(*kernel).values.size(), 576u);
  EXPECT_EQ(file.Find("no such array"), nullptr);
}

TEST(Npz, ReadsOurOwnArchives) {
  const TempDir dir;
  NpzWriter writer(dir / "a.npz");
  writer.Add(ToWrite<float>("b/x", {2, 3}, kValues));
  writer.Add(ToWrite<int32_t>("a", {2}, std::vector<int32_t>{7, -9}));
  writer.Add(ToWrite<float>("none", {0, 3}, {}));
  writer.Close();
  const auto arrays = ReadAll(ReadFile(dir / "a.npz", 1 << 20));
  EXPECT_EQ(arrays.at("b/x").values, kValues);
  EXPECT_EQ(arrays.at("a").values, (std::vector<float>{7, -9}));
  EXPECT_TRUE(arrays.at("none").values.empty());
  NpzWriter(dir / "empty.npz").Close();
  EXPECT_TRUE(ReadAll(ReadFile(dir / "empty.npz", 1 << 20)).empty());
}

TEST(Npz, ReadsFortranOrderOtherTypesAndComments) {
  const std::string turned =
      Npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", Floats({1, 4, 2, 5, 3, 6}));
  const double half = 0.5;
  const std::string f64 = Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
                              {reinterpret_cast<const char*>(&half), 8});
  const auto arrays = ReadAll(Zip({Stored("a.npy", kArray), Packed("b.npy", kArray),
                                   Packed("t.npy", turned), Stored("d.npy", f64)},
                                  "a comment"));
  for (const char* name : {"a", "b", "t"}) EXPECT_EQ(arrays.at(name).values, kValues) << name;
  EXPECT_EQ(arrays.at("d").values, (std::vector<float>{0.5f}));
}

TEST(Npz, RefusesWhatIsNoPlainArchiveOfArrays) {
  auto with = [](Member m, const auto& change) {
    change(m);
    return Zip({m});
  };
  const Member good = Stored("a.npy", kArray), packed = Packed("a.npy", kArray);
  const std::string object =
      Npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", std::string(8, 'x'));
  const std::string too_big =
      Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "");
  const std::pair<const char*, std::string> cases[] = {
      {"not an .npz file", "PK"},
      {"not an .npz file", std::string(100, '\0')},
      {"two arrays are named 'a'", Zip({good, good})},
      {"encrypted", with(good, [](Member& m) { m.flags = 1; })},
      {"encrypted", with(good, [](Member& m) { m.flags = 1 << 6; })},
      {"compression method 12", with(good, [](Member& m) { m.method = 12; })},
      {"expected members named *.npy", with(good, [](Member& m) { m.name = "a.txt"; })},
      {"differs from the directory", with(good, [](Member& m) { m.local_name = "b.npy"; })},
      {"checksum is wrong", with(good, [](Member& m) { m.crc ^= 1; })},
      {"checksum is wrong", with(packed, [](Member& m) { m.crc ^= 1; })},
      {"stored, but", with(good, [](Member& m) { m.size += 4; })},
      {"needs 24 bytes, found 28", Zip({Stored("a.npy", kArray + "more")})},
      {"damaged", with(packed, [](Member& m) { m.data += "more"; })},
      {"damaged", with(packed, [](Member& m) { m.data.resize(m.data.size() / 2); })},
      {"Python objects", Zip({Stored("a.npy", object)})},
      {"Python objects", Zip({Packed("a.npy", object)})},
      {"too many", Zip({Stored("a.npy", too_big)})},
      {"not a .npy file", Zip({Stored("a.npy", "")})},
      {"no member at", with(good, [](Member& m) { m.offset = 3; })},
      {"overlap", Zip({good, Member{.name = "a.npy",
                                    .data = kArray,
                                    .size = kArray.size(),
                                    .crc = good.crc,
                                    .offset = 0}})},
  };
  for (const auto& [expected, bytes] : cases)
    EXPECT_NE(MessageFor(bytes).find(expected), std::string::npos)
        << expected << "\nfound: " << MessageFor(bytes);
}

// The 64-bit end record is found by an offset that anything may stand in.
TEST(Npz, RefusesRecordsOutsideOfTheFile) {
  const TempDir dir;
  NpzWriter writer(dir / "a.npz");
  writer.Add(ToWrite<float>("x", {2, 3}, kValues));
  writer.Close();
  std::string bytes = ReadFile(dir / "a.npz", 1 << 20);
  const size_t locator = bytes.rfind("PK\x06\x07");
  ASSERT_NE(locator, bytes.npos);
  for (const uint64_t at : {bytes.size() - 3, uint64_t{1} << 40, UINT64_MAX - 1}) {
    std::memcpy(bytes.data() + locator + 8, &at, 8);
    EXPECT_NE(MessageFor(bytes).find("is outside the file"), std::string::npos)
        << MessageFor(bytes);
  }
}

// A declared size that the deflated bytes go beyond, or do not reach.
TEST(Npz, DeflatedDataMustFillTheDeclaredShape) {
  Member longer = Packed("a.npy", kArray + "tail");
  longer.size = kArray.size();
  EXPECT_NE(MessageFor(Zip({longer})).find("inflates to more than"), std::string::npos);
  Member shorter = Packed("a.npy", kArray.substr(0, kArray.size() - 4));
  shorter.size = kArray.size();
  EXPECT_NE(MessageFor(Zip({shorter})).find("damaged"), std::string::npos);
}

TEST(Npz, RefusesBombsWithoutUnpackingThem) {
  const size_t count = 32 << 20;  // 128 MiB of zeros in 128 KiB
  const std::string zeros = Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (33554432,), }",
                                std::string(4 * count, '\0'));
  const std::string bytes = Zip({Packed("a.npy", zeros)});
  EXPECT_LT(bytes.size(), size_t{1} << 20);
  EXPECT_NE(MessageFor(bytes).find("more than 32 times is refused"), std::string::npos);
}

// Many arrays that each may be as large as that.
TEST(Npz, RefusesBombsOfManyArrays) {
  const std::string zeros = Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000,), }",
                                std::string(8'000'000, '\0'));
  std::vector<Member> members;
  for (int i = 0; i < 8; ++i) members.push_back(Packed(fmt::format("a{}.npy", i), zeros));
  EXPECT_EQ(MessageFor(Zip(members)), "no error");  // 64 MB
  for (int i = 8; i < 20; ++i) members.push_back(Packed(fmt::format("a{}.npy", i), zeros));
  EXPECT_NE(MessageFor(Zip(members)).find("would unpack to 160002560; more than 32 times"),
            std::string::npos)
      << MessageFor(Zip(members));
}

TEST(Npz, EveryCutFileIsAnError) {
  const std::string whole = Zip({Packed("a.npy", kArray), Stored("b.npy", kArray)});
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(MessageFor(whole.substr(0, n)), "no error") << n;
}

// Nothing but an Error or the arrays may come of a file with one byte changed (sanitizers watch).
TEST(Npz, NoChangedByteCrashes) {
  const TempDir dir;
  NpzWriter writer(dir / "a.npz");  // with 64-bit records
  writer.Add(ToWrite<float>("x", {2, 3}, kValues));
  writer.Close();
  for (const std::string& whole :
       {Zip({Packed("a.npy", kArray), Stored("b.npy", kArray)}), ReadFile(dir / "a.npz", 1 << 20)})
    for (size_t i = 0; i < whole.size(); ++i)
      for (int change : {1, 0x80, 0xFF}) {
        std::string bytes = whole;
        bytes[i] = static_cast<char>(bytes[i] ^ change);
        MessageFor(bytes);
      }
}

}  // namespace
}  // namespace graft::io_npz_test
