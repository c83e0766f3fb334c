// What can be wrong with archives and adapters: .npz files that hold less or more than they say,
// pickles, adapters for another base, of other shapes, or asking for what Graft cannot do.
#include "tests/cli_mistakes_testing.h"
#include "tests/peft_testing.h"
#include "tests/zip_testing.h"

namespace graft::cli::cli_mistakes_files_test {
namespace {

const std::string kVit = kFixtures + "tiny_vit_hf";

class FileMistakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { dir_ = new TempDir; }
  static void TearDownTestSuite() { delete dir_; }
  static std::string WritePeft(const std::string& name, const Json& config, const Tensors& tensors,
                               const StringMap& metadata = {}) {
    dir_->Write(name + "/adapter_config.json", config.dump());
    tensors.Write(*dir_ / (name + "/adapter_model.safetensors"), metadata);
    return "@" + name;
  }
  // A command that would write a model.
  static Words Merge(const std::string& adapter, const std::string& base = kVit) {
    return {"export",   "--model", base,       "--adapter", adapter,
            "--format", "hf",      "--merged", "--out",     "@fresh"};
  }
  static TempDir* dir_;
};
TempDir* FileMistakes::dir_ = nullptr;

std::string Array(const std::string& shape, const std::string& data,
                  const std::string& type = "<f4") {
  return Npy(fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, shape),
             data);
}

TEST_F(FileMistakes, Archives) {
  const std::string good = Slurp(kFixtures + "tiny_vit.npz");
  const std::string one = Array("1,", std::string(4, '\0'));
  // 80 MB of zeros deflate to less than a thousandth of it.
  const std::string zeros = Array("20000000,", std::string(80000000, '\0'));
  Member lies = Packed("cls.npy", zeros);
  lies.size = 100;
  Member stored = Stored("cls.npy", one);
  stored.size = 4000000000;
  Member locked = Stored("cls.npy", one);
  locked.flags = 1;
  Member packed = Stored("cls.npy", one);
  packed.method = 12;
  Member damaged = Stored("cls.npy", one);
  damaged.crc ^= 1;
  Member again = Stored("twin.npy", one);
  again.offset = 0;
  std::string flipped = good;
  flipped[good.size() / 2] ^= 0x10;
  struct Broken {
    const char* name;
    std::string bytes;
    Words says;
  };
  const std::vector<Broken> all{
      {"bomb", Zip({Packed("cls.npy", zeros)}), {"would unpack to 80000128", "32 times"}},
      {"more than declared", Zip({lies}), {"cls", "100"}},
      {"less than declared", Zip({stored}), {"stored, but", "4000000000"}},
      {"two of one", Zip({Stored("cls.npy", one), again}), {"differs from the directory"}},
      {"encrypted", Zip({locked}), {"encrypted"}},
      {"another compression", Zip({packed}), {"compression method 12", "deflated (8)"}},
      {"no array", Zip({Stored("readme.txt", "hello")}), {"readme.txt", "*.npy only"}},
      {"objects",
       Zip({Stored("cls.npy", Array("1,", "12345678", "|O"))}),
       {"cls", "Python objects", "refused"}},
      {"huge shape", Zip({Stored("cls.npy", Array("99999999999,", "1234"))}), {"cls"}},
      {"negative shape", Zip({Stored("cls.npy", Array("-1,", "1234"))}), {"cls"}},
      {"overflowing shape",
       Zip({Stored("cls.npy", Array("4294967296, 4294967296, 4", "1234"))}),
       {"cls"}},
      {"nothing in it", Zip({}), {"not a model that Graft knows", "no tensors"}},
      {"another model", Zip({Stored("weights.npy", one)}), {"not a model", "embedding/kernel"}},
      {"no archive", "this is text\n", {"text that begins with"}},
      {"empty", "", {"not an .npz file"}},
      {"cut short", good.substr(0, good.size() - 30), {"not an .npz file"}},
      {"cut in front", good.substr(100), {"broken.npz"}},
      {"one bit", flipped, {"broken.npz"}},
  };
  for (const Broken& b : all) {
    Spill(*dir_ / "broken.npz", b.bytes);
    Words says = b.says;
    says.push_back("broken.npz: ");
    ExpectMistakes({{b.name, {"inspect", "@broken.npz"}, 1, says}}, *dir_);
  }
}

TEST_F(FileMistakes, Pickles) {
  dir_->Write("folder/config.json", Slurp(kVit + "/config.json"));
  dir_->Write("folder/pytorch_model.bin", "\x80\x02}q\x01.");
  dir_->Write("model.pt", "\x80\x02}q\x01.");
  dir_->Write("pickled/adapter_config.json", LoraConfig().dump());
  dir_->Write("pickled/adapter_model.bin", "\x80\x02}q\x01.");
  const Words how{"pickle", "convert", "safetensors.torch"};
  ExpectMistakes({{"folder", {"inspect", "@folder"}, 1, how},
                  {"file", {"inspect", "@model.pt"}, 1, how},
                  {"file of a folder", {"inspect", "@folder/pytorch_model.bin"}, 1, how},
                  {"adapter", Merge("@pickled"), 1, how}},
                 *dir_);
}

TEST_F(FileMistakes, AdaptersOfPeft) {
  const std::string query = "base_model.model." + Layer4(0, "attention.attention.query");
  // Each of these is in order but for one thing.
  Json dora = LoraConfig(), negative = LoraConfig(), huge = LoraConfig(), named = LoraConfig();
  dora["use_dora"] = true, negative["r"] = -1, huge["r"] = 1 << 30;
  named["base_model_name_or_path"] = "google/vit-base-patch16-224";
  Tensors wide, shape = LoraTensors(), lost = LoraTensors(), rank = LoraTensors(), other;
  for (const char* name : {"attention.attention.query", "attention.attention.value"})
    wide.Lora(Layer4(0, name), 768, 768, 2);
  shape.Add(query + ".lora_A.weight", {2, 32});
  lost.Remove(query + ".lora_B.weight");
  rank.Lora(Layer4(1, "attention.attention.value"), kWidth, kWidth, 3);
  other.Lora("bert.encoder.layer.0.attention.self.query", kWidth, kWidth, 2);
  dir_->Write("empty/adapter_config.json", LoraConfig().dump());
  dir_->Write("text/adapter_config.json", "{\"peft_type\": \"LORA\"");
  dir_->Write("text/adapter_model.safetensors", "");
  const std::string right = WritePeft("right", LoraConfig(), LoraTensors());
  const auto bad = [&](const char* name, const Json& config, const Tensors& tensors, Words says) {
    return Mistake{name, Merge(WritePeft(name, config, tensors)), 1, std::move(says)};
  };
  const std::vector<Mistake> table{
      bad("dora", dora, LoraTensors(), {"use_dora", "will not ignore"}),
      bad("negative-rank", negative, LoraTensors(), {"'r'", "-1"}),
      bad("huge-rank", huge, LoraTensors(), {"'r'", "1073741824"}),
      bad("wide", named, wide, {"google/vit-base-patch16-224", "[2,768]"}),
      bad("for-bert", named, other, {"no key names a layer", "google/vit-base-patch16-224"}),
      bad("shape", LoraConfig(), shape, {"[2,32]", "[2,24]"}),
      bad("rank", LoraConfig(), rank, {"[3,24]", "[2,24]"}),
      bad("lost", LoraConfig(), lost, {"no tensor for 'blocks.0.attn.q.lora_b'"}),
      {"no weights", Merge("@empty"), 1, {"expected adapter_model.safetensors in it"}},
      {"cut config", Merge("@text"), 1, {"adapter_config.json", "parse error"}},
      {"hash",
       Merge(WritePeft("hash", LoraConfig(), LoraTensors(),
                       {{"graft.base_sha256", std::string(64, '0')}})),
       1,
       {"another base", "SHA-256"}},
      {"text model", Merge(right, kFixtures + "tiny_bert_hf"), 1, {"no key names a layer"}},
      {"no adapter", Merge("@nowhere"), 1, {"nowhere"}},
  };
  ExpectMistakes(table, *dir_);
  EXPECT_EQ(Graft(InDirectory(*dir_, Merge(right))).code, 0);
  fs::remove_all(*dir_ / "fresh");
}

// An adapter in our own form, which Graft has written, and changes of it.
TEST_F(FileMistakes, AdaptersOfOurs) {
  WritePeft("source", LoraConfig(), LoraTensors());
  const Outcome made = Graft(InDirectory(*dir_, {"export", "--model", kVit, "--adapter", "@source",
                                                 "--format", "graft", "--out", "@ours"}));
  ASSERT_EQ(made.code, 0) << made.err;
  const SafetensorsFile file = SafetensorsFile::Open(*dir_ / "ours/adapter.safetensors");
  const auto changed = [&](const char* name, const StringMap& metadata, const char* lost,
                           const std::vector<int64_t>& shape, Words says) {
    StringMap all = file.metadata();
    for (const auto& [key, value] : metadata)
      if (value == "absent")
        all.erase(key);
      else
        all[key] = value;
    std::vector<TensorToWrite> tensors;
    for (const FileTensor& t : file.tensors()) {
      if (t.name == lost && shape.empty()) continue;
      tensors.push_back({t.name, t.dtype, t.name == lost ? shape : t.shape, file.bytes(t)});
    }
    const std::string path = std::string(name) + ".safetensors";
    WriteSafetensors(*dir_ / path, tensors, all);
    return Mistake{name, Merge("@" + path), 1, std::move(says)};
  };
  const char* kA = "blocks.0.attn.q.lora_a";
  const std::vector<Mistake> table{
      changed("base", {{"graft.base_sha256", std::string(64, '0')}}, "", {},
              {"another base", "SHA-256"}),
      changed("recipe", {{"graft.recipe", "absent"}}, "", {},
              {"recipe.safetensors", "no 'graft.recipe'"}),
      changed("method", {{"graft.recipe", R"([{"method":"lroa","options":{}}])"}}, "", {},
              {"method.safetensors", "did you mean 'lora'"}),
      changed("option", {{"graft.recipe", R"([{"method":"lora","options":{"r":2}}])"}}, "", {},
              {"option.safetensors", "'r'", "expected text"}),
      changed("list", {{"graft.recipe", "{}"}}, "", {}, {"a list of methods"}),
      changed("labels", {{"graft.labels", "[1,2,3]"}}, "", {}, {"class names", "found 1"}),
      changed("seed", {{"graft.seed", "1e3"}}, "", {}, {"graft.seed", "whole number"}),
      changed("shape", {}, kA, {4, 12}, {"'blocks.0.attn.q.lora_a'"}),
      changed("preprocess", {{"graft.preprocess", "imagenett"}}, "", {},
              {"did you mean 'imagenet'"}),
      changed("tensor", {}, kA, {},
              {"tensor.safetensors", "no tensor for 'blocks.0.attn.q.lora_a'"}),
  };
  ExpectMistakes(table, *dir_);
  EXPECT_EQ(Graft(InDirectory(*dir_, Merge("@ours"))).code, 0);
}

}  // namespace
}  // namespace graft::cli::cli_mistakes_files_test
