// Adapters of Hugging Face peft that Graft refuses: broken, hostile, for another base, or asking
// for what it cannot do.
#include "tests/peft_testing.h"

namespace graft::hf_peft_hostile_test {
namespace {

// A hostile or unsupported config, by the change that makes it so.
struct Bad {
  const char* what;
  Json change;  // merged into LoraConfig(); null values stay null
  const char* says;
};
std::vector<Bad> BadConfigs() {
  const std::string deep(3000, '(');
  return {
      {"no type", {{"peft_type", nullptr}}, "peft_type"},
      {"other type", {{"peft_type", "IA3"}}, "LORA, LN_TUNING, GLORA, PROMPT_TUNING"},
      {"prompt without rows",
       {{"peft_type", "PROMPT_TUNING"}, {"task_type", "SEQ_CLS"}},
       "num_virtual_tokens"},
      {"prompt of images",
       {{"peft_type", "PROMPT_TUNING"},
        {"task_type", "SEQ_CLS"},
        {"num_virtual_tokens", 4},
        {"r", nullptr},
        {"lora_alpha", nullptr},
        {"target_modules", nullptr}},
       "is for texts"},
      {"prompt of a decoder",
       {{"peft_type", "PREFIX_TUNING"},
        {"task_type", "SEQ_CLS"},
        {"num_virtual_tokens", 4},
        {"num_transformer_submodules", 2}},
       "encoders with decoders"},
      {"prompt of no task",
       {{"peft_type", "PREFIX_TUNING"}, {"num_virtual_tokens", 4}},
       "classifiers (SEQ_CLS)"},
      {"no targets", {{"target_modules", nullptr}}, "target_modules"},
      {"empty targets", {{"target_modules", Json::array()}}, "target_modules"},
      {"empty name", {{"target_modules", {"query", ""}}}, "empty name"},
      {"number as target", {{"target_modules", 3}}, "target_modules"},
      {"numbers as targets", {{"target_modules", {1, 2}}}, "target_modules"},
      {"negative r", {{"r", -4}}, "'r'"},
      {"zero r", {{"r", 0}}, "'r'"},
      {"huge r", {{"r", 1000000000}}, "'r'"},
      {"fraction r", {{"r", 2.5}}, "'r'"},
      {"text r", {{"r", "8"}}, "'r'"},
      {"another r", {{"r", 65536}}, "[65536,24]"},
      {"negative alpha", {{"lora_alpha", -1}}, "lora_alpha"},
      {"huge alpha", {{"lora_alpha", 1e300}}, "lora_alpha"},
      {"text alpha", {{"lora_alpha", "nan"}}, "lora_alpha"},
      {"dropout", {{"lora_dropout", 1}}, "lora_dropout"},
      {"bias", {{"bias", "some"}}, "bias"},
      {"rslora", {{"use_rslora", 1}}, "use_rslora"},
      {"rank pattern", {{"rank_pattern", {{"query", -1}}}}, "rank_pattern"},
      {"rank list", {{"rank_pattern", {1}}}, "rank_pattern"},
      {"two ranks", {{"rank_pattern", {{"query", 3}, {"0.*query", 4}}}}, "both match"},
      {"rank regex", {{"rank_pattern", {{"(query", 3}}}}, "(query"},
      {"invalid regex", {{"target_modules", "query("}}, "list the modules"},
      {"look-ahead", {{"target_modules", "(?!key).*query"}}, "list the modules"},
      {"back reference", {{"target_modules", "(a)\\1"}}, "list the modules"},
      {"deep regex", {{"target_modules", deep}}, "list the modules"},
      {"long regex", {{"target_modules", std::string(20000, 'a')}}, "20000 characters"},
      {"exponential regex",
       {{"target_modules", "(((a{100}){100}){100}){100}"}},
       "list the modules"},
      {"catastrophic regex", {{"target_modules", "(([a-z.0-9]+)+)+!"}}, "no dense layer"},
      {"nothing matches", {{"target_modules", {"querry"}}}, "did you mean 'query'"},
      {"one of two",
       {{"target_modules", {"qeury", "value"}}},
       "'qeury', which is no module; did you"},
      {"a norm", {{"target_modules", {"layernorm_before"}}}, "no dense layer"},
      {"a convolution", {{"target_modules", {"projection"}}}, "no dense layer"},
      {"layers with a pattern",
       {{"target_modules", ".*query"}, {"layers_to_transform", {0}}},
       "layers_to_transform"},
      {"layer number", {{"layers_to_transform", {-1}}}, "layers_to_transform"},
      {"saved module", {{"modules_to_save", {"clasifier"}}}, "did you mean 'classifier'"},
      {"saved regex", {{"modules_to_save", {"classifier("}}}, "modules_to_save"},
      {"dora", {{"use_dora", true}}, "use_dora"},
      {"fan in", {{"fan_in_fan_out", true}}, "fan_in_fan_out"},
      {"replication", {{"layer_replication", {{0, 1}}}}, "layer_replication"},
      {"megatron", {{"megatron_config", {{"a", 1}}}}, "megatron_config"},
      {"tokens", {{"trainable_token_indices", {1}}}, "trainable_token_indices"},
      {"lora bias", {{"lora_bias", true}}, "lora_bias"},
      {"pissa", {{"init_lora_weights", "pissa"}}, "path_initial_model_for_weight_conversion"},
      {"loftq", {{"loftq_config", {{"loftq_bits", 4}}}}, "loftq_config"},
      {"eva", {{"eva_config", {{"rho", 2}}}}, "eva_config"},
      {"two unknown", {{"use_dora", true}, {"from_the_future", 1}}, "from_the_future = 1"},
  };
}

TEST_F(HfPeft, BadConfigsAreRefusedByName) {
  for (const Bad& bad : BadConfigs()) {
    Json config = LoraConfig();
    for (const auto& [key, value] : bad.change.items()) config[key] = value;
    EXPECT_THAT(Refused(config, LoraTensors()), HasSubstr(bad.says)) << bad.what;
  }
}

TEST_F(HfPeft, WhatChangesNothingPasses) {
  Json config = LoraConfig();
  config.update({{"use_dora", false},
                 {"loftq_config", Json::object()},
                 {"layer_replication", nullptr},
                 {"eva_config", nullptr},
                 {"from_the_future", false},
                 {"megatron_core", "megatron.core"},
                 {"qalora_group_size", 16},
                 {"peft_version", "0.99"},
                 {"init_lora_weights", "gaussian"},
                 {"modules_to_save", {"classifier", "score"}}});
  EXPECT_EQ(Fit(Write(config, LoraTensors())).tensors.size(), 10u);
}

TEST_F(HfPeft, TextThatIsNoConfig) {
  const std::string path = Write(LoraConfig(), LoraTensors());
  const std::string file = "adapter-0/adapter_config.json";
  for (const char* text : {"", "[]", "{", "null", "{\"peft_type\": \"LORA\", \"lora_alpha\": NaN}",
                           "{\"peft_type\": \"LORA\", \"peft_type\": \"LORA\"}"}) {
    dir_.Write(file, text);
    EXPECT_THAT(MessageOf([&] { PeftAdapter::Open(path); }), HasSubstr("adapter_config.json"))
        << text;
  }
}

TEST_F(HfPeft, KeysThatDoNotFitAreNamed) {
  const std::string query = "base_model.model." + Layer4(0, "attention.attention.query");
  Tensors missing = LoraTensors(), misspelt = LoraTensors(), shape = LoraTensors(),
          dora = LoraTensors(), head = LoraTensors(), raw = LoraTensors(), twice = LoraTensors();
  missing.Remove(query + ".lora_B.weight");
  EXPECT_THAT(Refused(LoraConfig(), missing), HasSubstr("no tensor for 'blocks.0.attn.q.lora_b'"));
  misspelt.Remove(query + ".lora_B.weight");
  misspelt.Add(query + ".lora_b.weight", {kWidth, 2});
  EXPECT_THAT(Refused(LoraConfig(), misspelt),
              HasSubstr("did you mean '" + query + ".lora_B.weight'"));
  shape.Lora(Layer4(0, "attention.attention.query"), kWidth, 32, 2);
  EXPECT_THAT(Refused(LoraConfig(), shape), HasSubstr("[2,32]"));
  dora.Add(query + ".lora_magnitude_vector", {kWidth});
  EXPECT_THAT(Refused(LoraConfig(), dora), HasSubstr("lora_magnitude_vector"));
  head.Add("base_model.model.classifier.bias", {4});
  EXPECT_THAT(Refused(LoraConfig(), head), HasSubstr("4"));
  twice.Add("base_model.model.classifier.modules_to_save.bias", {3});
  EXPECT_THAT(Refused(LoraConfig(), twice), HasSubstr("classifier.modules_to_save.bias"));
  raw.Add("vit.encoder.layer.0.attention.attention.query.lora_A.default.weight", {2, kWidth});
  EXPECT_THAT(Refused(LoraConfig(), raw), HasSubstr(".default.weight"));
}

TEST_F(HfPeft, AnotherBaseIsRefusedWithItsName) {
  Json config = LoraConfig();
  config["base_model_name_or_path"] = "google/vit-base-patch16-224";
  Tensors wide, other;
  for (int block : {0, 1})
    for (const char* name : {"attention.attention.query", "attention.attention.value"})
      wide.Lora(Layer4(block, name), 768, 768, 2);
  wide.Whole("classifier", {3, 768});
  EXPECT_THAT(Refused(config, wide), HasSubstr("google/vit-base-patch16-224"));
  other.Lora("bert.encoder.layer.0.attention.self.query", kWidth, kWidth, 2);
  EXPECT_THAT(Refused(config, other), HasSubstr("google/vit-base-patch16-224"));
  const std::string ours =
      Write(config, LoraTensors(), {{"graft.base_sha256", std::string(64, '0')}});
  EXPECT_THAT(MessageOf([&] { Open(ours); }), HasSubstr("another base"));
}

TEST_F(HfPeft, PicklesAreNeverOpened) {
  dir_.Write("pickle/adapter_config.json", LoraConfig().dump());
  dir_.Write("pickle/adapter_model.bin", "\x80\x02}q\x00.");
  const std::string message = MessageOf([&] { PeftAdapter::Open(dir_ / "pickle"); });
  EXPECT_THAT(message, HasSubstr("pickle"));
  EXPECT_THAT(message, HasSubstr("safetensors.torch"));
}

}  // namespace
}  // namespace graft::hf_peft_hostile_test
