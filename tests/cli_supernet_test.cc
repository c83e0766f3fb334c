// Tests graft search: what it finds is a run, wherever it was killed; and what it refuses.
#include <algorithm>

#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_supernet_test {
namespace {

constexpr const char* kSpace = "lora(r={0|2|4},targets=attn.*)+adaptformer(r={0|3})";

class Supernet : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    found_ = GraftJson(Args("whole"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const Words& more = {}) {
    return WithOptions(
        {"search", "--model",       kNano, "--data",       At("data"), "--space",
         kSpace,   "--epochs",      "2",   "--batch-size", "16",       "--population",
         "6",      "--generations", "2",   "--mutations",  "3",        "--crossovers",
         "2",      "--top",         "3",   "--out",        At(out)},
        more);
  }
  static nlohmann::json Candidates(const std::string& run) {
    return nlohmann::json::parse(Slurp(At(run) + "/candidates.json"));
  }
  static void ExpectSame(const std::string& run) {
    for (const char* file :
         {"METHOD", "candidates.jsonl", "candidates.csv", "candidates.json", "choices.txt",
          "supernet.safetensors", "best.safetensors", "last.safetensors", "search.json"})
      EXPECT_EQ(Slurp(At(run) + "/" + file), Slurp(At("whole") + "/" + file)) << run << " " << file;
  }
  static TempDir* dir_;
  static nlohmann::json found_;
};
TempDir* Supernet::dir_ = nullptr;
nlohmann::json Supernet::found_;

TEST_F(Supernet, SaysWhatItFound) {
  ExpectKeys(found_, {"run", "method", "parameters", "val_accuracy", "evaluated", "seconds",
                      "space", "random", "trainable_parameters", "val_loss", "steps", "compile_ms",
                      "peak_memory_bytes", "front", "interrupted", "shared_work"});
  EXPECT_EQ(found_["evaluated"], 6 + 2 * 6);
  EXPECT_EQ(found_["steps"], 2 * 3);
  EXPECT_EQ(Slurp(At("whole") + "/METHOD"), found_["method"].get<std::string>() + "\n");
  const nlohmann::json list = Candidates("whole");
  ASSERT_EQ(list.size(), 18u);
  double best = -1;
  for (const nlohmann::json& c : list) best = std::max(best, c["val_accuracy"].get<double>());
  EXPECT_EQ(found_["val_accuracy"], best);
  const auto of = [&](const char* origin) {
    return std::ranges::count_if(list, [&](const auto& c) { return c["origin"] == origin; });
  };
  EXPECT_EQ(of("mutation"), 6);
  EXPECT_EQ(of("crossover"), 4);
  EXPECT_GE(found_["front"].size(), 1u);
}

// The number that chose it is the number of the run.
TEST_F(Supernet, TheResultIsARun) {
  const nlohmann::json eval =
      GraftJson({"eval", "--run", At("whole"), "--data", At("data"), "--split", "val200"});
  EXPECT_EQ(eval["accuracy"], found_["val_accuracy"]);
  EXPECT_NEAR(eval["loss"].get<double>(), found_["val_loss"].get<double>(), 1e-5);
  const nlohmann::json inspect =
      GraftJson({"inspect", kNano, "--method", "@" + At("whole") + "/METHOD"});
  const int64_t head = GraftJson({"inspect", kNano, "--method", "linear"})["trainable_parameters"];
  const int64_t parameters = found_["parameters"];
  EXPECT_EQ(inspect["trainable_parameters"], parameters + head);
  EXPECT_EQ(found_["trainable_parameters"], parameters + 65 * 8);
  const nlohmann::json runs = GraftJson({"runs", At("whole")})["runs"];
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0]["method"], found_["method"]);
  EXPECT_EQ(runs[0]["best"],
            runs[0]["metric"] == "val_loss" ? found_["val_loss"] : found_["val_accuracy"]);
  EXPECT_EQ(runs[0]["best_epoch"], runs[0]["epochs"]);
  EXPECT_EQ(runs[0]["status"], "searched");
}

// Whatever is chosen among, what is said of the best is true of the run.
TEST_F(Supernet, WhatIsToldIsTrueOfTheRunInEverySpace) {
  int i = 0;
  for (const char* space :
       {"lora(r={0|1|2},alpha={4|16})", "lora(r={1|2})+bitfit", "lora(r={1|2})+ln+last(k=1)",
        "houlsby(r={1|2})", "pfeiffer(r={1|2},act={relu|gelu})", "adaptformer(scale={0.1|1},r=2)",
        "parallel(r={0|2})", "repadapter(r=4,groups={1|2})", "vpt(tokens={1|3})",
        "vpt-deep(tokens={0|2})", "fact(r={1|2})", "fact(form={tt|tk},r=2)", "mam(r={1|2})",
        "unified(r={1|2})", "prefix(tokens={1|2},mlp=0)",
        "glora(a={none|lora_1},b={none|vector})"}) {
    const std::string run = fmt::format("told{}", i++);
    const nlohmann::json told = GraftJson(
        Args(run, {"--space", space, "--generations", "1", "--epochs", "3", "--lr", "1e-2"}));
    const nlohmann::json eval =
        GraftJson({"eval", "--run", At(run), "--data", At("data"), "--split", "val200"});
    EXPECT_EQ(eval["accuracy"], told["val_accuracy"]) << space << " " << told["method"];
    EXPECT_NEAR(eval["loss"].get<double>(), told["val_loss"].get<double>(), 1e-5)
        << space << " " << told["method"];
    fs::remove_all(At(run));
  }
}

// Without a test split there is still one to choose on.
TEST_F(Supernet, TrainAndValidationAreEnough) {
  fs::copy(At("data"), At("two"), fs::copy_options::recursive);
  fs::remove(At("two/test.txt"));
  const Words few{"--data", At("two"), "--generations", "0", "--population", "2", "--epochs", "1"};
  EXPECT_EQ(GraftJson(Args("of_two", few))["evaluated"], 2);
}

TEST_F(Supernet, TheResultTrainsOnAndFuses) {
  const nlohmann::json glora = GraftJson(Args(
      "glora", {"--space", "glora", "--ranks", "4,2", "--population", "3", "--generations", "0"}));
  EXPECT_EQ(glora["evaluated"], 3);
  const nlohmann::json fused =
      GraftJson({"fuse", "--run", At("glora"), "--out", At("fused.safetensors")});
  EXPECT_LT(fused["relative_error"].get<double>(), 1e-5);
  const nlohmann::json eval = GraftJson(
      {"eval", "--model", At("fused.safetensors"), "--data", At("data"), "--split", "val200"});
  EXPECT_EQ(eval["accuracy"], glora["val_accuracy"]);
  const nlohmann::json on = GraftJson({"train", "--resume", At("glora")});
  EXPECT_EQ(on["method"], glora["method"]);
  EXPECT_EQ(on["steps"], 6);
  // The method that was found, given by its file, trains again from the beginning.
  const nlohmann::json again =
      GraftJson(WithOptions(TrainArgs(At("data"), At("again")),
                            {"--method", "@" + At("whole") + "/METHOD", "--epochs", "1"}));
  EXPECT_EQ(again["method"], found_["method"]);
}

TEST_F(Supernet, SameBitsOnAnyThreadsAndWhereverItWasKilled) {
  GraftJson(Args("threads", {"--threads", "3"}));
  ExpectSame("threads");
  SignalAt(Args("killed", {"--save-every", "1"}), At("killed") + "/supernet.safetensors", SIGKILL);
  EXPECT_FALSE(fs::exists(At("killed") + "/METHOD"));
  ExpectRefused({"eval", "--run", At("killed"), "--data", At("data")}, 1, "graft search --resume");
  for (int i = 0; i < 4 && !fs::exists(At("killed") + "/METHOD"); ++i) {
    const auto size = [&] {
      std::error_code none;
      const auto bytes = fs::file_size(At("killed") + "/candidates.jsonl", none);
      return none ? uintmax_t{0} : bytes;
    };
    const uintmax_t before = size();
    Process next({"search", "--resume", At("killed")});
    while (next.Running() && size() == before) usleep(500);
    next.Signal(SIGKILL);
    next.Wait();
  }
  const nlohmann::json json = GraftJson({"search", "--resume", At("killed")});
  EXPECT_EQ(json["method"], found_["method"]);
  ExpectSame("killed");
  // One that has ended says the same again, and changes nothing.
  const std::string state = Slurp(At("killed") + "/state.safetensors");
  EXPECT_EQ(GraftJson({"search", "--resume", At("killed")})["val_loss"], found_["val_loss"]);
  EXPECT_EQ(Slurp(At("killed") + "/state.safetensors"), state);
}

// A CPU without the instructions takes f32, and says so.
TEST_F(Supernet, InLowPrecisionTheBitsAreThoseOfAnyThreadsToo) {
  for (const std::string dtype : {"bf16", "int8"}) {
    const nlohmann::json whole = GraftJson(Args(dtype, {"--dtype", dtype}));
    const std::string taken = nlohmann::json::parse(Slurp(At(dtype) + "/config.json"))["dtype"];
    EXPECT_TRUE(taken == dtype || taken == "f32") << taken;
    for (const int threads : {1, 3}) {
      const std::string run = fmt::format("{}-{}", dtype, threads);
      SignalAt(
          Args(run, {"--dtype", dtype, "--threads", std::to_string(threads), "--save-every", "1"}),
          At(run) + "/supernet.safetensors", SIGKILL);
      EXPECT_EQ(GraftJson({"search", "--resume", At(run)})["val_loss"], whole["val_loss"]);
      for (const char* file : {"METHOD", "candidates.jsonl", "supernet.safetensors",
                               "best.safetensors", "last.safetensors"})
        EXPECT_EQ(Slurp(At(run) + "/" + file), Slurp(At(dtype) + "/" + file)) << run << " " << file;
    }
    if (taken == "f32") continue;
    EXPECT_NE(Slurp(At(dtype) + "/supernet.safetensors"),
              Slurp(At("whole") + "/supernet.safetensors"));
    EXPECT_NEAR(whole["val_loss"].get<double>(), found_["val_loss"].get<double>(), 0.3);
  }
}

TEST_F(Supernet, InterruptedItCanBeContinued) {
  const Outcome o = SignalAt(Args("stopped", {"--save-every", "1", "--epochs", "20"}),
                             At("stopped") + "/supernet.safetensors", SIGINT);
  EXPECT_EQ(o.code, 130) << o.err;
  EXPECT_NE(o.err.find("graft search --resume"), std::string::npos) << o.err;
  const nlohmann::json json = GraftJson({"search", "--resume", At("stopped")});
  EXPECT_EQ(json["steps"], 60);
  EXPECT_EQ(json["evaluated"], 18);
}

TEST_F(Supernet, RandomSearchHasTheSameBudget) {
  Words args = Args("random");
  args.emplace_back("--random");
  const nlohmann::json json = GraftJson(args);
  EXPECT_EQ(json["random"], true);
  EXPECT_EQ(json["evaluated"], found_["evaluated"]);
  for (const nlohmann::json& c : Candidates("random")) EXPECT_EQ(c["origin"], "random");
  EXPECT_EQ(Slurp(At("random") + "/supernet.safetensors"),
            Slurp(At("whole") + "/supernet.safetensors"));
}

TEST_F(Supernet, TheLimitHolds) {
  const nlohmann::json json = GraftJson(Args("limit", {"--max-params", "3k"}));
  EXPECT_LE(json["parameters"].get<int64_t>(), 3000);
  for (const nlohmann::json& c : Candidates("limit"))
    EXPECT_LE(c["parameters"].get<int64_t>(), 3000);
}

TEST_F(Supernet, NoahIsAChoiceOfDepthsAndSizes) {
  const nlohmann::json json =
      GraftJson(Args("noah", {"--space", "noah", "--ranks", "1,3", "--epochs", "1"}));
  const std::string method = json["method"];
  for (const char* part : {"fused=true", "act=quick_gelu", "vpt-deep(tokens="})
    EXPECT_NE(method.find(part), std::string::npos) << method;
  EXPECT_EQ(Graft({"fuse", "--run", At("noah"), "--out", At("noah_fused")}).code, 4);
  EXPECT_EQ(GraftJson({"eval", "--run", At("noah"), "--data", At("data"), "--split",
                       "val200"})["accuracy"],
            json["val_accuracy"]);
  ExpectRefused({"export", "--run", At("noah"), "--format", "hf-peft", "--out", At("peft")}, 1,
                "peft");
}

// A space of fewer candidates than the budget is measured whole.
TEST_F(Supernet, ASmallSpaceIsMeasuredWhole) {
  const nlohmann::json json = GraftJson(
      Args("small", {"--space", "lora(r={2|4},targets=blocks.0.attn.q)", "--epochs", "1"}));
  EXPECT_EQ(json["evaluated"], 2);
}

std::string ManyChoices(int n) {
  std::string many;
  for (int i = 1; i <= n; ++i) many += fmt::format("{}{}", i > 1 ? "|" : "", i);
  return "lora(r={" + many + "})";
}

TEST_F(Supernet, Mistakes) {
  const auto args = [](const Words& more) {
    return WithOptions(WithOptions(Args("", {"--data", "@data", "--out", "@none"}), {}), more);
  };
  ExpectMistakes(
      {{"no space",
        {"search", "--model", kNano, "--data", "@data", "--out", "@none"},
        2,
        {"--space"}},
       {"no choice", args({"--space", "lora(r=4)"}), 2, {"nothing to choose"}},
       {"one choice", args({"--space", "lora(r={4})"}), 2, {"one choice"}},
       {"twice", args({"--space", "lora(r={4|4})"}), 2, {"'4' is there twice"}},
       {"many choices", args({"--space", ManyChoices(1001)}), 2, {"1001 choices", "at most 1000"}},
       {"huge choice", args({"--space", "lora(r={2|1000000000})"}), 2, {"'r'", "65536"}},
       {"braces", args({"--space", "lora(r={2|4)"}), 2, {"braces"}},
       {"unknown", args({"--space", "glorra"}), 2, {"no method 'glorra'", "'glora'"}},
       {"no gradients", args({"--space", "bbt(d={2|4})"}), 2, {"without gradients"}},
       {"no rate", args({"--lr", "0"}), 2, {"--lr 0", "leave it out"}},
       {"no batch", args({"--batch-size", "0"}), 2, {"--batch-size", "1 to 65536"}},
       {"ranks beside", args({"--ranks", "8,4"}), 2, {"--ranks", "glora"}},
       {"ranks", args({"--space", "glora", "--ranks", "8,"}), 2, {"--ranks '8,'"}},
       {"limit",
        args({"--space", "lora(r={2|4})", "--max-params", "2000"}),
        2,
        {"--max-params 2000", "2048"}},
       {"limit text", args({"--max-params", "many"}), 2, {"--max-params 'many'", "0.5M"}},
       {"no validation", args({"--val-split", "none"}), 2, {"validation", "--holdout"}},
       {"on test", args({"--val-split", "test"}), 2, {"--val-split test", "--holdout"}},
       {"population", args({"--population", "0"}), 2, {"--population", "1 to"}},
       {"top", args({"--top", "0"}), 2, {"--top", "1 to"}},
       {"children",
        args({"--mutations", "5", "--crossovers", "5"}),
        2,
        {"--mutations 5", "--crossovers 5", "--population 6"}},
       {"budget", args({"--memory-budget", "1GiB"}), 2, {"--memory-budget", "--micro-batch"}},
       {"dtype", args({"--dtype", "f8"}), 2, {"--dtype 'f8'"}},
       {"keep", args({"--keep", "attn"}), 2, {"--keep", "--dtype"}},
       {"both", args({"--resume", "@whole"}), 2, {"--resume", "leave it out"}},
       {"no search", {"search", "--resume", "@data"}, 1, {"no run here"}},
       {"space in train", Train({}, "lora(r={2|4})"), 2, {"braces", "graft search"}},
       {"there", args({"--out", "@whole"}), 1, {"not empty"}}},
      *dir_);
}

TEST_F(Supernet, TheSpaceMayBeAFile) {
  dir_->Write("empty.txt", " \n"), dir_->Write("space.txt", "lora(r=4)\n");
  ExpectRefused(Args("none", {"--space", "@" + At("empty.txt")}), 1,
                "empty.txt: the file is empty");
  ExpectRefused(Args("none", {"--space", "@" + At("nowhere.txt")}), 1, "nowhere.txt");
  ExpectRefused(Args("none", {"--space", "@" + At("space.txt")}), 2, "'lora(r=4)'");
}

TEST_F(Supernet, DamagedFilesAreNamed) {
  const auto damaged = [&](const char* file, const std::string& text, const std::string& part) {
    const std::string run = At("damaged");
    fs::remove_all(run);
    fs::copy(At("whole"), run);
    fs::remove(run + "/METHOD");
    Spill(run + "/" + file, text);
    const Outcome o = Graft({"search", "--resume", run});
    EXPECT_EQ(o.code, 1) << o.err;
    EXPECT_NE(o.err.find(part), std::string::npos) << o.err;
    EXPECT_NE(o.err.find(file), std::string::npos) << o.err;
  };
  damaged("search.json", "{}", "space");
  damaged("candidates.jsonl", "{\"genes\":[1]}\n", "line 1");
  const std::string lines = Slurp(At("whole") + "/candidates.jsonl");
  damaged("candidates.jsonl", lines.substr(lines.find('\n') + 1), "candidate 1");
  damaged("supernet.safetensors", "nothing", "supernet.safetensors");
  fs::remove_all(At("damaged"));
}

}  // namespace
}  // namespace graft::cli::cli_supernet_test
