// The JSON files that say what something is: config.json of a ViT or BERT, adapter_config.json of
// peft, config.json of a run. Every input is read as each of them.
#include "adapters/hf/peft_config.h"
#include "fuzz/target.h"
#include "models/files/hf_config.h"
#include "runtime/io/json.h"
#include "tests/test_util.h"
#include "train/run_config_json.h"

namespace graft::fuzz {
namespace {

// Sizes as the seeds have them, which tensors would have told.
ModelConfig SmallVit() {
  VitConfig c;
  c.image_size = 16, c.patch_size = 4, c.width = 24, c.depth = 2, c.mlp_width = 48, c.classes = 5;
  c.heads = 1;
  return c;
}
ModelConfig SmallBert() {
  BertConfig c;
  c.vocab = 41, c.positions = 16, c.width = 24, c.depth = 2, c.mlp_width = 48, c.classes = 3;
  c.heads = 1;
  return c;
}

void TestModelConfig(const Json& json, const ModelConfig& sizes) {
  LoadedModel model;
  model.source = "model", model.config = sizes;
  ReadHuggingFaceConfig(json, "config.json", &model);
  model.labels = ReadLabels(json, Classes(sizes), "config.json");
  CheckConfig(model.config, "config.json");
  BuildModel(model.config);
  GRAFT_CHECK(model.labels.empty() ||
              model.labels.size() == static_cast<size_t>(Classes(model.config)));
  // What is written is read as the same.
  Must([&] {
    LoadedModel again;
    again.source = "model", again.config = sizes;
    ReadHuggingFaceConfig(ParseJson(DumpJson(HuggingFaceConfig(model)), "again"), "again", &again);
    GRAFT_CHECK(again.config == model.config);
  });
}

void TestPeftConfig(const std::string& path) {
  static const HfModule kModules[] = {
      {"vit.encoder.layer.0.attention.attention.query",
       "blocks.0.attn.q",
       {"weight", "bias"},
       {24, 24}},
      {"vit.layers.11.attention.q_proj", "blocks.11.attn.q", {"weight", "bias"}, {24, 24}},
      {"bert.encoder.layer.1.output.LayerNorm", "blocks.1.norm2", {"weight", "bias"}, {24}},
      {"classifier", "head", {"weight", "bias"}, {24, 24}}};
  const PeftConfig config = ReadPeftConfig(path);
  const PeftSelector select(config, path);
  for (const HfModule& module : kModules)
    Accepts([&] {
      if (!select.Targets(module, module.weight_shape.size() == 2) && !select.Saves(module)) return;
      GRAFT_CHECK(select.Rank(module) >= 1 && select.Alpha(module) >= 0);
    });
  DumpJson(ToJson(config, {"SEQ_CLS", "ViTForImageClassification", "transformers.models.vit"}));
}

void TestRunConfig(const Json& json) {
  const RunConfig config = RunConfigFromJson(json, "config.json");
  Must([&] { ParseMethod(config.method); });
  Must([&] { GRAFT_CHECK(ToJson(RunConfigFromJson(ToJson(config), "again")) == ToJson(config)); });
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  static const TempDir* dir = new TempDir;
  Json json;
  const std::string_view text = TextOf(data, size);
  if (!Accepts([&] { json = ParseJson(text, "config.json"); })) return 0;
  Accepts([&] { TestModelConfig(json, SmallVit()); });
  Accepts([&] { TestModelConfig(json, SmallBert()); });
  Accepts([&] { TestRunConfig(json); });
  dir->Write("adapter_config.json", text);
  Accepts([&] { TestPeftConfig(*dir / "adapter_config.json"); });
  return 0;
}
