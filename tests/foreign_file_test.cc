// What stands in the place of a file of tensors is named as what it is, by content whatever its
// name, through every door: the reader of safetensors, a model's path, an adapter's, a directory.
#include "runtime/io/foreign_file.h"

#include <gmock/gmock.h>

#include "adapters/hf/peft_reader.h"
#include "models/files/tensor_file.h"
#include "runtime/io/json.h"
#include "runtime/io/npz.h"
#include "tests/test_util.h"
#include "tests/zip_testing.h"

namespace graft::foreign_file_test {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A ZIP archive whose members hold nothing that matters.
std::string Archive(const std::vector<std::string>& names) {
  std::vector<Member> members;
  for (const std::string& name : names) members.push_back(Stored(name, "x"));
  return Zip(members);
}

std::string Tar() {
  std::string bytes(1024, '\0');
  bytes.replace(0, 9, "model.bin"s);
  return bytes.replace(257, 5, "ustar");
}

const std::string kLfs =
    "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 346293852\n";

struct Sample {
  std::string bytes, what;
};

const std::vector<Sample>& Samples() {
  static const std::vector<Sample> samples{
      {kLfs, "a Git LFS pointer, not the file itself; hint: git lfs pull"},
      {"\n<!DOCTYPE html>\n<html class=\"\">", "an HTML page, not the file itself; hint:"},
      {"<HTML><body>Not found</body>", "an HTML page"},
      {"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0"s, "a GGUF file (llama.cpp); hint: take the model's"},
      {"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"s, "an HDF5 file (Keras); hint: take the model's"},
      {"\x80\x02}q\0(X\x05\0\0\0abcde"s, "a PyTorch pickle, which is not read because"},
      {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j"s, "a PyTorch pickle, "},
      {"\x80\x04\x95\x1e\0\0\0\0\0\0\0}\x94\x8c"s, "a PyTorch pickle, "},
      {Archive({"archive/data.pkl", "archive/byteorder", "archive/data/0"}), "a PyTorch pickle, "},
      {Archive({"m/code/__torch__.py", "m/constants.pkl", "m/data.pkl"}),
       "a TorchScript program, which is not run; hint: save the state_dict()"},
      {Archive({"metadata.json", "config.json", "model.weights.h5"}), "a Keras model"},
      {Archive({"a.txt"}), "a ZIP archive; hint: unpack it"},
      {"\x08\x07\x12\x07pytorch\x1a\x05"s + "2.1.0:\x80\x01", "an ONNX model"},
      {"\x81\xa6params\x82\xa4head\x81\xa6kernel"s, "a MessagePack file (Flax)"},
      {"\xde\0\x10\xaa"s + "embeddings\x81", "a MessagePack file (Flax)"},
      {std::string(100, '\x01') + "\x57\xfb\x80\x8b\x24\x75\x47\xdb",
       "the index of a TensorFlow checkpoint"},
      {"\x18\0\0\0TFL3\x14\0 \0"s, "a TensorFlow Lite model"},
      {"\x93NUMPY\1\0v\0{'descr': '<f4'"s, "a single NumPy array"},
      {Tar(), "a tar archive; hint: unpack it"},
      {"\x1f\x8b\x08\0\0\0\0\0\0\x03"s + std::string(600, 'x'), "a file compressed by gzip"},
      {"\x28\xb5\x2f\xfd\x04\0\x01\0\0"s, "a file compressed by zstd"},
      {"Entry not found for this repository", "text that begins with 'Entry not found"},
  };
  return samples;
}

TEST(ForeignFile, IsNamedByItsContentWhateverItsName) {
  const TempDir dir;
  for (const Sample& s : Samples())
    for (const char* name :
         {"model.safetensors", "model.bin", "weights", "model.npz", "a.pth.tar"}) {
      SCOPED_TRACE(s.what + " as " + name);
      dir.Write(name, s.bytes);
      if (s.what.starts_with("a ZIP") && name == "model.npz"s) continue;  // a damaged .npz
      // What has no mark may be told by its name.
      if (s.what.starts_with("text") && (name == "model.bin"s || name == "a.pth.tar"s)) continue;
      EXPECT_THAT(MessageOf([&] { OpenTensorFile(dir / name); }),
                  StartsWith(dir / name + ": " + s.what));
      EXPECT_THAT(MessageOf([&] { SafetensorsFile::Open(dir / name); }), HasSubstr(s.what));
    }
}

TEST(ForeignFile, NamesTellWhatHasNoMark) {
  const TempDir dir;
  const std::pair<const char*, const char*> names[] = {
      {"a.pkl", "a PyTorch pickle by its name, which is not read"},
      {"a.pth.tar", "a PyTorch pickle by its name"},
      {"bert.ckpt.data-00000-of-00001", "a part of a TensorFlow checkpoint"},
      {"saved_model.pb", "a model of another program by its name"},
      {"model.onnx", "a model of another program by its name"}};
  for (const auto& [name, what] : names) {
    dir.Write(name, "\1\2\3\4\5\6\7\xff\xff\xff\xff");
    EXPECT_THAT(MessageOf([&name = name, &dir] { OpenTensorFile(dir / name); }), HasSubstr(what));
  }
  // A checkpoint of TensorFlow is named by what its files have in common.
  dir.Write("bert_model.ckpt.index", "x");
  EXPECT_THAT(MessageOf([&] { OpenTensorFile(dir / "bert_model.ckpt"); }),
              HasSubstr("bert_model.ckpt: a TensorFlow checkpoint"));
  EXPECT_THAT(MessageOf([&] { OpenTensorFile(dir / "none.ckpt"); }), HasSubstr("No such file"));
  dir.Write("config.json", R"({"model_type": "vit"})");
  EXPECT_THAT(MessageOf([&] { OpenTensorFile(dir / "config.json"); }),
              HasSubstr("JSON, not tensors; hint: name the directory"));
}

// A name promises nothing, so what holds tensors is read.
TEST(ForeignFile, TensorsAreReadUnderAnyName) {
  const TempDir dir;
  const std::vector<float> values{1, 2};
  const TensorToWrite tensor = ToWrite<float>("x", {2}, values);
  for (const char* name : {"a.bin", "a.pth", "a"}) {
    WriteSafetensors(dir / name, std::vector{tensor}, {});
    EXPECT_EQ(OpenTensorFile(dir / name)->names(), std::vector<std::string>{"x"}) << name;
  }
  NpzWriter writer(dir / "arrays.npz");
  writer.Add(tensor);
  writer.Close();
  std::filesystem::rename(dir / "arrays.npz", dir / "arrays.safetensors");
  EXPECT_EQ(OpenTensorFile(dir / "arrays.safetensors")->names(), std::vector<std::string>{"x"});
}

TEST(ForeignFile, ADirectorySaysWhatItHolds) {
  const TempDir dir;
  const auto open = [&](const std::string& name) {
    return MessageOf([&] { OpenTensorFile(dir / name); });
  };
  dir.Write("a/config.json", "{}");
  EXPECT_THAT(open("a"), HasSubstr("a: expected model.safetensors or "
                                   "model.safetensors.index.json in it, found no file of tensors"));
  dir.Write("a/tf_model.h5", "\x89HDF\r\n\x1a\n...");
  EXPECT_THAT(open("a"), EndsWith("found tf_model.h5 (an HDF5 file (Keras)); hint: take the "
                                  "model's safetensors or PyTorch file"));
  dir.Write("a/optimizer.pt", "\x80\x02}");
  dir.Write("a/pytorch_model.bin", "\x80\x02}");
  EXPECT_THAT(
      open("a"),
      AllOf(HasSubstr("pytorch_model.bin (a PyTorch pickle), tf_model.h5 ("),
            EndsWith(fmt::format("{0}/pytorch_model.bin {0}/model.safetensors", dir / "a"))));
  dir.Write("b/pytorch_model-00001-of-00002.bin", "\x80\x02}");
  dir.Write("b/pytorch_model-00002-of-00002.bin", "\x80\x02}");
  dir.Write("b/training_args.bin", "\x80\x02}");
  EXPECT_THAT(open("b"), EndsWith(fmt::format("{0}/pytorch_model-00001-of-00002.bin "
                                              "{0}/pytorch_model-00002-of-00002.bin "
                                              "{0}/model.safetensors",
                                              dir / "b")));
  dir.Write("c/open_clip_model.safetensors", "x");
  EXPECT_THAT(open("c"), EndsWith("hint: name the file: " + dir / "c/open_clip_model.safetensors"));
  dir.Write("d/model.safetensors", kLfs);
  EXPECT_THAT(open("d"), HasSubstr("d/model.safetensors: a Git LFS pointer"));
}

TEST(ForeignFile, AdaptersToo) {
  const TempDir dir;
  const std::string config = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2,
                                 "target_modules": ["query"], "task_type": null})";
  for (const char* name : {"pickle", "lfs", "none"})
    dir.Write(name + "/adapter_config.json"s, config);
  dir.Write("pickle/adapter_model.bin", "\x80\x02}");
  dir.Write("lfs/adapter_model.safetensors", kLfs);
  const auto open = [&](const std::string& name) {
    return MessageOf([&] { PeftAdapter::Open(dir / name); });
  };
  EXPECT_THAT(open("pickle"), EndsWith("pickle/adapter_model.safetensors"));
  EXPECT_THAT(open("pickle"), HasSubstr("adapter_model.bin (a PyTorch pickle)"));
  EXPECT_THAT(open("lfs"), HasSubstr("adapter_model.safetensors: a Git LFS pointer"));
  EXPECT_THAT(open("none"), HasSubstr("expected adapter_model.safetensors in it, found no file"));
  dir.Write("lfs/adapter_config.json", kLfs);
  EXPECT_THAT(open("lfs"), HasSubstr("adapter_config.json: a Git LFS pointer"));
}

TEST(ForeignFile, TextFilesToo) {
  const TempDir dir;
  dir.Write("config.json", "<!doctype html><html>");
  EXPECT_THAT(MessageOf([&] { ReadJson(dir / "config.json"); }), HasSubstr("an HTML page"));
  dir.Write("config.json", kLfs);
  EXPECT_THAT(MessageOf([&] { ReadJson(dir / "config.json"); }), HasSubstr("a Git LFS pointer"));
}

// The output of a conversion is a new file.
TEST(ForeignFile, ConversionsOverwriteNothing) {
  const TempDir dir;
  const auto open = [&](const std::string& name) {
    dir.Write(name, "\x80\x02}");
    return MessageOf([&] { OpenTensorFile(dir / name); });
  };
  EXPECT_THAT(open("a.pth.tar"), EndsWith(dir / "a.pth.tar" + " " + dir / "a.safetensors"));
  dir.Write("a.safetensors", "x");
  EXPECT_THAT(open("a.pth"), EndsWith(dir / "a.pth" + " " + dir / "a-2.safetensors"));
  EXPECT_THAT(open("b.safetensors"),
              EndsWith(dir / "b.safetensors" + " " + dir / "b-2.safetensors"));
  EXPECT_THAT(open("it's.pt"), EndsWith(fmt::format("'{0}/it'\\''s.pt' '{0}/it'\\''s.safetensors'",
                                                    dir.path().string())));
}

}  // namespace
}  // namespace graft::foreign_file_test
