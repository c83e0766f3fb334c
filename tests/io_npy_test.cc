#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "runtime/io/npy.h"
#include "tests/test_util.h"

namespace graft::io_npy_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Npy(const std::string& header, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (size_t i = 0; i < (version == 1 ? 2u : 4u); ++i)
    file += static_cast<char>(header.size() >> 8 * i);
  return file + header + data;
}

template <class T>
std::string Bytes(std::vector<T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

NpyArray Parse(const std::string& text) {
  const std::vector<char> copy(text.begin(), text.end());  // of exactly this size
  return ToFloatArray(ParseNpy(std::as_bytes(std::span(copy)), "f"));
}

std::string ErrorOf(const std::string& text) {
  return MessageOf([&] { Parse(text); });
}

TEST(Npy, ReadsTypesAndVersions) {
  const std::string f4 = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }  \n";
  for (const int version : {1, 2, 3}) {
    const NpyArray a = Parse(Npy(f4, Bytes<float>({1, 2, 3, 4}), version));
    EXPECT_THAT(a.shape, ElementsAre(2, 2));
    EXPECT_THAT(a.values, ElementsAre(1, 2, 3, 4));
  }
  const auto one = [](const char* type, const std::string& data) {
    return Parse(Npy(fmt::format("{{\"shape\":(1,),'fortran_order':False,'descr':'{}'}}", type),
                     data))
        .values.at(0);
  };
  EXPECT_EQ(one("<f8", Bytes<double>({2.5})), 2.5f);
  EXPECT_EQ(one("<i4", Bytes<int32_t>({-7})), -7.f);
  EXPECT_EQ(one("<i8", Bytes<int64_t>({-8})), -8.f);
  EXPECT_EQ(one("|u1", Bytes<uint8_t>({200})), 200.f);
  EXPECT_EQ(one("|b1", Bytes<uint8_t>({1})), 1.f);
  EXPECT_EQ(one("<f2", Bytes<uint16_t>({0x3E00})), 1.5f);
}

TEST(Npy, FortranOrder) {
  const NpyArray a = Parse(Npy("{'descr':'|u1','fortran_order':True,'shape':(2,3,2)}",
                               Bytes<uint8_t>({0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11})));
  EXPECT_THAT(a.values, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_TRUE(Parse(Npy("{'descr':'|u1','fortran_order':True,'shape':(2,0)}", "")).values.empty());
}

TEST(Npy, ScalarAndEmpty) {
  EXPECT_THAT(Parse(Npy("{'descr':'|u1','fortran_order':False,'shape':()}", "\5")).values,
              ElementsAre(5));
  EXPECT_THAT(Parse(Npy("{'descr':'<f4','fortran_order':False,'shape':(0,7)}", "")).shape,
              ElementsAre(0, 7));
}

TEST(Npy, Hostile) {
  const auto header = [](const char* descr, const char* order, const char* shape) {
    return fmt::format("{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}", descr, order, shape);
  };
  const std::vector<std::pair<std::string, const char*>> cases = {
      {header("'|O'", "False", "(1,)"), "Python objects"},
      {header("'|O8'", "False", "(1,)"), "Python objects"},
      {header("[('a','<f4')]", "False", "(1,)"), "records"},
      {header("'>f4'", "False", "(1,)"), "little-endian number such as '<f4', found '>f4'"},
      {header("'<c8'", "False", "(1,)"), "found '<c8'"},
      {header("'<U3'", "False", "(1,)"), "found '<U3'"},
      {header("'<f4", "False", "(1,)"), "expected a little-endian number"},
      {header("'\\x3cf4'", "False", "(1,)"), "without escapes"},
      {header("'<f4'", "0", "(1,)"), "True or False"},
      {header("'<f4'", "False", "(2,)"), "needs 8 bytes, found 4"},
      {header("'<f4'", "False", "()5"), "expected '}'"},
      {header("'<f4'", "False", "1"), "expected '('"},
      {header("'<f4'", "False", "(-1,)"), "an extent"},
      {header("'<f4'", "False", "(1.5,)"), "expected ')'"},
      {header("'<f4'", "False", "(a,)"), "an extent"},
      {header("'<f4'", "False", "(99999999999999999999,)"), "an extent"},
      {header("'<f4'", "False", "(4294967296,4294967296)"), "needs too many bytes"},
      {header("'<f4'", "False", "(4611686018427387904,4)"), "needs too many bytes"},
      {header("'<f4'", "False", "(1,"), "an extent"},
      {header("'<f4'", "False", "(1,),'shape':(1,)"), "duplicate key 'shape'"},
      {header("'<f4'", "False", "(1,),'x':1"), "unknown key 'x'"},
      {header("'<f4'", "False", "(1,)") + "x", "nothing after the dictionary"},
      {"{'descr': '<f4', 'shape': (1,)}", "expected 'descr', 'fortran_order' and 'shape'"},
      {"__import__('os')", "expected '{'"},
      {"", "expected '{'"},
      {"{", "a string"},
      {"{'", "the end of a string"},
  };
  for (const auto& [text, message] : cases)
    EXPECT_THAT(ErrorOf(Npy(text, Bytes<float>({1}))), HasSubstr(message)) << text;
  std::string many = "(";
  for (int i = 0; i < 33; ++i) many += "1,";
  EXPECT_THAT(ErrorOf(Npy(header("'<f4'", "False", (many + ")").c_str()), Bytes<float>({1}))),
              HasSubstr("more than 32 dimensions"));
  EXPECT_THAT(ErrorOf("PK\3\4 and so on"), HasSubstr("not a .npy file"));
  EXPECT_THAT(ErrorOf(Npy("{}", "", 4)), HasSubstr("version 4.0 is unknown"));
  EXPECT_THAT(ErrorOf(Npy(std::string(70000, ' '), "", 2)), HasSubstr("at most 65536 are read"));
}

TEST(Npy, TruncatedAndDamaged) {
  const std::string good = Npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n",
                               Bytes<float>({1, 2, 3, 4}));
  ASSERT_EQ(ErrorOf(good), "no error");
  for (size_t n = 0; n < good.size(); ++n) EXPECT_NE(ErrorOf(good.substr(0, n)), "no error") << n;
  EXPECT_NE(ErrorOf(good + "x"), "no error");
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (uint32_t flips = 1 + random() % 3; flips > 0; --flips)
      bad[random() % bad.size()] =
          static_cast<char>(random() % 2 ? random() : "{}(),'09"[random() % 8]);
    ErrorOf(bad);  // an error or an array, never a crash
  }
}

class NpyFileTest : public ::testing::Test {
 protected:
  // Runs Python if it has NumPy; the check is not lost where it has not, only less complete.
  bool PythonSays(const std::string& code) {
    const char* python = std::getenv("GRAFT_PYTHON");
    const std::string run = fmt::format("cd {} && {} -c ", dir_, python ? python : "python3");
    if (std::system((run + "'import numpy' 2>/dev/null").c_str()) != 0) return true;
    return std::system((run + "\"import numpy as np, zipfile; " + code + "\"").c_str()) == 0;
  }
  TempDir temp_;
  const std::string dir_ = temp_.path().string();
};

TEST_F(NpyFileTest, RoundTrip) {
  const std::vector<float> values{1, 2.5, -3, 4, 5, 6};
  WriteNpy(dir_ + "/a.npy", ToWrite<float>("", {2, 3}, values));
  const NpyArray a = ReadNpy(dir_ + "/a.npy");
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_EQ(a.values, values);
  const std::vector<int64_t> ints{7, -8};
  WriteNpy(dir_ + "/b.npy", ToWrite<int64_t>("", {2}, ints));
  EXPECT_THAT(ReadNpy(dir_ + "/b.npy").values, ElementsAre(7, -8));
  EXPECT_TRUE(PythonSays(
      "a = np.load('a.npy'); assert a.dtype == np.float32 and a.shape == (2, 3);"
      "assert a.ravel().tolist() == [1, 2.5, -3, 4, 5, 6];"
      "b = np.load('b.npy', mmap_mode='r'); assert b.dtype == np.int64 and b.tolist() == [7, -8]"));
}

// Reading row by row gives the same values, of any element type, in either order.
TEST_F(NpyFileTest, RowsOfAFile) {
  std::string bytes;
  for (int i = 0; i < 3 * 2 * 4 * 5 * 8; ++i) bytes += static_cast<char>(i * 7 % 120);
  for (const auto& [type, size] : {std::pair("|u1", 1), {"<i2", 2}, {"<f4", 4}, {"<f8", 8}})
    for (const char* fortran : {"False", "True"}) {
      const std::string header = fmt::format(
          "{{'descr': '{}', 'fortran_order': {}, 'shape': (3, 2, 4, 5), }}", type, fortran);
      temp_.Write("rows.npy", Npy(header, bytes.substr(0, static_cast<size_t>(120 * size))));
      const NpyArray whole = ReadNpy(dir_ + "/rows.npy");
      const NpyRows rows = NpyRows::Open(dir_ + "/rows.npy");
      EXPECT_EQ(rows.shape(), whole.shape);
      ASSERT_EQ(rows.count(), 3);
      ASSERT_EQ(rows.row_size(), 40);
      for (const int64_t row : {2, 0, 1}) {
        std::vector<float> values(40);
        rows.Read(row, values.data());
        EXPECT_TRUE(std::equal(values.begin(), values.end(), whole.values.begin() + 40 * row))
            << type << " " << fortran << " " << row;
      }
    }
  temp_.Write("one.npy", Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "1234"));
  EXPECT_THAT(MessageOf([&] { NpyRows::Open(dir_ + "/one.npy"); }), HasSubstr("expected rows"));
}

TEST_F(NpyFileTest, ReadsWhatNumPyWrites) {
  if (!PythonSays("np.save('f.npy', np.asfortranarray(np.arange(6.).reshape(2, 3)))")) FAIL();
  if (!fs::exists(dir_ + "/f.npy")) GTEST_SKIP() << "no NumPy";
  EXPECT_THAT(ReadNpy(dir_ + "/f.npy").values, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(NpyFileTest, NpzIsReadByNumPy) {
  const std::vector<float> f{1, 2};
  const std::vector<uint8_t> mask{1, 0, 1, 1};
  for (const char* name : {"/a.npz", "/b.npz"}) {
    NpzWriter writer(dir_ + name);
    writer.Add(ToWrite<float>("step0/blocks.0.mlp", {2}, f));
    writer.Add(ToWrite<uint8_t>("m\xc3\xa9", {2, 2}, mask));
    EXPECT_THROW(writer.Add(ToWrite<float>("step0/blocks.0.mlp", {2}, f)), Error);
    writer.Close();
  }
  EXPECT_EQ(ReadFile(dir_ + "/a.npz", 1 << 20), ReadFile(dir_ + "/b.npz", 1 << 20));
  { NpzWriter(dir_ + "/empty.npz").Close(); }
  { NpzWriter(dir_ + "/never.npz").Add(ToWrite<float>("x", {2}, f)); }
  EXPECT_FALSE(fs::exists(dir_ + "/never.npz"));
  EXPECT_TRUE(PythonSays(
      "z = np.load('a.npz'); assert z.files == ['step0/blocks.0.mlp', 'm\\xe9'];"
      "assert z['m\\xe9'].tolist() == [[1, 0], [1, 1]] and z['m\\xe9'].dtype == np.uint8;"
      "assert z['step0/blocks.0.mlp'].tolist() == [1, 2];"
      "assert zipfile.ZipFile('a.npz').testzip() is None;"
      "assert np.load('empty.npz').files == []"));
}

}  // namespace
}  // namespace graft::io_npy_test
