// Adapters and models of other programs on the command line: what is written in one form gives the
// same logits in another, and what stands in the wrong place is named.
#include "models/arch_text.h"
#include "models/files/hf_modules.h"
#include "runtime/io/npy.h"
#include "tests/cli_testing.h"
#include "tests/peft_testing.h"

namespace graft::cli::cli_adapter_test {
namespace {

const std::string kBert = kFixtures + "tiny_bert_hf";
const std::vector<float> kOriginalBias{1, 2, 3};
using Words = std::vector<std::string>;

class Adapters : public ::testing::Test {
 protected:
  std::string WritePeft(const std::string& name, const Json& config, const Tensors& tensors) {
    dir_.Write(name + "/adapter_config.json", config.dump());
    tensors.Write(dir_ / (name + "/adapter_model.safetensors"), {});
    return dir_ / name;
  }
  // Returns the bytes of the logits of a random image.
  std::string Logits(const Words& model) {
    const std::string image = dir_ / "image.npy", out = dir_ / "logits.npy";
    std::vector<float> pixels(3 * 16 * 16);
    FillNormal(pixels, {MakeKey(1, Purpose::kData, "image")}, 0, 1);
    WriteNpy(image, ToWrite<float>("", {1, 3, 16, 16}, pixels));
    Words args{"predict", image, "--logits", out, "--force", "--threads", "1"};
    args.insert(args.end(), model.begin(), model.end());
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << o.err;
    return Slurp(out);
  }
  std::string Export(Words args, const std::string& format, const std::string& name) {
    args.insert(args.begin(), "export");
    for (const std::string& word : {std::string("--format"), format, std::string("--out")})
      args.push_back(word);
    args.push_back(dir_ / name);
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << o.err;
    return dir_ / name;
  }
  static void ExpectMistake(const Words& args, int code, const std::string& says) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, code) << o.out;
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
  }
  static void ExpectSameTensors(const std::string& first, const std::string& second) {
    const SafetensorsFile a = SafetensorsFile::Open(first), b = SafetensorsFile::Open(second);
    EXPECT_EQ(a.tensors().size(), b.tensors().size());
    for (const FileTensor& t : a.tensors())
      EXPECT_TRUE(b.Find(t.name) && std::ranges::equal(a.bytes(t), b.bytes(b.Get(t.name))))
          << t.name;
  }
  TempDir dir_;
};

Tensors WithoutHead() {
  Tensors t = LoraTensors();
  t.Remove("base_model.model.classifier.weight"), t.Remove("base_model.model.classifier.bias");
  return t;
}

// The base's own head, whose classes have no names, stays.
TEST_F(Adapters, OfPeftWithoutAHeadInOurForm) {
  Json config = LoraConfig();
  config["modules_to_save"] = nullptr;
  const std::string peft = WritePeft("peft", config, WithoutHead());
  const Words on_base{"--model", kBase, "--adapter", peft};
  const std::string ours = Export(on_base, "graft", "ours");
  EXPECT_EQ(Logits({"--model", kBase, "--adapter", ours}), Logits(on_base));
  EXPECT_NE(Logits({"--model", kBase}), Logits(on_base));
  EXPECT_EQ(GraftJson({"inspect", ours})["method"],
            "lora(alpha=6,head=frozen,r=2,targets=attn.q|attn.v)");
}

// With bias = "all" peft stores the bias of a module that it saves three times.
TEST_F(Adapters, KeepTheKeysOfPeft) {
  Json config = LoraConfig();
  config["bias"] = "all";
  Tensors tensors = LoraTensors();
  const LoadedModel model = LoadModel(kBase, "", 0);
  for (const HfModule& module : HfNamingFor(model, 4).modules) {
    const bool lora = module.name.ends_with("query") || module.name.ends_with("value");
    if (module.parameters.size() == 2 && module.scope != "head")
      tensors.Add(
          fmt::format("base_model.model.{}.{}", module.name, lora ? "base_layer.bias" : "bias"),
          {model.params.shape(module.scope + ".bias").size()});
  }
  const std::string plain = WritePeft("plain", config, tensors);
  std::vector<TensorToWrite> all;
  const SafetensorsFile file = SafetensorsFile::Open(plain + "/adapter_model.safetensors");
  for (const FileTensor& t : file.tensors())
    all.push_back({t.name, t.dtype, t.shape, file.bytes(t)});
  const std::string head = "base_model.model.classifier.";
  all.push_back(ToWrite<float>(head + "original_module.bias", {3}, kOriginalBias));
  const FileTensor& bias = file.Get(head + "bias");
  all.push_back({head + "modules_to_save.bias", bias.dtype, bias.shape, file.bytes(bias)});
  const std::string peft = WritePeft("peft", config, {}) + "/adapter_model.safetensors";
  WriteSafetensors(peft, all, {});
  const std::string again =
      Export({"--model", kBase, "--adapter", dir_ / "peft"}, "hf-peft", "again");
  ExpectSameTensors(peft, again + "/adapter_model.safetensors");
}

// A file does not say its activation: an adapter is for the one that it was made with.
TEST_F(Adapters, OfAFileThatIsReadWithOtherFacts) {
  const LoadedModel base = LoadModel(kBase, "", 0);
  const std::string timm = Export({"--model", kBase}, "timm", "timm") + "/model.safetensors";
  const SafetensorsFile stated = SafetensorsFile::Open(timm);
  std::vector<TensorToWrite> all;
  for (const FileTensor& t : stated.tensors())
    all.push_back({t.name, t.dtype, t.shape, stated.bytes(t)});
  const std::string file = dir_ / "base.safetensors";
  WriteSafetensors(file, all, {});
  const auto on_file = [&](const std::string& gelu, const std::string& adapter) {
    return Words{
        "--model",
        file,
        "--adapter",
        adapter,
        "--arch",
        fmt::format("vit(heads={},eps={},gelu={})", base.vit().heads, base.vit().eps, gelu)};
  };
  const std::string peft = WritePeft("peft", LoraConfig(), LoraTensors());
  for (const std::string format : {"graft", "hf-peft"}) {
    const std::string ours = Export(on_file("relu", peft), format, format);
    EXPECT_EQ(Logits(on_file("relu", ours)), Logits(on_file("relu", peft)));
    Words args{"predict", dir_ / "image.npy"};
    const Words others = on_file("erf", ours);
    args.insert(args.end(), others.begin(), others.end());
    ExpectMistake(args, 1, "trained with gelu=relu, but " + file + " is read with gelu=erf");
  }
  const std::string random = "init:" + DescribeArch(base.config);
  const std::string of_random =
      Export({"--model", random, "--adapter", peft}, "graft", "of-random");
  Words args{"predict", dir_ / "image.npy"};
  const Words others = on_file("erf", of_random);
  args.insert(args.end(), others.begin(), others.end());
  ExpectMistake(args, 1, "seeded random weights");
}

// inspect tells how any adapter fits a model, without running it.
TEST_F(Adapters, InspectedOnTheirBase) {
  const std::string peft = WritePeft("peft", LoraConfig(), LoraTensors());
  const std::string ours = Export({"--model", kBase, "--adapter", peft}, "graft", "ours");
  const std::string method = "lora(alpha=6,r=2,targets=attn.q|attn.v)";
  for (const std::string& adapter : {peft, ours, ours + "/adapter.safetensors"}) {
    const nlohmann::json json = GraftJson({"inspect", kBase, "--adapter", adapter});
    EXPECT_EQ(json["method"], method);
    EXPECT_EQ(json["keys"]["matched"].size(), 10u);
  }
  ExpectMistake({"inspect", kBert, "--adapter", ours}, 1, "another base");
  for (const char* flag : {"--method", "--graph"})
    ExpectMistake({"inspect", kBase, "--adapter", peft, flag, "lora"}, 2, flag);
}

TEST_F(Adapters, InTheWrongPlace) {
  const std::string peft = WritePeft("peft", LoraConfig(), LoraTensors());
  const std::string ours = Export({"--model", kBase, "--adapter", peft}, "graft", "ours");
  for (const std::string& adapter : {peft, ours})
    ExpectMistake({"predict", "--model", adapter, "a.jpg"}, 2,
                  "this is an adapter; hint: --model BASE --adapter");
  ExpectMistake({"predict", "--model", kBase, "--adapter", dir_ / "", "a.jpg"}, 1,
                "no adapter: expected a run of graft train");
}

// Both heads are kept, under the names of DeiTForImageClassificationWithTeacher.
TEST_F(Adapters, OfADistilledModel) {
  LoadedModel model = LoadModel(kBase, "", 0);
  model.vit().tokens = 2, model.vit().pool = "distilled";
  model.params = {}, model.file = nullptr, model.hf_config.clear();
  InitVit(model.vit(), model.params, 3);
  for (const char* head : {"head.weight", "head.dist.weight"})
    FillNormal({model.params.Mutable(head), 5 * kWidth}, {MakeKey(2, Purpose::kData, head)}, 0, 1);
  model.layout = Layout::kTimm;
  const std::string base = dir_ / "deit.safetensors";
  SaveModel(model, model.params, base, ModelFacts(model));
  const std::string hf = Export({"--model", base}, "hf", "hf");
  EXPECT_EQ(nlohmann::json::parse(Slurp(hf + "/config.json"))["architectures"][0],
            "DeiTForImageClassificationWithTeacher");
  EXPECT_EQ(Logits({"--model", hf}), Logits({"--model", base}));
  Tensors tensors;
  for (int block : {0, 1})
    tensors.Lora(fmt::format("deit.layers.{}.attention.q_proj", block), kWidth, kWidth, 2);
  for (const char* head : {"cls_classifier", "distillation_classifier"})
    tensors.Whole(head, {3, kWidth});
  Json config = LoraConfig();
  config["target_modules"] = {"q_proj"};
  config["modules_to_save"] = {"cls_classifier", "distillation_classifier"};
  const std::string peft = WritePeft("peft", config, tensors);
  const std::string again = Export({"--model", hf, "--adapter", peft}, "hf-peft", "again");
  ExpectSameTensors(peft + "/adapter_model.safetensors", again + "/adapter_model.safetensors");
  EXPECT_EQ(Logits({"--model", hf, "--adapter", again}),
            Logits({"--model", hf, "--adapter", peft}));
}

// A backbone, and one with the head of another task, go as they came; an adapter without a head is
// merged into a backbone that stays one.
TEST_F(Adapters, OfABackbone) {
  const SafetensorsFile whole = SafetensorsFile::Open(kBert + "/model.safetensors");
  std::vector<TensorToWrite> bare, masked;
  for (const FileTensor& t : whole.tensors())
    if (t.name.starts_with("bert.")) {
      bare.push_back({t.name.substr(5), t.dtype, t.shape, whole.bytes(t)});
      masked.push_back({t.name, t.dtype, t.shape, whole.bytes(t)});
    }
  const std::vector<float> bias(24);
  masked.push_back(ToWrite<float>("cls.predictions.transform.dense.bias", {24}, bias));
  for (const auto& [name, tensors] : {std::pair("bare", bare), std::pair("masked", masked)}) {
    const std::string base = dir_ / name;
    dir_.Write(std::string(name) + "/config.json", Slurp(kBert + "/config.json"));
    WriteSafetensors(base + "/model.safetensors", tensors, {});
    const std::string hf = Export({"--model", base}, "hf", std::string(name) + "-hf");
    ExpectSameTensors(base + "/model.safetensors", hf + "/model.safetensors");
    ExpectMistake({"predict", "--model", base, "--text", "a"}, 1, "without a classification head");
  }
  Tensors tensors;
  for (int block : {0, 1})
    tensors.Lora(fmt::format("encoder.layer.{}.attention.self.query", block), kWidth, kWidth, 2);
  Json config = LoraConfig();
  config["task_type"] = "FEATURE_EXTRACTION", config["modules_to_save"] = nullptr;
  config["target_modules"] = {"query"};
  const std::string peft = WritePeft("peft", config, tensors);
  const Words on_base{"--model", dir_ / "bare", "--adapter", peft};
  const std::string again = Export(on_base, "hf-peft", "again");
  ExpectSameTensors(peft + "/adapter_model.safetensors", again + "/adapter_model.safetensors");
  Export({"--model", dir_ / "bare", "--adapter", again}, "hf-peft", "once-more");
  Words merge = on_base;
  merge.push_back("--merged");
  const SafetensorsFile merged =
      SafetensorsFile::Open(Export(merge, "hf", "merged") + "/model.safetensors");
  EXPECT_EQ(merged.tensors().size(), bare.size());
  EXPECT_TRUE(merged.Find("encoder.layer.0.attention.self.query.weight"));
  EXPECT_FALSE(merged.Find("classifier.weight"));
  ExpectMistake({"export", "--model", dir_ / "bare", "--adapter", peft, "--format", "graft",
                 "--out", dir_ / "ours"},
                1, "is a backbone without one");
}

}  // namespace
}  // namespace graft::cli::cli_adapter_test
