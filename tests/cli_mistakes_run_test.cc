// What can be wrong with the files of a run and with names that files bring: the message names the
// file, whichever of its values is meant, and a terminal obeys none of them.
#include <cmath>
#include <limits>

#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_mistakes_run_test {
namespace {

using Json = nlohmann::json;

class RunMistakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("run"), {"--limit", "16"})).code, 0);
    ASSERT_EQ(Graft({"export", "--run", At("run"), "--format", "graft", "--out", At("ours")}).code,
              0);
    // This run stopped in the middle.
    fs::copy(At("run"), At("half"));
    Rewrite("half/state.safetensors", [](StringMap& metadata, auto&) {
      metadata["graft.finished"] = "0", metadata["graft.step"] = "1";
    });
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }

  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  // Writes a file of floats again after edit(metadata, tensors).
  static void Rewrite(const std::string& name, const auto& edit) {
    StringMap metadata;
    std::vector<Tensor> tensors;
    {
      const SafetensorsFile file = SafetensorsFile::Open(At(name));
      metadata = file.metadata();
      for (const FileTensor& t : file.tensors()) {
        const auto bytes = file.bytes(t);
        tensors.push_back({t.name, t.shape, std::vector<float>(bytes.size() / sizeof(float))});
        ToFloat(t.dtype, bytes, tensors.back().values);
      }
    }
    edit(metadata, tensors);
    std::vector<TensorToWrite> out;
    for (const Tensor& t : tensors) out.push_back(ToWrite<float>(t.name, t.shape, t.values));
    WriteSafetensors(At(name), out, metadata);
  }
  // A copy under another name.
  static std::string Copy(const std::string& from, const std::string& to) {
    fs::remove_all(At(to));
    fs::copy(At(from), At(to));
    fs::remove(At(to + "/metrics.jsonl"));  // which resuming may cut
    return "@" + to;
  }
  static TempDir* dir_;
};
TempDir* RunMistakes::dir_ = nullptr;

TEST_F(RunMistakes, ValuesOfTheConfig) {
  struct Broken {
    const char* key;
    Json value;
    Words says;
  };
  const std::vector<Broken> all{
      {"epochs", "ten", {"'epochs' has the wrong type: \"ten\""}},
      {"epochs", 1.5, {"'epochs' has the wrong type: 1.5"}},
      {"epochs", true, {"'epochs' has the wrong type: true"}},
      {"epochs", 1e30, {"'epochs' has the wrong type"}},
      {"epochs", nullptr, {"'epochs' has the wrong type: null"}},
      {"epochs", 0, {"--epochs: expected 1 to"}},
      {"seed", uint64_t{1} << 63, {"'seed' has the wrong type"}},
      {"lr", "1e-3", {"'lr' has the wrong type"}},
      {"allow_overlap", 0, {"'allow_overlap' has the wrong type: 0"}},
      {"labels", "disk", {"'labels' has the wrong type"}},
      {"labels", {"disk", 7}, {"'labels' has the wrong type"}},
      {"labels", Json::array(), {"'labels' is empty"}},
      {"model", "", {"'model' is empty"}},
      {"model", Json::object(), {"'model' has the wrong type: {}"}},
      {"data", "", {"'data' is empty"}},
      {"train_split", "", {"'train_split' is empty"}},
      {"method", "lroa", {"'lroa'", "did you mean 'lora'"}},
      {"method", "lora(r=x)", {"'r'", "'x'"}},
      {"preprocess", "imagenett", {"preprocess: ", "did you mean 'imagenet'"}},
      {"preprocess", "vtab,resize=8192", {"8192", "4096"}},
      {"arch", "x", {"--arch x", "names its architecture itself"}},
      {"pool", "max", {"--pool: 'max'"}},
      {"pool", "cls", {"--pool cls", "no BERT"}},
      {"max_length", 1, {"--max-length: expected 8 to"}},
      {"isa", "avx51", {"avx51", "avx512"}},
      {"memory_budget", "lots", {"--memory-budget 'lots'"}},
      {"memory_budget", "64KiB", {"--memory-budget 64KiB: the smallest possible is"}},
      {"disabled_passes", {"none"}, {"none"}},
      {"columns", "text", {"--columns 'text'"}},
      {"columns", "text,label", {"--columns text,label", "holds no texts"}},
      {"schedule", "cosin", {"known: cosine"}},
  };
  const Json good = Json::parse(Slurp(At("half/config.json")));
  for (const Broken& b : all) {
    const std::string run = Copy("half", "broken");
    Json config = good;
    config[b.key] = b.value;
    Spill(At("broken/config.json"), config.dump());
    Words says = b.says;
    says.push_back("broken/config.json: ");
    ExpectMistakes(
        {{std::string(b.key) + " " + b.value.dump(), {"train", "--resume", run}, 1, says}}, *dir_);
  }
}

TEST_F(RunMistakes, TensorsOfARun) {
  using Tensors = std::vector<Tensor>;
  struct Broken {
    const char* name;
    std::function<void(Tensors&)> edit;
    Words says, of_state;
  };
  const auto first = [](Tensors& t) -> Tensor& { return t.front(); };  // sorted by name
  const std::vector<Broken> all{
      {"one more",
       [](Tensors& t) {
         t.push_back({"zz", {1}, {0}});
       },
       {"'zz' is no tensor of the model with this method"},
       {"tensors, expected the"}},
      {"another block",
       [](Tensors& t) {
         t.push_back({"blocks.9.attn.q.lora_a", {1}, {0}});
       },
       {"'blocks.9.attn.q.lora_a' is no tensor", "did you mean 'blocks.0.attn.q.lora_a'"},
       {"tensors, expected the"}},
      {"renamed",
       [&](Tensors& t) { first(t).name += "x"; },
       {"lora_ax' is no tensor"},
       {"no tensor '"}},
      {"lost", [](Tensors& t) { t.erase(t.begin()); }, {"no tensor for '"}, {"no tensor '"}},
      {"shape",
       [&](Tensors& t) { first(t).shape = {std::ssize(first(t).values)}; },
       {"is [128], the model wants [2,64]"},
       {"is [128], the model wants [2,64]"}},
      {"not a number",
       [&](Tensors& t) { first(t).values[3] = std::numeric_limits<float>::quiet_NaN(); },
       {"holds values that are not finite"},
       {"holds values that are not finite"}},
      {"infinite",
       [](Tensors& t) { t.back().values[0] = std::numeric_limits<float>::infinity(); },
       {"holds values that are not finite"},
       {"'opt.", "holds values that are not finite"}},
  };
  for (const Broken& b : all) {
    const auto edit = [&](StringMap&, Tensors& tensors) { b.edit(tensors); };
    const std::string run = Copy("half", "broken");
    Rewrite("broken/last.safetensors", edit);
    Words says = b.says;
    says.push_back("broken/last.safetensors: ");
    ExpectMistakes(
        {{b.name, {"eval", "--run", run, "--checkpoint", "last", "--data", "@data"}, 1, says},
         {b.name,
          {"fuse", "--run", run, "--checkpoint", "last", "--out", "@fresh.safetensors"},
          1,
          says}},
        *dir_);
    Copy("half", "broken");
    Rewrite("broken/state.safetensors", edit);
    says = b.of_state;
    says.push_back("broken/state.safetensors: ");
    ExpectMistakes({{std::string("state, ") + b.name, {"train", "--resume", run}, 1, says}}, *dir_);
    fs::remove_all(At("broken_ours")), Copy("ours", "broken_ours");
    Rewrite("broken_ours/adapter.safetensors", edit);
    says = b.says;
    says.push_back("broken_ours/adapter.safetensors: ");
    ExpectMistakes({{std::string("adapter, ") + b.name,
                     {"predict", "--model", kNano, "--adapter", "@broken_ours",
                      "@data/images/test/000000.png"},
                     1,
                     says}},
                   *dir_);
  }
}

TEST_F(RunMistakes, FactsOfAState) {
  for (const char* key :
       {"graft.step", "graft.best_metric", "graft.epoch_loss_sum", "graft.seconds",
        "graft.last_loss", "graft.val_accuracy", "graft.finished"})
    for (const char* value : {"", "x", "1x", "nan", "inf", "0x10", " 1"}) {
      const std::string run = Copy("half", "broken");
      Rewrite("broken/state.safetensors",
              [&](StringMap& metadata, auto&) { metadata[key] = value; });
      ExpectMistakes({{fmt::format("{} '{}'", key, value),
                       {"train", "--resume", run},
                       1,
                       {"broken/state.safetensors: ", key, "no number"}}},
                     *dir_);
    }
}

// Lines of other types are none of a step that was saved.
TEST_F(RunMistakes, LinesOfMetrics) {
  for (const char* line : {"x", "[]", "{}", "null", "{\"step\":\"x\"}", "{\"step\":1.5}",
                           "{\"step\":null}", "{\"step\":99}", "{\"step\":"}) {
    Copy("half", "broken");
    Spill(At("broken/metrics.jsonl"), std::string(line) + "\n");
    const Outcome o = Graft({"train", "--resume", At("broken")});
    EXPECT_EQ(o.code, 0) << line << ": " << o.err;
    EXPECT_EQ(o.err, "") << line;
    EXPECT_EQ(Slurp(At("broken/metrics.jsonl")).find(line), std::string::npos) << line;
  }
}

TEST_F(RunMistakes, OptionsOfAnAdapter) {
  const auto bad = [&](const char* key, const char* value, Words says) {
    fs::remove_all(At("broken_ours")), Copy("ours", "broken_ours");
    Rewrite("broken_ours/adapter.safetensors",
            [&](StringMap& metadata, auto&) { metadata[key] = value; });
    says.push_back("broken_ours/adapter.safetensors");
    ExpectMistakes({{fmt::format("{} {}", key, value),
                     {"predict", "--model", kNano, "--adapter", "@broken_ours",
                      "@data/images/test/000000.png"},
                     1,
                     says}},
                   *dir_);
  };
  bad("graft.recipe", R"([{"method":"lora","options":{"r":"x"}}])", {"option 'r'", "found 'x'"});
  bad("graft.recipe", R"([{"method":"lora","options":{"targets":"attn.z"}}])", {"attn.z"});
  bad("graft.recipe", R"([{"method":7,"options":{}}])", {"'method'", "expected a string"});
  bad("graft.preprocess", "imagenett", {"did you mean 'imagenet'"});
  bad("graft.preprocess", "", {"unknown name ''"});
  bad("graft.preprocess", "resize=8192,filter=bicubic,mean=0.5|0.5|0.5,std=0.5|0.5|0.5",
      {"8192", "4096"});
  bad("graft.labels", "[1]", {"class names"});
  bad("graft.labels", "{", {"parse error at column 2"});
  bad("graft.config", R"({"architecture":"vit","depth":"x"})", {"depth"});
}

// Labels and names of files that would take over a terminal.
TEST_F(RunMistakes, NamesDoNotCommandATerminal) {
  const std::string evil =
      "\x1b[2J\x1b]0;owned\x07\xc2\x9b"
      "31m\xe2\x80\xae"
      "cat";
  fs::copy(At("data"), At("evil"), fs::copy_options::recursive);
  std::string names = Slurp(At("data/classes.txt"));
  Spill(At("evil/classes.txt"), evil + names.substr(names.find('\n')));
  const std::string photo = At("evil/\x1b[31mphoto.png");
  fs::copy_file(At("data/images/test/000000.png"), photo);
  const std::string run = At("evil_run"), fused = At("evil.safetensors");
  const std::vector<std::vector<std::string>> commands{
      TrainArgs(At("evil"), run, {"--limit", "16"}),
      {"eval", "--run", run, "--data", At("evil")},
      {"predict", "--run", run, photo, "--top", "8"},
      {"inspect", run},
      {"inspect", run, "--graph", "text"},
      {"fuse", "--run", run, "--out", fused},
      {"inspect", fused},
      {"eval", "--model", fused, "--data", At("data")},
      {"data", "check", At("evil")},
      {"eval", "--run", run, "--data", At("evil"), "--split", "\x1b[31m"},
      {"predict", "--run", run, At("evil/\x1b[31mnone.png")}};
  const auto safe = [](const std::string& text) {
    return text.find('\x1b') == text.npos && text.find('\x07') == text.npos &&
           text.find("\xc2\x9b") == text.npos && text.find("\xe2\x80\xae") == text.npos;
  };
  for (std::vector<std::string> command : commands) {
    const Outcome o = Graft(command);
    EXPECT_TRUE(safe(o.out)) << command[0] << ": " << o.out;
    EXPECT_TRUE(safe(o.err)) << command[0] << ": " << o.err;
    if (command[0] == "train" || command[0] == "fuse") continue;
    command.push_back("--json");
    const Outcome json = Graft(command);
    EXPECT_TRUE(safe(json.out)) << command[0] << ": " << json.out;
    EXPECT_TRUE(safe(json.err)) << command[0] << ": " << json.err;
    if (json.code == 0) {
      EXPECT_TRUE(json.json().is_object());
    }
  }
  const Outcome shown = Graft({"predict", "--run", run, photo, "--top", "8"});
  EXPECT_NE(shown.out.find("\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202ecat"), std::string::npos)
      << shown.out;
  // The value is the label itself.
  const Json top =
      GraftJson({"predict", "--run", run, photo, "--top", "8"})["predictions"][0]["top"];
  EXPECT_TRUE(std::ranges::any_of(top, [&](const Json& one) { return one["name"] == evil; }));
}

}  // namespace
}  // namespace graft::cli::cli_mistakes_run_test
