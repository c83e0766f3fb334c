// What a first user does, in order: make data, train, evaluate, fuse, predict, inspect, export.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_story_test {
namespace {

class Story : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(data());
    trained_ = new nlohmann::json(GraftJson(TrainArgs(data(), run())));
    fused_ =
        new nlohmann::json(GraftJson({"fuse", "--run", run(), "--data", data(), "--out", fused()}));
  }
  static void TearDownTestSuite() { delete dir_, delete trained_, delete fused_; }
  static std::string data() { return *dir_ / "data"; }
  static std::string run() { return *dir_ / "run"; }
  static std::string fused() { return *dir_ / "fused.safetensors"; }
  static std::string image() { return data() + "/images/test/000000.png"; }

  static TempDir* dir_;
  static nlohmann::json *trained_, *fused_;
};
TempDir* Story::dir_ = nullptr;
nlohmann::json *Story::trained_ = nullptr, *Story::fused_ = nullptr;

TEST_F(Story, TrainReports) {
  ExpectKeys(*trained_, {"run", "method", "epochs", "steps", "trainable_parameters",
                         "final_train_loss", "val_accuracy", "seconds", "examples_per_second",
                         "start_seconds", "peak_memory_bytes"});
  EXPECT_EQ((*trained_)["steps"], 6);
  EXPECT_GT((*trained_)["start_seconds"], 0);
  // Four blocks have q and v, each with r (in + out) = 2 * 128; the head has 8 classes.
  EXPECT_EQ((*trained_)["trainable_parameters"], 4 * 2 * 2 * 128 + 65 * 8);
  for (const char* file : {"config.json", "plan.json", "metrics.jsonl", "last.safetensors",
                           "best.safetensors", "state.safetensors"})
    EXPECT_TRUE(fs::exists(run() + "/" + file)) << file;
}

TEST_F(Story, EvalReports) {
  const nlohmann::json json = GraftJson({"eval", "--run", run(), "--data", data()});
  ExpectKeys(json, {"split", "n", "accuracy", "mean_class_accuracy", "loss", "seconds"});
  EXPECT_EQ(json["split"], "test");
  EXPECT_EQ(json["n"], 24);
  EXPECT_EQ(GraftJson({"eval", "--run", run(), "--data", data(), "--split", "val200", "--limit",
                       "5"})["n"],
            5);
  EXPECT_EQ(Graft({"eval", "--run", run(), "--data", data(), "--checkpoint", "best"}).code, 0);
}

TEST_F(Story, FusedFileEvaluatesAlike) {
  ExpectKeys(*fused_, {"max_abs_logit_difference", "relative_error", "top1_agreement", "n",
                       "nodes_before", "nodes_after"});
  EXPECT_LE((*fused_)["relative_error"], 1e-5);
  EXPECT_EQ((*fused_)["top1_agreement"], 1.0);
  const nlohmann::json before = GraftJson({"eval", "--run", run(), "--data", data()});
  const nlohmann::json after = GraftJson({"eval", "--model", fused(), "--data", data()});
  EXPECT_EQ(before["accuracy"], after["accuracy"]);
  EXPECT_NEAR(before["loss"], after["loss"], 1e-4);
}

TEST_F(Story, PredictAgreesBetweenRunAndFused) {
  std::vector<nlohmann::json> tops;
  for (const auto& [flag, model] : {std::pair{"--run", run()}, {"--model", fused()}}) {
    const nlohmann::json json = GraftJson({"predict", flag, model, image(), "--top", "3"});
    ASSERT_EQ(json["predictions"].size(), 1u);
    const nlohmann::json& p = json["predictions"][0];
    EXPECT_EQ(p["input"], image());
    ASSERT_EQ(p["top"].size(), 3u);
    ExpectKeys(p["top"][0], {"class", "name", "probability", "logit"});
    EXPECT_TRUE(p["top"][0]["name"].is_string());
    EXPECT_GE(p["top"][0]["probability"], p["top"][1]["probability"]);
    tops.push_back(p["top"]);
  }
  EXPECT_EQ(tops[0][0]["class"], tops[1][0]["class"]);
  EXPECT_NEAR(tops[0][0]["logit"], tops[1][0]["logit"], 1e-4);
}

TEST_F(Story, PredictWritesLogitsOfManyInputs) {
  const std::string npy = *dir_ / "logits.npy";
  const nlohmann::json json = GraftJson(
      {"predict", "--run", run(), image(), image(), image(), "--logits", npy, "--top", "100"});
  EXPECT_EQ(json["predictions"].size(), 3u);
  EXPECT_EQ(json["predictions"][0]["top"].size(), 8u);  // all classes
  const std::string bytes = Slurp(npy);
  EXPECT_NE(bytes.find("'shape': (3, 8)"), std::string::npos);
}

TEST_F(Story, ModelWithoutNamesGivesIndices) {
  const nlohmann::json json = GraftJson({"predict", "--model", kNano, image()});
  EXPECT_TRUE(json["predictions"][0]["top"][0]["name"].is_null());
  EXPECT_EQ(json["predictions"][0]["top"].size(), 5u);
}

TEST_F(Story, InspectReports) {
  const nlohmann::json plain = GraftJson({"inspect", fused()});
  ExpectKeys(plain, {"architecture", "parameters", "trainable_parameters", "keys"});
  ExpectKeys(plain["keys"], {"matched", "missing", "unexpected", "reshaped"});
  EXPECT_EQ(plain["keys"]["missing"].size(), 0u);
  EXPECT_EQ(plain["keys"]["unexpected"].size(), 0u);
  const nlohmann::json of_run = GraftJson({"inspect", run()});
  EXPECT_EQ(of_run["trainable_parameters"], (*trained_)["trainable_parameters"]);
  EXPECT_EQ(of_run["parameters"], plain["parameters"]);
  const Outcome text = Graft({"inspect", fused(), "--method", "lora(r=2)"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("lora_a"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("the same in blocks 1 to 3"), std::string::npos) << text.out;
}

TEST_F(Story, InspectDrawsGraphs) {
  EXPECT_NE(Graft({"inspect", kNano, "--graph", "text"}).out.find("output logits"),
            std::string::npos);
  const std::string rewrite = Graft({"inspect", kNano, "--method", "lora", "--graph", "text"}).out;
  EXPECT_NE(rewrite.find("\n+ "), std::string::npos) << rewrite;
  EXPECT_NE(rewrite.find("\n- "), std::string::npos) << rewrite;
  const std::string pass =
      Graft({"inspect", kNano, "--graph", "text", "--pass", "matmul_epilogue"}).out;
  EXPECT_TRUE(pass.starts_with("--- pass 'matmul_epilogue'\n")) << pass;
  EXPECT_NE(pass.find("bias=1"), std::string::npos) << pass;
  EXPECT_EQ(pass.find("sink_gather"), std::string::npos) << pass;
  EXPECT_TRUE(Graft({"inspect", kNano, "--graph", "dot"}).out.starts_with("digraph"));
  const std::string svg = *dir_ / "block.svg";
  EXPECT_EQ(Graft({"inspect", kNano, "--method", "lora", "--graph", "svg", "--out", svg}).code, 0);
  EXPECT_TRUE(Slurp(svg).starts_with("<svg"));
  EXPECT_NE(Slurp(svg).find("lora_a [8,64]"), std::string::npos);
  const Outcome methods = Graft({"inspect", "--methods"});
  for (const char* name : {"lora", "linear", "bitfit", "full", "last"})
    EXPECT_NE(methods.out.find(name), std::string::npos) << name;
  EXPECT_EQ(GraftJson({"inspect", "--methods", "lora"})["methods"].size(), 1u);
}

TEST_F(Story, ExportedModelsEvaluateAlike) {
  const nlohmann::json of_run = GraftJson({"eval", "--run", run(), "--data", data()});
  for (const char* format : {"hf", "timm"}) {
    const std::string out = *dir_ / (std::string("export-") + format);
    const Outcome o =
        Graft({"export", "--run", run(), "--format", format, "--merged", "--out", out});
    ASSERT_EQ(o.code, 0) << o.err;
    const nlohmann::json after = GraftJson({"eval", "--model", out, "--data", data()});
    EXPECT_EQ(after["accuracy"], of_run["accuracy"]) << format;
    EXPECT_NEAR(after["loss"], of_run["loss"], 1e-4) << format;
  }
  EXPECT_TRUE(fs::exists(*dir_ / "export-hf/config.json"));
  EXPECT_TRUE(fs::exists(*dir_ / "export-hf/preprocessor_config.json"));
}

TEST_F(Story, HuggingFaceDirectoryIsABase) {
  const std::string hf = *dir_ / "base-hf", second = *dir_ / "run-hf", out = *dir_ / "fused-hf";
  ASSERT_EQ(Graft({"export", "--run", run(), "--format", "hf", "--merged", "--out", hf}).code, 0);
  std::vector<std::string> args = TrainArgs(data(), second);
  args[2] = hf;
  const Outcome trained = Graft(args);
  ASSERT_EQ(trained.code, 0) << trained.err;
  ASSERT_EQ(Graft({"fuse", "--run", second, "--out", out}).code, 0);
  EXPECT_TRUE(fs::exists(out + "/config.json"));  // in the form that the base came in
  EXPECT_EQ(GraftJson({"eval", "--run", second, "--data", data()})["accuracy"],
            GraftJson({"eval", "--model", out, "--data", data()})["accuracy"]);
  // A base that changed under the run is noticed.
  fs::copy_file(fused(), hf + "/model.safetensors", fs::copy_options::overwrite_existing);
  const Outcome changed = Graft({"eval", "--run", second, "--data", data()});
  EXPECT_EQ(changed.code, 1);
  EXPECT_NE(changed.err.find("SHA-256"), std::string::npos) << changed.err;
}

TEST_F(Story, AdapterEvaluatesAlike) {
  // An adapter knows its base by hash, so it wants a file and not init:.
  const std::string second = *dir_ / "second", out = *dir_ / "adapter";
  std::vector<std::string> args = TrainArgs(data(), second);
  args[2] = fused();
  ASSERT_EQ(Graft(args).code, 0);
  ASSERT_EQ(Graft({"export", "--run", second, "--format", "graft", "--out", out}).code, 0);
  const std::string file = out + "/adapter.safetensors";
  const nlohmann::json of_run = GraftJson({"eval", "--run", second, "--data", data()});
  const nlohmann::json of_adapter =
      GraftJson({"eval", "--model", fused(), "--adapter", file, "--data", data()});
  EXPECT_EQ(of_adapter["accuracy"], of_run["accuracy"]);
  EXPECT_EQ(of_adapter["loss"], of_run["loss"]);
  EXPECT_EQ(GraftJson({"inspect", file})["kind"], "adapter");
  for (const std::string& adapter : {file, second})
    EXPECT_EQ(GraftJson({"inspect", fused(), "--adapter", adapter})["method"],
              GraftJson({"inspect", file})["method"]);
  EXPECT_EQ(GraftJson({"eval", "--model", fused(), "--adapter", out, "--data", data()})["loss"],
            of_run["loss"]);  // the directory stands for the file
  const std::string other = *dir_ / "other.safetensors";
  ASSERT_EQ(Graft({"fuse", "--run", second, "--out", other}).code, 0);
  const Outcome wrong = Graft({"eval", "--model", other, "--adapter", file, "--data", data()});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.err.find("another base"), std::string::npos) << wrong.err;
}

// There is an array for each step and random node, of the shape of what its mask multiplies.
TEST_F(Story, TraceHoldsTheMasks) {
  const std::string trace = *dir_ / "trace";
  std::vector<std::string> args =
      TrainArgs(data(), *dir_ / "masked", {"--drop-path", "0.5", "--trace", trace});
  args[6] = "lora(r=2,dropout=0.5)";
  const Outcome o = Graft(args);
  ASSERT_EQ(o.code, 0) << o.err;
  const std::string masks = Slurp(trace + "/masks.npz");
  for (const auto& [name, shape] :
       {std::pair("blocks.0.attn.q.dropout", "(272, 64)"),
        std::pair("blocks.1.drop_path1", "(16, 1)"), std::pair("blocks.3.drop_path2", "(16, 1)")})
    for (const char* step : {"step_000000/", "step_000005/"}) {
      const size_t at = masks.find(std::string(step) + name + ".npy");
      ASSERT_NE(at, std::string::npos) << step << name;
      EXPECT_EQ(masks.find("'shape': " + std::string(shape), at), masks.find("'shape': ", at))
          << step << name;
    }
  EXPECT_EQ(masks.find("blocks.0.drop_path1"), std::string::npos);  // its rate is 0
  EXPECT_EQ(Slurp(trace + "/final.safetensors").empty(), false);
}

// The run, as an adapter of Hugging Face peft, is evaluated, fused, inspected, and written again.
TEST_F(Story, PeftAdapterEvaluatesAlike) {
  const std::string second = *dir_ / "for-peft", peft = *dir_ / "peft",
                    again = *dir_ / "peft-again";
  std::vector<std::string> args = TrainArgs(data(), second);
  args[2] = fused();
  ASSERT_EQ(Graft(args).code, 0);
  ASSERT_EQ(Graft({"export", "--run", second, "--format", "hf-peft", "--out", peft}).code, 0);
  const nlohmann::json of_run = GraftJson({"eval", "--run", second, "--data", data()});
  const std::vector<std::string> on_base{"--model", fused(), "--adapter", peft};
  auto with = [&](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), on_base.begin(), on_base.end());
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  EXPECT_EQ(GraftJson(with({"eval"}, {"--data", data()}))["loss"], of_run["loss"]);
  const std::string merged = *dir_ / "peft-merged.safetensors";
  EXPECT_LE(GraftJson(with({"fuse"}, {"--data", data(), "--out", merged}))["relative_error"], 1e-5);
  EXPECT_EQ(GraftJson({"eval", "--model", merged, "--data", data()})["accuracy"],
            of_run["accuracy"]);
  const nlohmann::json alone = GraftJson({"inspect", peft});
  EXPECT_EQ(alone["peft"]["peft_type"], "LORA");
  EXPECT_EQ(alone["peft"]["target_modules"], nlohmann::json({"q_proj", "v_proj"}));
  const nlohmann::json fitted = GraftJson({"inspect", fused(), "--adapter", peft});
  EXPECT_EQ(fitted["method"], "lora(r=2,targets=attn.q|attn.v)");
  EXPECT_EQ(fitted["keys"]["matched"].size(), alone["keys"]["matched"].size());
  EXPECT_TRUE(fitted["keys"]["missing"].empty() && fitted["keys"]["unexpected"].empty());
  ASSERT_EQ(Graft(with({"export"}, {"--format", "hf-peft", "--out", again})).code, 0);
  auto tensors = [](const std::string& directory) {
    return SafetensorsFile::Open(directory + "/adapter_model.safetensors");
  };
  const SafetensorsFile first = tensors(peft), copy = tensors(again);
  EXPECT_EQ(first.tensors().size(), copy.tensors().size());
  for (const FileTensor& t : first.tensors())
    EXPECT_TRUE(std::ranges::equal(first.bytes(t), copy.bytes(copy.Get(t.name)))) << t.name;
  EXPECT_EQ(GraftJson({"inspect", again})["peft"]["target_modules"],
            alone["peft"]["target_modules"]);
  const std::string other = *dir_ / "peft-other.safetensors";
  ASSERT_EQ(Graft({"fuse", "--run", second, "--out", other}).code, 0);
  const Outcome wrong = Graft({"eval", "--model", other, "--adapter", peft, "--data", data()});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.err.find("another base"), std::string::npos) << wrong.err;
}

// What a merge overwrites comes back byte for byte, file or directory; a changed file is refused.
TEST_F(Story, UndoneMergeIsTheBase) {
  const std::string hf = *dir_ / "undo-hf";
  ASSERT_EQ(Graft({"export", "--model", fused(), "--format", "hf", "--out", hf}).code, 0);
  // The run below has another transform, that of data sets.
  const std::string kProcessor = R"({"image_processor_type": "ViTImageProcessor", "size": 32,
      "image_mean": 0.25, "image_std": [0.5, 0.5, 0.5]})";
  Spill(hf + "/preprocessor_config.json", kProcessor);
  // As other writers lay a header out.
  const std::string foreign = *dir_ / "foreign.safetensors", ours = Slurp(fused());
  uint64_t length = 0;
  std::memcpy(&length, ours.data(), 8);
  std::string text = nlohmann::ordered_json::parse(ours.substr(8, length)).dump(1) + "   ";
  const uint64_t longer = text.size();
  text.insert(0, reinterpret_cast<const char*>(&longer), 8);
  Spill(foreign, text + ours.substr(8 + length));
  for (const std::string& base : {foreign, hf}) {
    const bool file = base == foreign;
    const std::string run = *dir_ / (file ? "undo-run" : "undo-run-hf");
    const std::string merged = *dir_ / (file ? "undo.safetensors" : "undo");
    const std::string back = *dir_ / (file ? "undone.safetensors" : "undone");
    std::vector<std::string> args = TrainArgs(data(), run, {"--limit", "16"});
    args[2] = base;
    ASSERT_EQ(Graft(args).code, 0);
    const Outcome fuse = Graft({"fuse", "--run", run, "--out", merged, "--keep-base"});
    ASSERT_EQ(fuse.code, 0) << fuse.err;
    const Outcome undone = Graft({"fuse", "--undo", merged, "--out", back});
    ASSERT_EQ(undone.code, 0) << undone.err;
    const std::string name = file ? "" : "/model.safetensors";
    EXPECT_EQ(Slurp(back + name), Slurp(base + name));
    if (!file) {
      EXPECT_EQ(Slurp(back + "/config.json"), Slurp(base + "/config.json"));
      EXPECT_EQ(Slurp(back + "/preprocessor_config.json"), kProcessor);
    }
    std::string bytes = Slurp(merged + name);
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    // In place, the base and what was kept of it would be lost.
    EXPECT_EQ(Graft({"fuse", "--undo", merged, "--out", merged + name}).code, 2);
    const std::string kept = file ? *dir_ / "undo.base.safetensors" : merged + "/base.safetensors";
    EXPECT_EQ(Graft({"fuse", "--undo", merged, "--out", kept}).code, 2);
    EXPECT_EQ(Graft({"fuse", "--run", run, "--out", base + name, "--keep-base"}).code, 2);
    bytes[8 + header] ^= 1;  // of the class token, which the merge left alone
    Spill(merged + name, bytes);
    const Outcome changed = Graft({"fuse", "--undo", merged, "--out", back + "-again"});
    EXPECT_EQ(changed.code, 1);
    EXPECT_NE(changed.err.find("has changed"), std::string::npos) << changed.err;
  }
}

// A run does not wait for its base's hash, and no checkpoint is without it.
TEST_F(Story, RunsRecordTheirBase) {
  const std::string run = *dir_ / "hashed";
  std::vector<std::string> args = TrainArgs(data(), run);
  args[2] = fused();
  ASSERT_EQ(Graft(args).code, 0);
  const std::string hash = nlohmann::json::parse(Slurp(run + "/config.json"))["base_sha256"];
  EXPECT_EQ(hash, Sha256OfFile(fused()));
}

TEST_F(Story, DataCheckFindsNothingAndThenSomething) {
  EXPECT_EQ(Graft({"data", "check", data()}).code, 0);
  const std::string broken = *dir_ / "broken";
  MakeData(broken);
  Spill(broken + "/images/test/000000.png", "not a picture");
  const Outcome o = Graft({"data", "check", broken});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.out.find("images/test/000000.png"), std::string::npos) << o.out;
  const nlohmann::json json = Graft({"data", "check", broken, "--json"}).json();
  EXPECT_EQ(json["ok"], false);
}

TEST_F(Story, DataCheckCountsEqualPicturesOfAnyTwoSplits) {
  const std::string twice = *dir_ / "twice";
  MakeData(twice);
  fs::copy_file(twice + "/images/train800/000000.png", twice + "/images/val200/000000.png",
                fs::copy_options::overwrite_existing);
  const Outcome o = Graft({"data", "check", twice});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.out.find("equal pictures in two splits: 1"), std::string::npos) << o.out;
  EXPECT_EQ(o.out.find("no problem found"), std::string::npos) << o.out;
}

TEST(Help, EveryCommandShowsAnExample) {
  for (const std::string command : {"demo", "train", "eval", "predict", "fuse", "export", "inspect",
                                    "profile", "data", "data make", "data check", "search"}) {
    std::istringstream words(command + " --help");
    const Outcome o = Graft({std::istream_iterator<std::string>(words), {}});
    EXPECT_EQ(o.code, 0) << command;
    // The usage line names the command before any example does.
    const size_t example = o.out.find("\nExample");
    ASSERT_NE(example, std::string::npos) << command << "\n" << o.out;
    EXPECT_NE(o.out.find("graft " + command, example), std::string::npos) << o.out;
  }
}

}  // namespace
}  // namespace graft::cli::cli_story_test
