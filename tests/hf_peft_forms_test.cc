// Forms in which peft's adapters are met beside the one that it writes today.
#include <filesystem>

#include "adapters/hf/peft_writer.h"
#include "adapters/method_graph.h"
#include "tests/peft_testing.h"

namespace graft::hf_peft_forms_test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRoot = "base_model.model.";

// LoRA of query and value with every bias, as bias="all" has them.
Tensors WithBiases(const LoadedModel& model) {
  Tensors t = LoraTensors();
  for (const HfModule& module : HfNamingFor(model, 4).modules) {
    const bool target = module.name.ends_with("query") || module.name.ends_with("value");
    if (module.scope == "head" || module.weight_shape.empty()) continue;
    t.Add(fmt::format("{}{}.{}bias", kRoot, module.name, target ? "base_layer." : ""),
          {module.weight_shape[0]});
  }
  return t;
}

// What a module inside of a container has, once more under the container's copies: peft 0.21 writes
// the biases there under the adapter's name.
void AddCopies(const LoadedModel& model, const std::string& container, Tensors* t) {
  for (const HfModule& module : HfNamingFor(model, 4).modules) {
    const std::string inside = container + ".", &name = module.name;
    const size_t at = name.starts_with(inside) ? 0 : name.find("." + inside);
    if (at == std::string::npos) continue;
    const size_t end = name.find(inside) + inside.size();
    const std::string key = fmt::format("{}{}.bias", kRoot, name), head = name.substr(0, end),
                      rest = name.substr(end);
    if (!t->Has(kRoot + name + ".weight")) t->Add(kRoot + name + ".weight", module.weight_shape);
    t->Copy(key, fmt::format("{}{}modules_to_save.default.{}.bias", kRoot, head, rest));
    t->Add(fmt::format("{}{}original_module.{}.bias", kRoot, head, rest), {module.weight_shape[0]});
  }
}

TEST_F(HfPeft, AllBiasesAndSavedContainers) {
  for (const char* container : {"intermediate", "attention.output", "output"}) {
    Json config = LoraConfig();
    config["bias"] = "all", config["modules_to_save"] = {"classifier", container};
    Tensors t = WithBiases(model_);
    AddCopies(model_, container, &t);
    const PeftOnModel fitted = Fit(Write(config, t));
    EXPECT_EQ(ToString(fitted.method), "lora(alpha=6,bias=all,r=2,targets=attn.q|attn.v)");
    EXPECT_FALSE(fitted.ledger.reshaped.empty());
    const auto has = [&](const std::string& parameter) {
      return std::ranges::any_of(fitted.tensors,
                                 [&](const auto& p) { return p.parameter == parameter; });
    };
    EXPECT_EQ(has("blocks.1.mlp.fc1.weight"), container == std::string("intermediate"));
    EXPECT_EQ(has("blocks.1.attn.o.weight"), container != std::string("intermediate"));
    EXPECT_TRUE(has("blocks.0.mlp.fc2.bias"));
    // A copy with other numbers is another bias.
    Tensors other = t;
    const std::string inner = container == std::string("attention.output")
                                  ? "encoder.layer.0.attention.output.modules_to_save.default."
                              : container == std::string("output")
                                  ? "encoder.layer.0.output.modules_to_save.default."
                                  : "encoder.layer.0.intermediate.modules_to_save.default.";
    const std::string key = fmt::format("{}vit.{}dense.bias", kRoot, inner);
    ASSERT_TRUE(other.Has(key)) << key;
    other.Add(key, {container == std::string("intermediate") ? kMlp : kWidth});
    EXPECT_THAT(Refused(config, other), HasSubstr("is nothing that adapter_config.json speaks of"));
  }
}

TEST_F(HfPeft, KeysWithTheNameOfTheAdapter) {
  const OpenedModel usual = Open(Write(LoraConfig(), LoraTensors()));
  for (const char* name : {"default", "my-task", "weight"}) {
    Tensors t = LoraTensors();
    t.Rename(".lora_A.", fmt::format(".lora_A.{}.", name));
    t.Rename(".lora_B.", fmt::format(".lora_B.{}.", name));
    t.Rename("classifier.", fmt::format("classifier.modules_to_save.{}.", name));
    OpenedModel opened = Open(Write(LoraConfig(), t));
    EXPECT_EQ(ToString(opened.method), ToString(usual.method));
    ASSERT_EQ(opened.trained.size(), usual.trained.size());
    for (const std::string& parameter : opened.trained)
      EXPECT_EQ(opened.model.params.shape(parameter), usual.model.params.shape(parameter));
  }
  // Nobody knows which of two adapters in one file is meant.
  Tensors two = LoraTensors();
  two.Lora(Layer4(0, "attention.attention.query"), kWidth, kWidth, 2);
  two.Add(kRoot + Layer4(0, "attention.attention.query.lora_A.other.weight"), {2, kWidth});
  EXPECT_THAT(Refused(LoraConfig(), two), HasSubstr("is nothing that adapter_config.json"));
  for (const char* ending : {".lora_A.a.b.weight", ".lora_A.bias", ".lora_A", ".lora_C.weight",
                             ".modules_to_save", ".base_layer.weight"}) {
    Tensors t = LoraTensors();
    t.Add(kRoot + Layer4(0, "attention.attention.query") + ending, {2, kWidth});
    EXPECT_THAT(Refused(LoraConfig(), t), HasSubstr("is nothing that adapter_config.json"))
        << ending;
  }
}

// EVA gives layers ranks by how much of their inputs' variance they explain.
TEST_F(HfPeft, StartedByEva) {
  const std::string query = Layer4(1, "attention.attention.query");
  Json config = LoraConfig();
  config["init_lora_weights"] = "eva";
  config["eva_config"] = {{"rho", 2.0}, {"tau", 0.99}, {"use_label_mask", true}};
  config["target_modules"] = {Layer4(0, "attention.attention.query"), query,
                              Layer4(0, "attention.attention.value"),
                              Layer4(1, "attention.attention.value")};
  config["rank_pattern"] = {{query, 4}};
  config["alpha_pattern"] = {{query, 12}};
  Tensors t = LoraTensors();
  t.Lora(query, kWidth, kWidth, 4);
  EXPECT_EQ(MethodOf(config, t),
            "lora(alpha=6,r=2,targets=attn.v|blocks.0.attn.q)"
            "+lora(alpha=12,r=4,targets=blocks.1.attn.q)");
}

TEST_F(HfPeft, OfTheHeadAlone) {
  Json config = LoraConfig();
  config["target_modules"] = {"classifier"}, config["modules_to_save"] = nullptr;
  Tensors t;
  t.Lora("classifier", 5, kWidth, 2);
  EXPECT_EQ(MethodOf(config, t), "lora(alpha=6,head=frozen,r=2,targets=head)");
}

// A convolution has four dimensions there and two here.
TEST_F(HfPeft, PatchEmbeddingsThatAreSavedWhole) {
  const int64_t patch = model_.vit().patch_size;
  const std::string key = kRoot + std::string("vit.embeddings.patch_embeddings.projection");
  Json config = LoraConfig();
  config["modules_to_save"] = {"classifier", "patch_embeddings"};
  Tensors t = LoraTensors();
  t.Add(key + ".weight", {kWidth, 3, patch, patch});
  t.Add(key + ".bias", {kWidth});
  const std::string in = Write(config, t), out = in + "-out";
  OpenedModel opened = Open(in);
  EXPECT_EQ(opened.model.params.shape("patch_embed.weight"), (Extents{kWidth, 3 * patch * patch}));
  InferenceGraph(opened.model.config, opened.method, opened.model.params);
  WritePeft(out, PlanPeft(opened.method, opened.trained, opened.peft->naming, "base"),
            opened.model.params, {});
  const SafetensorsFile a = SafetensorsFile::Open(in + "/adapter_model.safetensors"),
                        b = SafetensorsFile::Open(out + "/adapter_model.safetensors");
  for (const FileTensor& tensor : a.tensors()) {
    EXPECT_EQ(tensor.shape, b.Get(tensor.name).shape) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(a.bytes(tensor), b.bytes(b.Get(tensor.name)))) << tensor.name;
  }
}

TEST_F(HfPeft, InOneDirectoryWithAConfigOrAModel) {
  const std::string adapter = Write(LoraConfig(), LoraTensors());
  const std::string method = ToString(Open(adapter).method);
  fs::copy(kBase + "/config.json", adapter + "/config.json");
  EXPECT_EQ(ToString(Open(adapter).method), method);
  EXPECT_FALSE(HoldsModelToo(adapter));
  EXPECT_THAT(MessageOf([&] { CheckIsModel(adapter); }), HasSubstr("this is an adapter"));
  // With weights it is both, and neither of them alone.
  fs::copy(kBase + "/model.safetensors", adapter + "/model.safetensors");
  ModelChoice choice;
  choice.model = adapter;
  EXPECT_THAT(MessageOf([&] { OpenModel(choice, InputKind::kDataset); }),
              HasSubstr(fmt::format("hint: --model {0} --adapter {0}", adapter)));
  EXPECT_THAT(MessageOf([&] { CheckIsModel(adapter); }),
              HasSubstr(fmt::format("graft fuse --model {0} --adapter {0} --out FILE", adapter)));
  choice.adapter = adapter;
  EXPECT_EQ(ToString(OpenModel(choice, InputKind::kDataset).method), method);
}

// transformers 5 makes two modules of the first layer of a gated MLP, and so has none for it.
TEST(PeftForms, ModulesOfAGatedMlp) {
  LoadedModel m = LoadModel(
      "init:vit(width=16,depth=1,heads=2,mlp=32,patch=8,image=16,classes=3,layer_scale=true,"
      "gelu=swiglu)");
  for (const int transformers : {4, 5}) {
    const HfNaming naming = HfNamingFor(m, transformers);
    const HfModule *in = naming.FindScope("blocks.0.mlp.fc1"),
                   *out = naming.FindScope("blocks.0.mlp.fc2");
    ASSERT_TRUE(out);
    EXPECT_EQ(out->name, transformers == 4 ? "dinov2.encoder.layer.0.mlp.weights_out"
                                           : "dinov2.encoder.layer.0.mlp.down_proj");
    EXPECT_EQ(in != nullptr, transformers == 4);
    EXPECT_EQ(in ? in->name : "", transformers == 4 ? "dinov2.encoder.layer.0.mlp.weights_in" : "");
  }
  m = LoadModel("init:vit(width=16,depth=1,heads=2,mlp=32,patch=8,image=16,layer_scale=true)");
  EXPECT_EQ(HfNamingFor(m, 5).FindScope("blocks.0.mlp.fc2")->name,
            "dinov2.encoder.layer.0.mlp.fc2");
}

}  // namespace
}  // namespace graft::hf_peft_forms_test
