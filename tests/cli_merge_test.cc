// In which type a merged model is written, and that its proof is about what is written.
#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_merge_test {
namespace {

class Weights : public ::testing::Test {
 protected:
  // A base in half precision, and a run on it.
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("first"), {"--lr", "1e-2"})).code, 0);
    GraftJson({"export", "--run", At("first"), "--format", "hf", "--merged", "--weights", "f16",
               "--out", Base()});
    std::vector<std::string> args = TrainArgs(At("data"), At("run"), {"--lr", "1e-2"});
    *(std::ranges::find(args, "--model") + 1) = Base();
    ASSERT_EQ(Graft(args).code, 0);
    loss_ = Loss({"--run", At("run")});
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::string Base() { return At("base"); }
  static double Loss(std::vector<std::string> what) {
    what.insert(what.begin(), "eval");
    for (const std::string& more : {std::string("--data"), At("data")}) what.push_back(more);
    return GraftJson(what)["loss"];
  }
  static std::string Type(const std::string& model) {
    const auto config = nlohmann::json::parse(Slurp(model + "/config.json"));
    return config["torch_dtype"];
  }
  static std::set<FileDType> Types(const std::string& file) {
    std::set<FileDType> types;
    const SafetensorsFile opened = SafetensorsFile::Open(file);
    for (const FileTensor& t : opened.tensors()) types.insert(t.dtype);
    return types;
  }

  static TempDir* dir_;
  static double loss_;
};
TempDir* Weights::dir_ = nullptr;
double Weights::loss_ = 0;

using Set = std::set<FileDType>;

TEST_F(Weights, AreWholeByDefaultAndTheConfigSaysSo) {
  EXPECT_EQ(Type(Base()), "float16");
  EXPECT_EQ(Types(Base() + "/model.safetensors"), Set{FileDType::kF16});
  const nlohmann::json proof = GraftJson({"fuse", "--run", At("run"), "--out", At("whole")});
  EXPECT_EQ(proof["weights"], "f32");
  EXPECT_LE(proof["relative_error"], 1e-5);
  EXPECT_EQ(proof["merged_error"], proof["relative_error"]);
  EXPECT_TRUE(proof["rounding_error"].is_null());
  EXPECT_EQ(proof["places"], proof["merged_weights"]);
  EXPECT_GT(proof["places"], 0);
  EXPECT_EQ(Type(At("whole")), "float32");
  // What was not merged is as it was.
  EXPECT_EQ(Types(At("whole/model.safetensors")), (Set{FileDType::kF16, FileDType::kF32}));
  EXPECT_NEAR(Loss({"--model", At("whole")}), loss_, 1e-5 * loss_);
}

TEST_F(Weights, InAHalfTypeAreThoseOfTheProof) {
  double least = 0;
  for (const auto& [word, name, type] : {std::tuple("base", "float16", FileDType::kF16),
                                         std::tuple("f16", "float16", FileDType::kF16),
                                         std::tuple("bf16", "bfloat16", FileDType::kBF16)}) {
    const std::string out = At(std::string("fused_") + word);
    const nlohmann::json proof =
        GraftJson({"fuse", "--run", At("run"), "--weights", word, "--out", out});
    EXPECT_EQ(proof["weights"], word == std::string("base") ? "f16" : word);
    EXPECT_LE(proof["merged_error"], 1e-5);
    EXPECT_GT(proof["relative_error"], std::max(least, 2e-5));  // bf16 is the coarser one
    if (word == std::string("f16")) least = proof["relative_error"];
    EXPECT_EQ(Type(out), name);
    EXPECT_EQ(Types(out + "/model.safetensors"), Set{type});
    EXPECT_NEAR(Loss({"--model", out}), loss_, 0.1 * loss_);
  }
  GraftJson({"export", "--run", At("run"), "--format", "timm", "--merged", "--weights", "base",
             "--out", At("timm")});
  EXPECT_EQ(Types(At("timm/model.safetensors")), Set{FileDType::kF16});
  EXPECT_EQ(Loss({"--model", At("timm/model.safetensors")}), Loss({"--model", At("fused_f16")}));
}

TEST_F(Weights, ThatNobodyKnows) {
  ExpectRefused({"fuse", "--run", At("run"), "--weights", "half", "--out", At("x")}, 2,
                "--weights: 'half'; known: base, f32, f16, bf16");
  ExpectRefused(
      {"export", "--model", Base(), "--format", "timm", "--weights", "f16", "--out", At("x")}, 2,
      "--weights f16: goes with --merged");
  ExpectRefused({"fuse", "--undo", At("whole"), "--weights", "f16", "--out", At("x")}, 2,
                "--undo takes");
  // This base has tensors and a config that agree on nothing.
  std::vector<TensorToWrite> tensors;
  const SafetensorsFile whole = SafetensorsFile::Open(At("whole/model.safetensors"));
  for (const FileTensor& t : whole.tensors())
    tensors.push_back({t.name, t.dtype, t.shape, whole.bytes(t)});
  fs::create_directory(At("mixed"));
  WriteSafetensors(At("mixed/model.safetensors"), tensors, whole.metadata());
  auto config = nlohmann::json::parse(Slurp(At("whole/config.json")));
  config.erase("torch_dtype");
  Spill(At("mixed/config.json"), config.dump());
  std::vector<std::string> args = TrainArgs(At("data"), At("on_mixed"), {"--limit", "8"});
  *(std::ranges::find(args, "--model") + 1) = At("mixed");
  ASSERT_EQ(Graft(args).code, 0);
  ExpectRefused({"fuse", "--run", At("on_mixed"), "--weights", "base", "--out", At("x")}, 2,
                "its tensors are of several types (F16 and F32); choose f32, f16 or bf16");
  EXPECT_FALSE(fs::exists(At("x")));
}

}  // namespace
}  // namespace graft::cli::cli_merge_test
