// Runs every method of the registry through the command, on images and on texts: bits are equal on
// any number of threads, within a memory budget and after a kill; adapters leave and come back; and
// a method folds as its record says.
#include <unistd.h>

#include <map>

#include "peft/method.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_methods_test {
namespace {

// Gives a recipe of each method, small and with its random parts on; `forget` takes a run for @old.
std::string RecipeOf(const std::string& name) {
  static const std::map<std::string, std::string> kRecipes{
      {"lora", "lora(r=2,dropout=0.1)"},
      {"houlsby", "houlsby(r=2)"},
      {"pfeiffer", "pfeiffer(r=2)"},
      {"adaptformer", "adaptformer(r=2,dropout=0.1)"},
      {"parallel", "parallel(r=2,site=attn)"},
      {"mam", "mam(tokens=2,r=2,mlp=3)"},
      {"prefix", "prefix(tokens=2,mlp=5)"},
      {"ptuning2", "ptuning2(tokens=2)"},
      {"prompt", "prompt(tokens=2)"},
      {"vpt", "vpt(tokens=2,dropout=0.1)"},
      {"vpt-deep", "vpt-deep(tokens=2)"},
      {"fact", "fact(r=2,dropout=0.1)"},
      {"repadapter", "repadapter(r=2,dropout=0.1)"},
      {"glora", "glora(r=2)"},
      {"unified", "unified(r=2)"},
      {"nf4", "nf4+lora(r=2,targets=*)"},
      {"childtuning", "childtuning(mode=d)"},
      {"noisytune", "noisytune+lora(r=2)"},
      {"forget", "forget(run=@old)+lora(r=2)"},
      {"calibration", "lora(r=2)+calibration"}};
  const auto it = kRecipes.find(name);
  return it == kRecipes.end() ? name : it->second;
}

class EveryMethod : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    MakeTexts(At("texts"), 20, 6);
    for (const bool text : {false, true})
      ASSERT_EQ(Graft(TrainArgs(text, "lora(r=2)", text ? "old_text" : "old_image")).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::vector<std::string> TrainArgs(bool text, std::string method, const std::string& out,
                                            const std::vector<std::string>& more = {}) {
    if (const size_t at = method.find("@old"); at != method.npos)
      method.replace(at, 4, At(text ? "old_text" : "old_image"));
    std::vector<std::string> args{"train",
                                  "--model",
                                  text ? kNanoBert : kNano,
                                  "--method",
                                  method,
                                  "--data",
                                  At(text ? "texts" : "images"),
                                  "--epochs",
                                  "2",
                                  "--batch-size",
                                  "8",
                                  "--save-every",
                                  "1",
                                  "--out",
                                  At(out),
                                  "--allow-overlap"};
    if (text) args.insert(args.end(), {"--tokenizer", kVocabulary, "--max-length", "16"});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  std::string name() const { return std::get<0>(GetParam()); }
  bool text() const { return std::get<1>(GetParam()); }
  std::string run(const std::string& kind) const {
    return fmt::format("{}_{}_{}", kind, name(), text() ? "text" : "image");
  }
  // Trains in a directory of its own, unless another test has; returns the weights.
  std::string Train(const std::string& kind, const std::vector<std::string>& more = {}) const {
    const std::string weights = At(run(kind) + "/last.safetensors");
    if (!fs::exists(weights)) {
      const Outcome o = Graft(TrainArgs(text(), RecipeOf(name()), run(kind), more));
      EXPECT_EQ(o.code, 0) << o.err;
    }
    return Slurp(weights);
  }
  std::vector<std::string> Input() const {
    if (text()) return {"--text", "the train of 12"};
    return {At("images/images/test/000000.png")};
  }
  std::vector<double> Logits(std::vector<std::string> args) const {
    args.insert(args.begin(), "predict");
    const std::vector<std::string> input = Input();
    args.insert(args.end(), input.begin(), input.end());
    args.insert(args.end(), {"--top", "2"});
    std::vector<double> logits;
    const nlohmann::json json = GraftJson(args);
    for (const auto& top : json["predictions"][0]["top"])
      logits.push_back(top["logit"].get<double>());
    return logits;
  }
  static TempDir* dir_;
};
TempDir* EveryMethod::dir_ = nullptr;

TEST_P(EveryMethod, EqualBitsOnAnyThreadsWithinABudgetAndAfterAKill) {
  const std::string whole = Train("whole", {"--threads", "1"});
  ASSERT_FALSE(whole.empty());
  EXPECT_TRUE(whole == Train("8", {"--threads", "8"}));
  // The tightest budget there is, which a smaller one tells: one example at a time, recomputing.
  const Outcome small = Graft(
      TrainArgs(text(), RecipeOf(name()), run("small"), {"--memory-budget", "1KiB", "--force"}));
  const std::string least = FirstMatch(small.err, "possible is ([0-9.]+MiB)");
  ASSERT_FALSE(least.empty()) << small.err;
  const std::string tight = Train("tight", {"--threads", "1", "--memory-budget", least});
  EXPECT_FALSE(tight.empty());
  EXPECT_TRUE(tight == Train("tight3", {"--threads", "3", "--memory-budget", least}));
  EXPECT_TRUE(Slurp(At(run("tight") + "/plan.json")) == Slurp(At(run("tight3") + "/plan.json")));
  SignalAt(TrainArgs(text(), RecipeOf(name()), run("killed")),
           At(run("killed") + "/state.safetensors"), SIGKILL);
  const Outcome o = Graft({"train", "--resume", At(run("killed"))});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_TRUE(whole == Slurp(At(run("killed") + "/last.safetensors")));
}

TEST_P(EveryMethod, AdaptersLeaveAndComeBack) {
  Train("whole", {"--threads", "1"});
  const std::string base = text() ? kNanoBert : kNano, from = At(run("whole"));
  const std::vector<double> own = Logits({"--run", from});
  EXPECT_EQ(own, Logits({"--model", base, "--adapter", from}));
  std::vector<std::string> again;
  for (const char* out : {"out1", "out2"}) {
    const Outcome o = Graft({"export", "--run", from, "--format", "graft", "--out", At(run(out))});
    ASSERT_EQ(o.code, 0) << o.err;
    again.push_back(Slurp(At(run(out) + "/adapter.safetensors")));
  }
  EXPECT_TRUE(again[0] == again[1]);
  std::vector<std::string> args{"--model", base, "--adapter", At(run("out1"))};
  if (text()) args.insert(args.end(), {"--tokenizer", kVocabulary});
  const std::vector<double> adapter = Logits(args);
  ASSERT_EQ(adapter.size(), own.size());
  for (size_t i = 0; i < own.size(); ++i) EXPECT_NEAR(adapter[i], own[i], 1e-5);
  EXPECT_EQ(Graft({"inspect", At(run("out1"))}).code, 0);
  EXPECT_EQ(Graft({"inspect", from}).code, 0);
}

TEST_P(EveryMethod, FoldsAsTheRecordSays) {
  Train("whole", {"--threads", "1"});
  const std::string from = At(run("whole")),
                    out = At(run("merged") + (text() ? "" : ".safetensors"));
  const Folds folds = FindMethod(name()).folds;
  const Outcome o = Graft({"fuse", "--run", from, "--out", out});
  EXPECT_EQ(o.code, folds == Folds::kYes ? 0 : 4) << o.err;
  if (o.code != 0) {
    EXPECT_NE(o.err.find(std::string(FindMethod(name()).why)), std::string::npos) << o.err;
    EXPECT_FALSE(fs::exists(out));
    return;
  }
  std::vector<std::string> args{"--model", out};
  if (!text()) args.insert(args.end(), {"--preprocess", "vtab,resize=32"});
  const std::vector<double> merged = Logits(args), own = Logits({"--run", from});
  for (size_t i = 0; i < own.size(); ++i) EXPECT_NEAR(merged[i], own[i], 1e-4);
}

std::vector<std::tuple<std::string, bool>> All() {
  std::vector<std::tuple<std::string, bool>> all;
  for (const MethodRecord* record : AllMethods())
    for (const bool text : {false, true})
      if (!record->searched) all.emplace_back(record->name, text);  // those: cli_search_test.cc
  return all;
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod, ::testing::ValuesIn(All()), [](const auto& info) {
  std::string name = std::get<1>(info.param) ? "text_" : "image_";
  for (const char c : std::get<0>(info.param)) name += c == '-' ? '_' : c;
  return name;
});

// What folds goes into the base, what does not becomes an adapter for it.
TEST_F(EveryMethod, PartsFold) {
  const std::string from = At("parts");
  ASSERT_EQ(
      Graft(TrainArgs(false, "lora(r=2)+bitfit+houlsby(r=2)+prefix(tokens=2,mlp=3)", "parts")).code,
      0);
  const std::string base = At("parts.safetensors");
  EXPECT_EQ(Graft({"fuse", "--run", from, "--out", base}).code, 4);
  const nlohmann::json json = GraftJson({"fuse", "--run", from, "--out", base, "--partial"});
  EXPECT_EQ(json["adapter"], base + ".adapter");
  const auto logits = [&](std::vector<std::string> args) {
    args.insert(args.begin(), "predict");
    args.push_back(At("images/images/test/000000.png"));
    std::vector<double> values;
    const nlohmann::json json = GraftJson(args);
    for (const auto& top : json["predictions"][0]["top"])
      values.push_back(top["logit"].get<double>());
    return values;
  };
  const std::vector<double> own = logits({"--run", from}),
                            parts = logits({"--model", base, "--adapter", base + ".adapter"});
  ASSERT_EQ(own.size(), parts.size());
  for (size_t i = 0; i < own.size(); ++i) EXPECT_NEAR(own[i], parts[i], 1e-5);
  const std::string text = Graft({"inspect", base + ".adapter"}).out;
  EXPECT_NE(text.find("prefix(mlp=0,tokens=2)"), std::string::npos) << text;
  EXPECT_EQ(text.find("lora"), std::string::npos) << text;
  // Whether a term folds may depend on its options.
  ASSERT_EQ(Graft(TrainArgs(false, "houlsby(r=2,act=none)+prefix(tokens=2,mlp=0)", "linear")).code,
            0);
  const nlohmann::json linear =
      GraftJson({"fuse", "--run", At("linear"), "--out", At("linear.safetensors"), "--partial"});
  EXPECT_LT(linear["relative_error"].get<double>(), 1e-5);
  const std::string rest = Graft({"inspect", At("linear.safetensors.adapter")}).out;
  EXPECT_EQ(rest.find("houlsby"), std::string::npos) << rest;
  // Nothing of it folds.
  ASSERT_EQ(Graft(TrainArgs(false, "houlsby(r=2)", "whole")).code, 0);
  ExpectRefused({"fuse", "--run", At("whole"), "--out", At("no.safetensors"), "--partial"}, 4,
                "no term of it folds");
}

// What folds of the head is part of the adapter that stays, too.
TEST_F(EveryMethod, PartsOfTheHeadFold) {
  ASSERT_EQ(Graft(TrainArgs(false, "calibration+adaptformer(r=2)", "of_head")).code, 0);
  const nlohmann::json json =
      GraftJson({"fuse", "--run", At("of_head"), "--out", At("of_head.safetensors"), "--partial"});
  EXPECT_LT(json["relative_error"].get<double>(), 1e-5);
}

// What trains, and what is left of it: of a prefix its rows, without the MLP that makes them.
TEST_F(EveryMethod, StoredNumbersAreCounted) {
  for (const bool text : {false, true}) {
    const std::string run = text ? "stored_text" : "stored";
    const nlohmann::json made = GraftJson(TrainArgs(text, "prefix(tokens=2,mlp=3)+bitfit", run));
    const Outcome o =
        Graft({"export", "--run", At(run), "--format", "graft", "--out", At(run + "_alone")});
    ASSERT_EQ(o.code, 0) << o.err;
    int64_t kept = 0;
    const SafetensorsFile file = SafetensorsFile::Open(At(run + "_alone/adapter.safetensors"));
    for (const auto& tensor : file.tensors()) {
      int64_t size = 1;
      for (const int64_t side : tensor.shape) size *= side;
      kept += size;
    }
    EXPECT_EQ(made["stored_parameters"], kept);
    EXPECT_LT(kept, made["trainable_parameters"]);
    EXPECT_EQ(GraftJson({"inspect", At(run)})["stored_parameters"], kept);
    EXPECT_EQ(GraftJson({"train", "--resume", At(run)})["stored_parameters"], kept);
  }
  const nlohmann::json plain = GraftJson({"inspect", kNano, "--method", "lora(r=2)"});
  EXPECT_EQ(plain["stored_parameters"], plain["trainable_parameters"]);
}

// The adapter of a prefix holds what its MLP makes, whatever is dropped while it learns.
TEST_F(EveryMethod, APrefixWithDropoutLeaves) {
  ASSERT_EQ(Graft(TrainArgs(false, "prefix(tokens=2,mlp=3,dropout=0.2)", "dropped")).code, 0);
  GraftJson(
      {"export", "--run", At("dropped"), "--format", "graft", "--out", At("dropped.adapter")});
  const Words data{"--data", At("images"), "--split", "test"};
  Words run{"eval", "--run", At("dropped")},
      adapter{"eval", "--model", kNano, "--adapter", At("dropped.adapter")};
  run.insert(run.end(), data.begin(), data.end());
  adapter.insert(adapter.end(), data.begin(), data.end());
  EXPECT_NEAR(GraftJson(run)["loss"].get<double>(), GraftJson(adapter)["loss"].get<double>(), 1e-5);
}

TEST_F(EveryMethod, WhatCannotFoldSaysSo) {
  ASSERT_EQ(Graft(TrainArgs(true, "pfeiffer(r=2)+ssf", "twice_read")).code, 0);
  ExpectRefused({"fuse", "--run", At("twice_read"), "--out", At("no")}, 4, "cannot be folded");
}

// W_old of a run that has forgotten is what it has become, not what it would be without.
TEST_F(EveryMethod, ARunThatHasForgottenIsForgotten) {
  const Words still{"--lr", "1e-30", "--weight-decay", "0", "--epochs", "1"};
  const auto train = [&](const std::string& method, const std::string& out, const Words& more) {
    const Outcome o = Graft(WithOptions(TrainArgs(false, method, out), more));
    ASSERT_EQ(o.code, 0) << o.err;
  };
  const auto weights = [&](const std::string& run) {
    const std::string file = At(run + ".fused.safetensors");
    GraftJson({"fuse", "--run", At(run), "--out", file});
    return SafetensorsFile::Open(file).LoadAll();
  };
  train("lora(r=2)", "nothing", still);
  train("lora(r=2)", "learnt", {"--lr", "0.05"});
  train("forget(run=" + At("learnt") + ")+lora(r=2)", "once", still);
  train("forget(run=" + At("once") + ")+lora(r=2)", "twice", still);
  train("noisytune(lambda=0.3)+forget(run=" + At("learnt") + ")+lora(r=2)", "noisy", still);
  train("noisytune(lambda=0.3)+lora(r=2)", "noise", still);
  const ParamStore base = weights("nothing"), learnt = weights("learnt"), once = weights("once"),
                   twice = weights("twice"), noisy = weights("noisy"), noise = weights("noise");
  double change = 0, most = 0;
  for (const std::string& name : base.names()) {
    if (name.starts_with("head.")) continue;
    for (size_t i = 0; i < base.values(name).size(); ++i) {
      const double b = base.values(name)[i], moved = learnt.values(name)[i] - b;
      change = std::max(change, std::abs(moved));
      most = std::max({most, std::abs(once.values(name)[i] - (b - moved)),
                       std::abs(twice.values(name)[i] - (b + moved)),
                       std::abs(noisy.values(name)[i] - (noise.values(name)[i] - moved))});
    }
  }
  EXPECT_GT(change, 1e-3);
  EXPECT_LT(most, 1e-6);
}

TEST_F(EveryMethod, ForgetKnowsItsRun) {
  const auto train = [&](const std::string& method, const std::string& out, bool text = false) {
    return Graft(TrainArgs(text, method, out));
  };
  ASSERT_EQ(train("forget(run=@old,lambda=0)+lora(r=2)", "forget_nothing").code, 0);
  ASSERT_EQ(train("lora(r=2)", "plain").code, 0);
  const auto accuracy = [&](const std::string& run) {
    const nlohmann::json json = GraftJson({"eval", "--run", At(run), "--data", At("images")});
    return std::pair(json["accuracy"], json["loss"]);
  };
  EXPECT_EQ(accuracy("forget_nothing"), accuracy("plain"));
  ASSERT_EQ(train("forget(run=@old,lambda=5)+lora(r=2)", "forget_much").code, 0);
  EXPECT_NE(accuracy("forget_much"), accuracy("plain"));
  EXPECT_NE(train("forget+lora(r=2)", "no_run").err.find("option 'run' is missing"),
            std::string::npos);
  fs::create_directories(At("of (a), b"));
  fs::copy(At("old_image"), At("of (a), b/old"), fs::copy_options::recursive);
  const Outcome quoted =
      train("forget(run=\"" + At("of (a), b/old") + "\",lambda=5)+lora(r=2)", "forget_quoted");
  ASSERT_EQ(quoted.code, 0) << quoted.err;
  EXPECT_EQ(accuracy("forget_quoted"), accuracy("forget_much"));
  const Outcome other = train("forget(run=" + At("old_image") + ")+lora(r=2)", "other", true);
  EXPECT_NE(other.err.find("was trained on another base"), std::string::npos) << other.err;
  fs::copy(At("old_image"), At("changing"));
  ASSERT_EQ(train("forget(run=" + At("changing") + ")+lora(r=2)", "of_changing").code, 0);
  for (const char* file : {"last.safetensors", "best.safetensors"})
    fs::copy_file(At("forget_nothing/last.safetensors"), At("changing/") + file,
                  fs::copy_options::overwrite_existing);
  const Outcome changed = Graft({"eval", "--run", At("of_changing"), "--data", At("images")});
  EXPECT_EQ(changed.code, 1);
  EXPECT_NE(changed.err.find("not the weights that training began with"), std::string::npos)
      << changed.err;
}

// Prompts and shifted prefixes take positions of a text model.
TEST_F(EveryMethod, PositionsAreCounted) {
  for (const char* method : {"prompt(tokens=20)", "ptuning2(tokens=20,shift=true)"}) {
    std::vector<std::string> args = TrainArgs(true, method, "far");
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 1);
    EXPECT_NE(o.err.find("has 12 positions beside those of"), std::string::npos) << o.err;
  }
  ExpectRefused(TrainArgs(true, "prompt(tokens=30)", "further"), 1, "leaves 2 of the 32 positions");
}

TEST_F(EveryMethod, DecayIsLeftAlone) {
  const auto weights = [&](const std::string& out, const std::vector<std::string>& more) {
    EXPECT_EQ(Graft(TrainArgs(false, "bitfit", out, more)).code, 0);
    return Slurp(At(out + "/last.safetensors"));
  };
  const std::string none = weights("none", {"--weight-decay", "0"});
  const std::string all = weights("all", {"--weight-decay", "0.5"});
  const std::string left =
      weights("left", {"--weight-decay", "0.5", "--no-decay", "bias|norm|head.*"});
  EXPECT_TRUE(none == left);
  EXPECT_FALSE(none == all);
  ExpectRefused(TrainArgs(false, "bitfit", "bad", {"--no-decay", "bias||norm"}), 2,
                "--no-decay 'bias||norm'");
}

// A factor of all parameters is another rate; a factor of some lets these move by another one; and
// a run goes on with it.
TEST_F(EveryMethod, RatesAreMultiplied) {
  const auto train = [&](const std::string& out, const std::vector<std::string>& more,
                         const char* epochs = "2") {
    std::vector<std::string> args = TrainArgs(false, "lora(r=2)", out, more);
    args[8] = epochs;
    for (const char* word : {"--schedule", "constant", "--warmup", "0"}) args.emplace_back(word);
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << o.err;
    return Slurp(At(out + "/last.safetensors"));
  };
  const std::string plain = train("rate", {"--lr", "0.004"});
  EXPECT_TRUE(plain == train("rate_all", {"--lr", "0.016", "--lr-scale", "*=0.25"}));
  EXPECT_TRUE(plain == train("rate_each", {"--lr", "0.001", "--lr-scale", "lora_*=4|head=4"}));
  const std::vector<std::string> some{"--lr", "0.004", "--lr-scale", "lora_b=16"};
  const std::string whole = train("rate_some", some);
  EXPECT_FALSE(plain == whole);
  train("rate_half", some, "1");
  const Outcome resumed = Graft({"train", "--resume", At("rate_half"), "--epochs", "2"});
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_TRUE(whole == Slurp(At("rate_half/last.safetensors")));
  ExpectRefused(TrainArgs(false, "lora(r=2)", "bad", {"--lr-scale", "lora_b"}), 2,
                "expected WORD=FACTOR");
  ExpectRefused(TrainArgs(false, "lora(r=2)", "bad2", {"--lr-scale", "lora_c=16"}), 2,
                "did you mean 'lora_a'");
}

}  // namespace
}  // namespace graft::cli::cli_methods_test
