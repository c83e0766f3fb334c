// Tests --head mlm on the command line: train, resume, eval, predict, fuse and export, on texts and
// pairs whose class a word decides.
#include <algorithm>

#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_prompt_test {
namespace {

const std::string kTiny = kFixtures + "tiny_bert_hf";
constexpr const char* kModel = "init:bert(vocab=260,width=32,depth=2,heads=2,mlp=64,positions=64)";

// Letters, one of which is x or y: that is the class, which is the first one's.
void WriteSplit(const fs::path& path, int n, uint32_t seed, bool pairs) {
  std::string text;
  const auto draw = [&](uint32_t most) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % most;
  };
  for (int i = 0; i < n; ++i) {
    const uint32_t length = 3 + draw(6), place = draw(length), label = draw(2);
    for (uint32_t k = 0; k < length; ++k) {
      text += k == place ? (label ? 'y' : 'x') : static_cast<char>('a' + draw(20));
      text += k + 1 < length ? ' ' : '\t';
    }
    text += fmt::format("{}{}\n", pairs ? "the film\t" : "", label);
  }
  Spill(path, text);
}

class Prompts : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    for (const char* data : {"data", "pairs"}) {
      fs::create_directory(At(data));
      Spill(At(data) + "/labels.txt", "crossed\nforked\n");
      WriteSplit(At(data) + "/train.tsv", 200, 1, data == std::string("pairs"));
      WriteSplit(At(data) + "/dev.tsv", 60, 2, data == std::string("pairs"));
    }
    GraftJson(Args("run", "full", {"--save-every", "5"}));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const std::string& method, const Words& more = {},
                    const std::string& data = "data",
                    const std::string& prompt = "{text} a moving [MASK].") {
    Words args{"train",        "--model",    kModel,     "--tokenizer", kVocabulary,
               "--data",       At(data),     "--out",    At(out),       "--method",
               method,         "--lr",       "3e-3",     "--clip",      "1",
               "--batch-size", "16",         "--epochs", "6",           "--head",
               "mlm",          "--template", prompt,     "--words",     "no,film|the"};
    return WithOptions(std::move(args), more);
  }
  static nlohmann::json Eval(const Words& model, const std::string& data = "data") {
    Words args{"eval", "--data", At(data)};
    args.insert(args.end(), model.begin(), model.end());
    return GraftJson(args);
  }
  static double Logit(Words model, const std::string& text = "a b x c") {
    model.insert(model.begin(), "predict");
    for (const std::string& word :
         {std::string("--text"), text, std::string("--top"), std::string("2")})
      model.push_back(word);
    const nlohmann::json top = GraftJson(model)["predictions"][0]["top"];
    EXPECT_EQ(top.size(), 2u);
    return top[0]["class"] == 0 ? top[0]["logit"].get<double>() : top[1]["logit"].get<double>();
  }

  static TempDir* dir_;
};
TempDir* Prompts::dir_ = nullptr;

TEST_F(Prompts, LearnsAndKnowsItsClasses) {
  const nlohmann::json json = Eval({"--run", At("run")});
  EXPECT_GE(json["accuracy"], 0.9);
  EXPECT_EQ(json["n"], 60);
  const nlohmann::json top =
      GraftJson({"predict", "--run", At("run"), "--text", "b y c"})["predictions"][0]["top"];
  EXPECT_EQ(top[0]["name"], "forked");
  const nlohmann::json config = nlohmann::json::parse(Slurp(At("run") + "/config.json"));
  EXPECT_EQ(config["head"], "mlm");
  EXPECT_EQ(config["template"], "{text} a moving [MASK].");
  EXPECT_EQ(config["words"], "no,film|the");
}

TEST_F(Prompts, SameBitsAtOneThreadAndResumed) {
  GraftJson(Args("one", "full", {"--threads", "1"}));
  const std::string weights = Slurp(At("run") + "/last.safetensors");
  EXPECT_EQ(Slurp(At("one") + "/last.safetensors"), weights);
  SignalAt(Args("killed", "full", {"--threads", "2", "--save-every", "5"}),
           At("killed") + "/state.safetensors", SIGKILL);
  GraftJson({"train", "--resume", At("killed")});
  EXPECT_EQ(Slurp(At("killed") + "/last.safetensors"), weights);
}

// The merged directory states template and words, and is transformers' BertForMaskedLM.
TEST_F(Prompts, FusedItPredictsAlike) {
  GraftJson(Args("lora", "lora(r=2,targets=attn.*|mlp.*|mlm.dense)"));
  const nlohmann::json proof = GraftJson({"fuse", "--run", At("lora"), "--out", At("fused")});
  EXPECT_LE(proof["relative_error"], 1e-5);
  EXPECT_GT(proof["n"], 16);
  const double logit = Logit({"--run", At("lora")});
  EXPECT_NEAR(Logit({"--model", At("fused")}), logit, 1e-4);
  EXPECT_EQ(Eval({"--model", At("fused")})["accuracy"], Eval({"--run", At("lora")})["accuracy"]);
  const nlohmann::json config = nlohmann::json::parse(Slurp(At("fused") + "/config.json"));
  EXPECT_EQ(config["architectures"], nlohmann::json({"BertForMaskedLM"}));
  GraftJson({"export", "--run", At("lora"), "--format", "hf", "--merged", "--out", At("hf")});
  EXPECT_NEAR(Logit({"--model", At("hf")}), logit, 1e-4);
  // Another training has the merged model as its base, whose head it keeps.
  Words again = Args("again", "ln(head=frozen)", {"--limit", "16", "--epochs", "1"});
  *std::ranges::find(again, kModel) = At("fused");
  GraftJson(again);
}

// The shift of a class goes to the biases of its words, which is where a file has room for it.
TEST_F(Prompts, CalibrationFoldsIntoTheWords) {
  GraftJson(Args("shifted", "calibration+bitfit", {"--epochs", "1"}));
  const nlohmann::json proof =
      GraftJson({"fuse", "--run", At("shifted"), "--out", At("shifted_fused")});
  EXPECT_LE(proof["relative_error"], 1e-5);
  const double logit = Logit({"--run", At("shifted")});
  EXPECT_NEAR(Logit({"--model", At("shifted_fused")}), logit, 1e-4);
  const nlohmann::json run = Eval({"--run", At("shifted")}),
                       fused = Eval({"--model", At("shifted_fused")});
  EXPECT_NEAR(run["loss"].get<double>(), fused["loss"].get<double>(), 1e-5);
  // A part of words of both classes cannot move for one of them alone.
  Words args = Args("both", "calibration+bitfit", {"--epochs", "1"});
  *std::ranges::find(args, "no,film|the") = "no,xq|the,xz";
  GraftJson(args);
  ExpectRefused({"fuse", "--run", At("both"), "--out", At("both_fused")}, 4, "share a word");
}

// A layer behind the logits of words is used as it is: rows of words are the embeddings of these
// words, too, so no file of a masked-LM model has room for another matrix.
TEST_F(Prompts, ALayerBehindTheWordsStays) {
  const std::string method = "calibration-layer(head=frozen)";
  const nlohmann::json trained =
      GraftJson(Args("layer", method, {"--epochs", "3", "--lr", "0.05"}));
  EXPECT_EQ(trained["trainable_parameters"], 2 * 2 + 2);
  const nlohmann::json found = Eval({"--run", At("layer")});
  GraftJson({"export", "--run", At("layer"), "--format", "graft", "--out", At("layer_adapter")});
  const nlohmann::json again =
      Eval({"--model", kModel, "--adapter", At("layer_adapter"), "--tokenizer", kVocabulary});
  EXPECT_EQ(again["loss"], found["loss"]);
  ExpectRefused({"fuse", "--run", At("layer"), "--out", At("layer_fused")}, 4,
                "a matrix behind the logits of label words cannot be folded");
}

TEST_F(Prompts, ARunCanBeForgotten) {
  GraftJson(Args("old", "lora(r=2)", {"--epochs", "1"}));
  GraftJson(Args("forgets", "forget(run=" + At("old") + ")+lora(r=2)", {"--epochs", "1"}));
  EXPECT_TRUE(fs::exists(At("forgets/best.safetensors")));
}

// What a file says of its template is as hostile as all else in it.
TEST_F(Prompts, DamagedMetadataIsNamed) {
  GraftJson(Args("bare", "ln(head=frozen)", {"--limit", "16", "--epochs", "1"}));
  GraftJson({"fuse", "--run", At("bare"), "--out", At("whole")});
  const SafetensorsFile whole = SafetensorsFile::Open(At("whole") + "/model.safetensors");
  std::vector<TensorToWrite> tensors;
  for (const FileTensor& t : whole.tensors())
    tensors.push_back({t.name, t.dtype, t.shape, whole.bytes(t)});
  const auto refused = [&](const char* key, const char* value, const std::string& words) {
    fs::copy(At("whole"), At("damaged"));
    StringMap metadata = whole.metadata();
    if (value)
      metadata[key] = value;
    else
      metadata.erase(key);
    WriteSafetensors(At("damaged") + "/model.safetensors", tensors, metadata);
    const Outcome o = Graft({"predict", "--model", At("damaged"), "--text", "a"});
    EXPECT_EQ(o.code, 1) << o.err;
    EXPECT_NE(o.err.find(words), std::string::npos) << words << " in:\n" << o.err;
    EXPECT_NE(o.err.find("graft.template"), std::string::npos) << o.err;
    fs::remove_all(At("damaged"));
  };
  refused("graft.template", nullptr, "expected both");
  refused("graft.template", "{text}", "expected one [MASK], found 0");
  refused("graft.words", "no,film|the|a", "words for 3 classes, but the task has 2");
  refused("graft.words", "\u2603|the", "is not in the vocabulary");
  refused("graft.labels", "[]", "the task has 0");
}

TEST_F(Prompts, AnAdapterCarriesTheTemplate) {
  GraftJson(Args("small", "lora(r=2)", {"--limit", "64"}));
  GraftJson({"export", "--run", At("small"), "--format", "graft", "--out", At("adapter")});
  const Words adapted{"--model", kModel, "--adapter", At("adapter"), "--tokenizer", kVocabulary};
  EXPECT_EQ(Logit(adapted), Logit({"--run", At("small")}));
  ExpectRefused({"export", "--run", At("small"), "--format", "hf-peft", "--out", At("peft")}, 2,
                "--format hf-peft: not of a masked-LM head");
  // Several adapters predict on the same rows, so their templates must be the same.
  GraftJson(Args("other", "lora(r=2)", {"--limit", "64"}, "data", "{text} [MASK]"));
  ExpectRefused({"predict", "--model", kModel, "--adapter", At("small"), "--adapter", At("other"),
                 "--text", "a"},
                1, "want different inputs, template");
}

// Only the head trains here, so the rows that it reads are computed once.
TEST_F(Prompts, LinearProbeKeepsFeatures) {
  setenv("XDG_CACHE_HOME", At("cache").c_str(), 1);  // an earlier run of the test has kept none
  const Outcome o = Graft(Args("linear", "linear"));
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE((o.out + o.err).find("features of the frozen layers kept for 200 texts"),
            std::string::npos);
  Words plain = Args("plain", "linear", {"--disable-pass", "sink_gather"});
  GraftJson(plain);
  EXPECT_NEAR(Eval({"--run", At("plain")})["loss"], Eval({"--run", At("linear")})["loss"], 1e-3);
}

TEST_F(Prompts, PairsFillTwoFields) {
  GraftJson(Args("pair_run", "full", {}, "pairs", "{text_a}, {text_b} [MASK]"));
  EXPECT_GE(Eval({"--run", At("pair_run")}, "pairs")["accuracy"], 0.9);
  EXPECT_NE(Logit({"--run", At("pair_run")}, "a x\tthe film"),
            Logit({"--run", At("pair_run")}, "a x\tmoving"));
}

// A whole checkpoint goes on with its own masked-LM head.
TEST_F(Prompts, AHeadOfAFileGoesOn) {
  Words args = Args("of_file", "ln(head=frozen)", {"--max-length", "16"});
  *std::ranges::find(args, kModel) = kTiny;
  const Outcome o = Graft(args);  // 41 embeddings, and more words
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("embeddings for 41"), std::string::npos) << o.err;
}

TEST_F(Prompts, Mistakes) {
  const auto with = [](const Words& more) { return Args("fresh", "full", more); };
  const auto instead = [&](const char* of, const std::string& value) {
    Words args = with({});
    *(std::ranges::find(args, of) + 1) = value;
    return args;
  };
  const auto without = [&](const char* flag) {
    Words args = with({});
    const auto at = std::ranges::find(args, flag);
    args.erase(at, at + 2);
    return args;
  };
  Words image = TrainArgs(At("data"), At("fresh"),
                          {"--head", "mlm", "--template", "{text} [MASK]", "--words", "a|b"});
  ExpectMistakes(
      {{"other head", instead("--head", "lm"), 2, {"--head: 'lm'; known: mlm"}},
       {"no template", without("--template"), 2, {"--head mlm: needs --template"}},
       {"no words", without("--words"), 2, {"--head mlm: needs --words"}},
       {"template alone", without("--head"), 2, {"--template", "goes with --head mlm"}},
       {"no mask", instead("--template", "{text} a film"), 2, {"expected one [MASK], found 0"}},
       {"two masks", instead("--template", "[MASK] {text} [MASK]"), 2, {"one [MASK], found 2"}},
       {"no text", instead("--template", "a [MASK]"), 2, {"expected {text} (or {text_a}) once"}},
       {"other field", instead("--template", "{label} [MASK]"), 2, {"no field '{label}'"}},
       {"pairs wanted", instead("--template", "{text} {text_b} [MASK]"), 1, {"expected pairs"}},
       {"three classes", instead("--words", "a|b|c"), 2, {"words for 3 classes", "has 2"}},
       {"unknown word", instead("--words", "a|\u2603"), 1, {"'\u2603' is not in the vocabulary"}},
       {"one word for two", instead("--words", "a|a"), 2, {"'a' stands for two classes"}},
       {"no word", instead("--words", "a|"), 2, {"a word is empty"}},
       {"no room",
        with({"--max-length", "8", "--template", "a b c d e f {text} [MASK]"}),
        2,
        {"--template"}},
       {"pool", with({"--pool", "cls"}), 2, {"--pool cls: of a classifier"}},
       {"new head", with({"--new-head", ""}), 2, {"--new-head: of a classifier"}},
       {"objective too", with({"--objective", "mlm"}), 2, {"has the masked-LM head already"}},
       {"pairs given", Args("fresh", "full", {}, "pairs"), 1, {"expected single texts"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_prompt_test
