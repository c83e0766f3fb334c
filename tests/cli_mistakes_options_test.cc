// Tests options and words that make no sense: those that are unknown, out of range, or without use
// beside the others.
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_mistakes_options_test {
namespace {

class OptionMistakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(*dir_ / "data");
    ASSERT_EQ(Graft(TrainArgs(*dir_ / "data", *dir_ / "run", {"--limit", "16"})).code, 0);
    ASSERT_EQ(Graft({"fuse", "--run", *dir_ / "run", "--out", *dir_ / "fused.safetensors"}).code,
              0);
    ASSERT_EQ(
        Graft({"export", "--run", *dir_ / "run", "--format", "graft", "--out", *dir_ / "adapter"})
            .code,
        0);
    Spill(*dir_ / "one.ppm", "P6 1 1 255\nabc");
  }
  static void TearDownTestSuite() { delete dir_; }
  static TempDir* dir_;
};
TempDir* OptionMistakes::dir_ = nullptr;

std::vector<Mistake> All() {
  return {
      {"option before the command", {"--json", "eval"}, 2, {"--json follows the command: demo"}},
      {"no command of data", {"data"}, 2, {"make, check"}},
      {"unknown command of data",
       {"data", "mkae", "shapes", "--out", "@fresh"},
       2,
       {"did you mean 'make'"}},
      {"another one", {"data", "chekc", "@data"}, 2, {"did you mean 'check'"}},
      {"unknown flag of data make",
       {"data", "make", "shapes", "--trian", "5", "--out", "@fresh"},
       2,
       {"did you mean '--train'"}},
      {"unknown flag",
       Train({"--epoch", "3"}),
       2,
       {"no option '--epoch'; did you mean '--epochs'?"}},
      {"unknown command",
       {"trian", "--model", kNano},
       2,
       {"no command 'trian'; did you mean 'train'?"}},
      {"unknown flag of other programs",
       Train({"--learning-rate", "1"}),
       2,
       {"no option '--learning-rate'; did you mean '--lr'?"}},
      {"one dash", Train({"-lr", "1"}), 2, {"no option '-lr'; did you mean '--lr'?"}},
      {"data without its option",
       {"train", "@data"},
       2,
       {"/data' belongs to no option; did you mean --data", "example: graft train --help"}},
      {"a word too many",
       {"data", "check", "@data", "nothing"},
       2,
       {"'nothing' belongs to no option; example: graft data check --help"}},
      {"a model of the hub",
       {"train", "--model", "google-bert/bert-base-uncased", "--data", "@data", "--out", "@fresh"},
       1,
       {"google-bert/bert-base-uncased: there is no such model; hint: graft downloads nothing",
        "hf download google-bert/bert-base-uncased --local-dir DIR"}},
      {"the name of an architecture",
       {"predict", "--model", "vit_nano_patch8_32", "@data/images"},
       1,
       {"there is no such model; hint: init:vit_nano_patch8_32 has seeded random weights"}},
      {"model nearly right",
       {"eval", "--model", "@run/last.safetensor", "--data", "@data"},
       1,
       {"there is no such model; did you mean '", "/run/last.safetensors'?"}},
      {"a folder of runs",
       {"predict", "--run", "@.", "@data/images"},
       1,
       {"no run here (no config.json), but ", " below, such as ", "hint: graft runs "}},
      {"runs nearly right", {"runs", "@rnu"}, 1, {"no such directory; did you mean '", "/run'?"}},
      {"a number that is none",
       Train({"--lr", "1e-3x"}),
       2,
       {"--lr: expected a number", "'1e-3x'"}},
      {"data nearly right",
       {"train", "--model", kNano, "--data", "@dat", "--out", "@fresh"},
       1,
       {"does not exist; did you mean '", "/data'?"}},
      {"run nearly right",
       {"eval", "--run", "@rnu", "--data", "@data"},
       1,
       {"did you mean '", "/run'?"}},
      {"file nearly right",
       {"inspect", "@run/last.safetensor"},
       1,
       {"No such file or directory; did you mean '", "/run/last.safetensors'?"}},
      {"budget below 0", Train({"--memory-budget", "-5"}), 2, {"--memory-budget '-5'"}},
      {"budget of profile",
       {"profile", "--model", kNano, "--memory-budget", "1KiB"},
       1,
       {"smallest possible is"}},
      {"method of profile",
       {"profile", "--model", kNano, "--method", "lroa"},
       2,
       {"did you mean 'lora'"}},
      {"length of an image",
       {"profile", "--model", kNano, "--length", "9"},
       2,
       {"--length goes with a model that reads texts"}},
      {"length beyond the positions",
       {"profile", "--model", "init:bert_tiny", "--length", "513"},
       2,
       {"--length 513", "512 positions"}},
      {"profile of a run", {"profile", "--model", "@run"}, 2, {"graft fuse --run", "--out FILE"}},
      {"pass without graph", {"inspect", kNano, "--pass", "share_equal"}, 2, {"--graph text"}},
      {"unknown pass",
       {"inspect", kNano, "--graph", "text", "--pass", "share_equals"},
       2,
       {"--pass: no pass 'share_equals'; did you mean 'share_equal'"}},
      {"method plus", Train({}, "lora(r=8)ln"), 2, {"'+' is missing between 'lora(r=8)' and 'ln'"}},
      {"method range", Train({}, "ln+lora(r=0)"), 2, {"'ln+lora(r=0)'", "'r'", "1 to 65536"}},
      {"method twice",
       Train({}, "lora(r=2)+lora(r=3)"),
       2,
       {"'lora(r=2)+lora(r=3)'", "two terms 'lora' would both branch off blocks.0.attn.q"}},
      {"seed", Train({"--seed", "99999999999999999999"}), 2, {"--seed", "64 bits"}},
      {"arch of a name",
       Train({"--arch", "vit_tiny_patch16_224"}),
       2,
       {"--arch vit_tiny_patch16_224", "for files", kNano}},
      {"arch of a file",
       {"inspect", "@fused.safetensors", "--arch", "vit_nanno_patch8_32"},
       2,
       {"--arch", "did you mean 'vit_nano_"}},
      {"arch of a run",
       {"eval", "--run", "@run", "--arch", "vit_nano_patch8_32", "--data", "@data"},
       2,
       {"--arch goes with --model"}},
      {"arch of a run inspected",
       {"inspect", "@run", "--arch", "vit_nano_patch8_32"},
       2,
       {"--arch goes with a model"}},
      {"tokenizer for images", Train({"--tokenizer", "@data"}), 2, {"--tokenizer", "reads images"}},
      {"length for images", Train({"--max-length", "9"}), 2, {"--max-length 9", "reads images"}},
      {"tokenizer of a ViT",
       {"predict", "--run", "@run", "@one.ppm", "--tokenizer", "@data"},
       2,
       {"--tokenizer", "reads images"}},
      {"length of a ViT",
       {"eval", "--run", "@run", "--data", "@data", "--max-length", "9"},
       2,
       {"--max-length 9", "reads images"}},
      {"limit below 0",
       {"eval", "--run", "@run", "--data", "@data", "--limit", "-1"},
       2,
       {"--limit", "-1"}},
      {"huge limit",
       {"eval", "--run", "@run", "--data", "@data", "--limit", "99999999999999999999"},
       2,
       {"--limit", "99999999999999999999"}},
      {"checkpoint of a model",
       {"eval", "--model", "@fused.safetensors", "--checkpoint", "best", "--data", "@data"},
       2,
       {"--checkpoint best", "goes with a run"}},
      {"checkpoint of an adapter",
       {"fuse", "--model", kNano, "--adapter", "@adapter", "--checkpoint", "best", "--out",
        "@fresh"},
       2,
       {"--checkpoint best", "goes with a run", "adapter"}},
      {"export nothing merged",
       {"export", "--model", "@fused.safetensors", "--format", "timm", "--merged", "--out",
        "@fresh"},
       2,
       {"nothing to merge"}},
      {"undo of a run",
       {"fuse", "--undo", "@fused.safetensors", "--run", "@run", "--out", "@fresh"},
       2,
       {"--undo takes a fused file"}},
      {"logits in place of the model",
       {"predict", "@data/images/test/000000.png", "--model", "@fused.safetensors", "--logits",
        "@fused.safetensors"},
       2,
       {"would overwrite", "fused.safetensors"}},
      {"a drawing in place of the model",
       {"inspect", "@fused.safetensors", "--graph", "svg", "--out", "@fused.safetensors"},
       2,
       {"would overwrite", "fused.safetensors"}},
      {"block without graph", {"inspect", kNano, "--block", "1"}, 2, {"--block goes with --graph"}},
      {"methods with a graph",
       {"inspect", "--methods", "--graph", "text"},
       2,
       {"--methods lists methods"}},
      {"images below 0",
       {"data", "make", "shapes", "--train", "-5", "--out", "@fresh"},
       2,
       {"--train", "-5"}},
      {"no images",
       {"data", "make", "shapes", "--val", "0", "--out", "@fresh"},
       2,
       {"--val", "1000000"}},
      {"many images",
       {"data", "make", "shapes", "--test", "1000001", "--out", "@fresh"},
       2,
       {"--test", "1000000"}},
      {"half an image",
       {"data", "make", "shapes", "--train", "1.5", "--out", "@fresh"},
       2,
       {"--train", "1.5"}},
  };
}

TEST_F(OptionMistakes, GiveOneHelpfulLine) { ExpectMistakes(All(), *dir_); }

// They are refused by a command that makes no use of them, too.
TEST_F(OptionMistakes, EveryCommandChecksTheCommonOptions) {
  const std::vector<Words> commands{{"train"},
                                    {"eval"},
                                    {"predict"},
                                    {"fuse"},
                                    {"export"},
                                    {"inspect", kNano},
                                    {"profile"},
                                    {"demo"},
                                    {"data", "make", "list"},
                                    {"data", "check", "@data"}};
  const std::vector<Words> options{{"--isa", "nope"},
                                   {"--dtype", "fp8"},
                                   {"--memory-budget", "lots"},
                                   {"--disable-pass", "nope"}};
  std::vector<Mistake> table;
  for (const Words& command : commands)
    for (const Words& option : options) {
      Words args = command;
      args.insert(args.end(), option.begin(), option.end());
      table.push_back({command.back() + option[0], args, 2, option});
    }
  ExpectMistakes(table, *dir_);
}

TEST_F(OptionMistakes, ListsOfPresetsAreJsonToo) {
  for (const char* command : {"train", "eval", "predict"})
    EXPECT_EQ(GraftJson({command, "--preprocess", "list"})["presets"][0]["name"], "imagenet");
  EXPECT_EQ(GraftJson({"train", "--augment", "list"})["presets"][0]["name"], "light");
}

TEST_F(OptionMistakes, NoTemporaryDirectory) {
  const Outcome o = Graft({"demo"}, {.temporary = "/nonexistent"});
  EXPECT_EQ(o.code, 1) << o.err;
  EXPECT_EQ(o.err.rfind("graft: /nonexistent: no directory for temporary files: ", 0), 0u) << o.err;
}

}  // namespace
}  // namespace graft::cli::cli_mistakes_options_test
