// What a user does wrong: exit code, and one line that says what was expected, found, and what
// helps.
#include <cstring>

#include "runtime/io/npy.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_mistakes_test {
namespace {

// Little-endian 32-bit words of a PNG header are big-endian.
std::string PngHeader(uint32_t width, uint32_t height) {
  std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
  for (uint32_t v : {width, height})
    for (int shift = 24; shift >= 0; shift -= 8) png += static_cast<char>(v >> shift);
  png += std::string("\x08\x02\0\0\0", 5) + "CRC!";
  return png;
}

std::string WithHeader(std::string header, const std::string& data) {
  std::string length;
  for (size_t i = 0; i < 8; ++i) length += static_cast<char>(header.size() >> 8 * i);
  return length + header + data;
}

// Safetensors files that are `good` but for one thing, by name.
void SpillBrokenModels(const std::string& good, const TempDir& dir) {
  uint64_t size = 0;
  std::memcpy(&size, good.data(), 8);
  const std::string header = good.substr(8, size), data = good.substr(8 + size);
  const auto spill = [&](const std::string& name, const auto& edit) {
    nlohmann::json tensors = nlohmann::json::parse(header);
    edit(tensors);
    Spill(dir / name, WithHeader(tensors.dump(), data));
  };
  using Json = nlohmann::json;
  spill("same.safetensors", [](Json&) {});
  spill("overlap.safetensors",
        [](Json& t) { t["norm.bias"]["data_offsets"] = t["norm.weight"]["data_offsets"]; });
  spill("preprocess.safetensors",
        [](Json& t) { t["__metadata__"]["graft.preprocess"] = "vtab,resize=9999999"; });
  spill("integers.safetensors", [](Json& t) { t["norm.bias"]["dtype"] = "I32"; });
  spill("dtype.safetensors", [](Json& t) { t["norm.bias"]["dtype"] = "F33"; });
  spill("shape.safetensors", [](Json& t) { t["norm.bias"]["shape"] = {8, 8}; });
  spill("bytes.safetensors", [](Json& t) { t["norm.bias"]["shape"] = {63}; });
  spill("lost.safetensors", [](Json& t) {
    t["norm.bia"] = t["norm.bias"];
    t.erase("norm.bias");
  });
  const std::string twice = "\"norm.bias\":" + Json::parse(header)["norm.bias"].dump() + ",";
  Spill(dir / "twice.safetensors", WithHeader("{" + twice + header.substr(1), data));
  Spill(dir / "long.safetensors", good + "x");
  Spill(dir / "short.safetensors", good.substr(0, good.size() / 2));
  Spill(dir / "garbage.safetensors", std::string(1000, 'x'));
  Spill(dir / "bert.safetensors",
        WithHeader(R"({"bert.embeddings.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                   std::string(8, '\0')));
}

class Mistakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(*dir_ / "data");
    MakeData(*dir_ / "count", "count");
    ASSERT_EQ(Graft(TrainArgs(*dir_ / "data", *dir_ / "run", {"--limit", "16"})).code, 0);
    Words linear = TrainArgs(*dir_ / "data", *dir_ / "linear", {"--limit", "16"});
    std::replace(linear.begin(), linear.end(), std::string("lora(r=2)"), std::string("linear"));
    ASSERT_EQ(Graft(linear).code, 0);
    ASSERT_EQ(Graft({"fuse", "--run", *dir_ / "run", "--out", *dir_ / "fused.safetensors"}).code,
              0);
    SpillBrokenModels(Slurp(*dir_ / "fused.safetensors"), *dir_);
    Spill(*dir_ / "pytorch_model.bin", "\x80\x02");
    Spill(*dir_ / "text.jpg", "this is no picture\n");
    Spill(*dir_ / "huge.png", PngHeader(20000, 20000));
    Spill(*dir_ / "empty.jpg", "");
    fs::create_symlink("nowhere", *dir_ / "dangling.jpg");
    Spill(*dir_ / "closed.jpg", "closed");
    fs::permissions(*dir_ / "closed.jpg", fs::perms::none);
    fs::create_directory(*dir_ / "closed");
    fs::permissions(*dir_ / "closed", fs::perms::owner_read | fs::perms::owner_exec);
    Spill(*dir_ / "one.ppm", "P6 1 1 255\nabc");
    Spill(*dir_ / "wrong.npy",
          std::string("\x93NUMPY\x01\0\x46\0", 10) +
              "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }          \n" +
              std::string(12, '\0'));
    WriteNpy(*dir_ / "large.npy",
             ToWrite<float>("images", {1, 3, 32, 32}, std::vector<float>(3 * 32 * 32, 3.4e38f)));
    CopyData("badlabel"), Spill(*dir_ / "badlabel/test.txt", "images/test/000000.png 99\n");
    CopyData("emptylist"), Spill(*dir_ / "emptylist/test.txt", "\n");
    CopyData("lostimage"), Spill(*dir_ / "lostimage/test.txt", "images/test/none.png 1\n");
    CopyData("loop"), fs::remove(*dir_ / "loop/train800.txt");
    fs::create_symlink("train800.txt", *dir_ / "loop/train800.txt");
    CopyData("badimage"), Spill(*dir_ / "badimage/images/test/000000.png", "no picture\n");
    fs::create_directories(*dir_ / "folders/train/cat");
    fs::create_directories(*dir_ / "folders/train/dog");
    fs::copy_file(*dir_ / "data/images/test/000000.png", *dir_ / "folders/train/cat/a.png");
    fs::create_directory(*dir_ / "nothing");
  }
  static void TearDownTestSuite() { delete dir_; }
  static void CopyData(const std::string& to) {
    fs::copy(*dir_ / "data", *dir_ / to, fs::copy_options::recursive);
  }
  static TempDir* dir_;
};
TempDir* Mistakes::dir_ = nullptr;

Words TrainModel(const char* model) {
  return {"train", "--model", model, "--data", "@data", "--method", "lora", "--out", "@fresh"};
}
Words TrainData(const char* data) {
  return {"train", "--model", kNano, "--data", data, "--method", "lora", "--out", "@fresh"};
}
const std::string kLongName = "@" + std::string(300, 'x');
Words Predict(const char* input) { return {"predict", "--run", "@run", input}; }

std::vector<Mistake> All() {
  return {
      // Words.
      {"unknown command", {"trian"}, 2, {"did you mean 'train'"}},
      {"unknown flag", Train({"--epoch", "3"}), 2, {"--epochs"}},
      {"number", Train({"--epochs", "many"}), 2, {"--epochs", "many"}},
      {"range", Train({"--warmup", "7"}), 2, {"--warmup", "0 to 1", "7"}},
      {"schedule", Train({"--schedule", "cosin"}), 2, {"'cosin'; known: cosine, linear"}},
      {"optimizer", Train({"--optimizer", "adam"}), 2, {"adamw"}},
      {"isa", Train({"--isa", "avx51"}), 2, {"avx51", "avx512"}},
      {"pass", Train({"--disable-pass", "matmul_epilog"}), 2, {"did you mean 'matmul_epilogue'"}},
      {"method", Train({}, "lroa"), 2, {"'lroa'", "did you mean 'lora'"}},
      {"method option", Train({}, "lora(rang=4)"), 2, {"'rang'"}},
      {"method value", Train({}, "lora(r=many)"), 2, {"'r'", "'many'"}},
      {"method target", Train({}, "lora(targets=attn.w)"), 2, {"attn.w", "attn."}},
      {"method brackets", Train({}, "lora(r=4"), 2, {")"}},
      {"preset", Train({"--preprocess", "imagenett"}), 2, {"did you mean 'imagenet'"}},
      {"preset of nothing", Train({"--preprocess", "zz=3"}), 2, {"--preprocess: unknown key 'zz'"}},
      {"budget text", Train({"--memory-budget", "lots"}), 2, {"lots", "1.5GiB"}},
      {"budget too small", Train({"--memory-budget", "64KiB"}), 1, {"smallest possible is", "MiB"}},
      {"nothing to train", {"train"}, 2, {"--model"}},
      {"eval without model", {"eval", "--data", "@data"}, 2, {"--run", "--model"}},
      {"eval with both",
       {"eval", "--run", "@run", "--model", "@fused.safetensors", "--data", "@data"},
       2,
       {"both"}},
      {"checkpoint",
       {"eval", "--run", "@run", "--checkpoint", "bst", "--data", "@data"},
       2,
       {"did you mean 'best'"}},
      {"format",
       {"export", "--run", "@run", "--format", "tim", "--out", "@fresh"},
       2,
       {"did you mean 'timm'"}},
      {"peft of another method",
       {"export", "--run", "@linear", "--format", "hf-peft", "--out", "@fresh"},
       1,
       {"peft has no method 'linear'", "--format graft"}},
      {"merged adapter",
       {"export", "--run", "@run", "--format", "hf-peft", "--merged", "--out", "@fresh"},
       2,
       {"--merged"}},
      {"adapter of a plain model",
       {"export", "--model", "@fused.safetensors", "--format", "hf-peft", "--out", "@fresh"},
       2,
       {"has none", "--adapter"}},
      {"fuse nothing",
       {"fuse", "--model", "@fused.safetensors", "--out", "@fresh"},
       2,
       {"nothing to merge"}},
      {"fuse without a run", {"fuse", "--out", "@fresh"}, 2, {"--run", "--model"}},
      {"bias option", Train({}, "lora(bias=some)"), 2, {"'bias'", "'some'"}},
      {"norm target", Train({}, "ln(targets=norm3)"), 2, {"'norm3'", "norm"}},
      {"not merged",
       {"export", "--run", "@run", "--format", "hf", "--out", "@fresh"},
       2,
       {"--merged"}},
      {"graph", {"inspect", kNano, "--graph", "sgv"}, 2, {"did you mean 'svg'"}},
      {"block", {"inspect", kNano, "--graph", "svg", "--block", "9"}, 2, {"0 to 3", "9"}},
      {"methods name", {"inspect", "--methods", "lorra"}, 2, {"did you mean 'lora'"}},
      {"task",
       {"data", "make", "shape", "--out", "@fresh"},
       2,
       {"did you mean 'shapes'", "data make list"}},
      {"size",
       {"data", "make", "shapes", "--size", "5000", "--out", "@fresh"},
       2,
       {"16 to 512", "5000"}},
      // Models.
      {"architecture",
       TrainModel("init:vit_tinny_patch16_224"),
       1,
       {"did you mean 'vit_tiny_patch16_224'"}},
      {"no model", TrainModel("@none.safetensors"), 1, {"none.safetensors"}},
      {"short model", TrainModel("@short.safetensors"), 1, {"short.safetensors", "cut short"}},
      {"long model",
       TrainModel("@long.safetensors"),
       1,
       {"long.safetensors", "longer than its tensors"}},
      {"garbage model",
       TrainModel("@garbage.safetensors"),
       1,
       {"garbage.safetensors: text that begins with 'xxx"}},
      {"overlapping tensors",
       TrainModel("@overlap.safetensors"),
       1,
       {"overlap.safetensors: tensor 'norm.", "overlaps"}},
      {"tensor twice", TrainModel("@twice.safetensors"), 1, {"duplicate key 'norm.bias'"}},
      {"integer weights",
       TrainModel("@integers.safetensors"),
       1,
       {"'norm.bias' is I32, expected F32, F16, BF16 or F64"}},
      {"unknown dtype",
       TrainModel("@dtype.safetensors"),
       1,
       {"'norm.bias'", "unknown dtype 'F33'"}},
      {"other shape",
       TrainModel("@shape.safetensors"),
       1,
       {"'norm.bias' has shape [8,8]", "wants [64]", "--arch"}},
      {"other bytes", TrainModel("@bytes.safetensors"), 1, {"F32 of shape [63] has 252 bytes"}},
      {"lost tensor",
       TrainModel("@lost.safetensors"),
       1,
       {"no tensor for 'norm.bias'", "did you mean 'norm.bia'"}},
      {"text model for images",
       TrainModel("init:bert_tiny"),
       1,
       {"holds images", "init:bert_tiny is a BERT"}},
      {"pickled model that is none", {"inspect", "@none.pt"}, 1, {"none.pt", "No such file"}},
      {"preprocessing in a file",
       {"predict", "--model", "@preprocess.safetensors", "@one.ppm"},
       1,
       {"preprocess.safetensors (metadata graft.preprocess)", "9999999"}},
      {"pickled model", TrainModel("@pytorch_model.bin"), 1, {"pickle", "safetensors"}},
      {"other model",
       TrainModel("@bert.safetensors"),
       1,
       {"bert.safetensors", "not a model that Graft knows", "cls_token"}},
      {"garbage inspected", {"inspect", "@garbage.safetensors"}, 1, {"garbage.safetensors"}},
      {"other inspected", {"inspect", "@bert.safetensors"}, 1, {"not a model that Graft knows"}},
      {"data as model",
       {"eval", "--model", "@data", "--data", "@data"},
       1,
       {"data", "model.safetensors"}},
      {"run as model", {"eval", "--model", "@run", "--data", "@data"}, 2, {"--run"}},
      {"model as run", {"eval", "--run", "@data", "--data", "@data"}, 1, {"no run here"}},
      {"adapter",
       {"eval", "--model", kNano, "--adapter", "@fused.safetensors", "--data", "@count"},
       1,
       {"graft."}},
      {"classes",
       {"eval", "--model", "@fused.safetensors", "--data", "@count"},
       1,
       {"8 classes", " 6", "graft train"}},
      // Images.
      {"no image", Predict("@none.jpg"), 1, {"none.jpg", "no such file"}},
      {"text image",
       Predict("@text.jpg"),
       1,
       {"text.jpg", "expected an image", "text that begins with 'this is no"}},
      {"empty image", Predict("@empty.jpg"), 1, {"empty.jpg", "empty file"}},
      {"dangling link", Predict("@dangling.jpg"), 1, {"dangling.jpg", "no such file"}},
      {"unreadable image", Predict("@closed.jpg"), 1, {"closed.jpg", "Permission denied"}},
      {"device", Predict("/dev/zero"), 1, {"/dev/zero", "device or pipe"}},
      {"huge image", Predict("@huge.png"), 1, {"huge.png", "20000"}},
      {"npy of huge values",
       Predict("@large.npy"),
       1,
       {"not finite", "input's values are too large, or the weights"}},
      {"npy shape", Predict("@wrong.npy"), 1, {"wrong.npy", "[n,3,32,32]", "[1,3]"}},
      {"no input", {"predict", "--run", "@run"}, 2, {"images"}},
      // Data.
      {"no data", TrainData("@none"), 1, {"none", "does not exist"}},
      {"empty data", TrainData("@nothing"), 1, {"nothing", "train800.txt"}},
      {"label", TrainData("@badlabel"), 1, {"test.txt:1", "0 to 7", "99"}},
      {"empty list", TrainData("@emptylist"), 1, {"test.txt", "path label"}},
      {"list that is a loop",
       TrainData("@loop"),
       1,
       {"loop/train800.txt: Too many levels of symbolic links"}},
      {"empty class", TrainData("@folders"), 1, {"dog", "found none"}},
      {"lost image",
       {"eval", "--run", "@run", "--data", "@lostimage"},
       1,
       {"none.png", "does not exist"}},
      {"bad image",
       {"eval", "--run", "@run", "--data", "@badimage"},
       1,
       {"badimage/images/test/000000.png", "expected an image"}},
      {"split",
       {"eval", "--run", "@run", "--data", "@data", "--split", "tset"},
       1,
       {"did you mean 'test'"}},
      {"overlap",
       Train({"--train-split", "train800val200", "--val-split", "val200"}),
       1,
       {"shares 16 images", "--allow-overlap"}},
      // Outputs.
      {"run exists",
       {"train", "--model", kNano, "--data", "@data", "--method", "lora", "--out", "@run"},
       1,
       {"run: the directory exists and is not empty"}},
      {"out is a file",
       {"train", "--model", kNano, "--data", "@data", "--method", "lora", "--out", "@text.jpg"},
       1,
       {"text.jpg: exists and is not a directory"}},
      {"trace exists", Train({"--trace", "@data"}), 1, {"data: the directory exists and is not"}},
      {"data exists", {"data", "make", "shapes", "--out", "@data"}, 1, {"not empty"}},
      {"fuse to a directory",
       {"fuse", "--run", "@run", "--out", "@data"},
       1,
       {"cannot write", "not a regular file"}},
      {"export exists",
       {"export", "--run", "@run", "--format", "graft", "--out", "@data"},
       1,
       {"data", "not empty"}},
      {"read-only directory",
       {"train", "--model", kNano, "--data", "@data", "--method", "lora", "--out", "@closed/run"},
       1,
       {"closed/run: cannot create the directory: Permission denied"}},
      {"read-only output",
       {"fuse", "--run", "@run", "--out", "@closed/fused.safetensors"},
       1,
       {"cannot write", "closed/fused.safetensors: create: Permission denied"}},
      {"read-only data",
       {"data", "make", "shapes", "--out", "@closed/data"},
       1,
       {"closed/data", "cannot create the directory", ": Permission denied"}},
      {"long name",
       {"train", "--model", kNano, "--data", "@data", "--method", "lora", "--out", kLongName},
       1,
       {": File name too long"}},
      {"cannot write",
       {"train", "--model", kNano, "--data", "@data", "--method", "lora", "--out", "/proc/nothing"},
       1,
       {"/proc/nothing"}},
      {"logits",
       {"predict", "--run", "@run", "@one.ppm", "--logits", "/proc/nothing/out.npy"},
       1,
       {"/proc/nothing"}},
  };
}

TEST_F(Mistakes, GiveOneHelpfulLine) { ExpectMistakes(All(), *dir_); }

// The files of the table differ from a good one in what their case says, and in nothing else.
TEST_F(Mistakes, TheUnchangedFileIsRead) {
  EXPECT_EQ(Graft({"inspect", *dir_ / "same.safetensors"}).code, 0);
}

TEST_F(Mistakes, FullDisk) {
  const Surroundings full{.most_file_bytes = 600};
  Words many_logits{"predict", "--run", "@run", "--logits", "@fresh"};
  many_logits.insert(many_logits.end(), 20, "@one.ppm");
  const Words commands[] = {
      Train({}),
      {"fuse", "--run", "@run", "--out", "@fresh"},
      {"export", "--run", "@run", "--format", "graft", "--out", "@fresh"},
      {"export", "--run", "@run", "--format", "timm", "--merged", "--out", "@fresh"},
      many_logits,
      {"data", "make", "shapes", "--out", "@fresh"},
  };
  for (const Words& command : commands) {
    SCOPED_TRACE(command[0]);
    const Outcome o = Graft(InDirectory(*dir_, command), full);
    EXPECT_EQ(o.code, 1) << o.err;
    EXPECT_NE(o.err.find("File too large"), std::string::npos) << o.err;
    EXPECT_FALSE(fs::is_regular_file(*dir_ / "fresh"));
    fs::remove_all(*dir_ / "fresh");
  }
}

TEST_F(Mistakes, FullStandardOutput) {
  for (const Words& command :
       {Words{"predict", "--run", *dir_ / "run", *dir_ / "one.ppm", "--json"}, Words{"--help"},
        Words{"train", "--help"}, Words{"--version"}}) {
    const Outcome o = Graft(command, {.standard_output = "/dev/full"});
    EXPECT_EQ(o.code, 1) << command[0] << o.err;
    EXPECT_NE(o.err.find("standard output: No space left"), std::string::npos) << o.err;
  }
}

TEST_F(Mistakes, OnePixelIsAnImage) {
  EXPECT_EQ(GraftJson({"predict", "--run", *dir_ / "run", *dir_ / "one.ppm"})["predictions"].size(),
            1u);
}

TEST_F(Mistakes, ErrorsLeaveNothingButTheErrorOnStandardOutput) {
  const Outcome o = Graft({"predict", "--run", *dir_ / "run", *dir_ / "text.jpg", "--json"});
  EXPECT_EQ(o.json()["exit_code"], 1);
  EXPECT_EQ(o.json().size(), 3u) << o.out;
  EXPECT_EQ(Graft({"predict", "--run", *dir_ / "run", *dir_ / "none.jpg"}).out, "");
}

}  // namespace
}  // namespace graft::cli::cli_mistakes_test
