// Checkpoints of others that are refused: wrong configs by key, pickles, what is missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "models/files/checkpoint.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"

namespace graft::checkpoint_refusals_test {
namespace {

LoadedModel Load(const std::string& path) { return LoadModel(path, "", 0); }

const std::string kBert = kFixtures + "tiny_bert_hf", kVit = kFixtures + "tiny_vit_hf";

struct Broken {
  const char *key, *value, *message;  // "" removes the key
};

void ExpectRefused(const std::string& source, std::span<const Broken> cases) {
  const nlohmann::json good = nlohmann::json::parse(ReadFile(source + "/config.json", 1 << 20));
  for (const Broken& c : cases) {
    const TempDir dir;
    nlohmann::json config = good;
    if (*c.value)
      config[c.key] = nlohmann::json::parse(c.value);
    else
      config.erase(c.key);
    dir.Write("config.json", config.dump());
    std::filesystem::copy_file(source + "/model.safetensors", dir / "model.safetensors");
    const std::string message = MessageOf([&] { Load(dir.path().string()); });
    EXPECT_NE(message.find(c.message), std::string::npos) << c.key << ": " << message;
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
    EXPECT_NE(message.find(c.key), std::string::npos) << message;
  }
}

TEST(CheckpointRefusals, RefusesConfigsOfBertByKeyAndFile) {
  const Broken cases[] = {
      {"num_attention_heads", "null", "num_attention_heads"},
      {"num_attention_heads", "-2", "-2"},
      {"num_attention_heads", "5", "does not divide"},
      {"num_attention_heads", "\"two\"", "string"},
      {"hidden_size", "", "hidden_size"},
      {"hidden_size", "48", "but the tensors say 24"},
      {"hidden_size", "1e30", "hidden_size"},
      {"num_hidden_layers", "3", "but the tensors say 2"},
      {"intermediate_size", "9223372036854775807", "intermediate_size"},
      {"vocab_size", "0", "vocab_size"},
      {"max_position_embeddings", "17", "but the tensors say 16"},
      {"type_vocab_size", "true", "type_vocab_size"},
      {"layer_norm_eps", "-1e-12", "layer_norm_eps"},
      {"layer_norm_eps", "\"1e-12\"", "layer_norm_eps"},
      {"hidden_act", "\"gelu_neww\"", "'gelu_neww' is not supported; known: gelu, "},
      {"hidden_act", "7", "hidden_act"},
      {"hidden_dropout_prob", "1.5", "hidden_dropout_prob"},
      {"attention_probs_dropout_prob", "null", "attention_probs_dropout_prob"},
      {"classifier_dropout", "-0.1", "classifier_dropout"},
      {"position_embedding_type", "\"relative_key\"", "'relative_key' is not supported"},
      {"is_decoder", "true", "is_decoder = true is not supported"},
      {"add_cross_attention", "true", "not supported"},
      {"is_decoder", "3", "is_decoder"},
      {"tie_word_embeddings", "0", "tie_word_embeddings"},
      {"model_type", "\"roberta\"", "model_type 'roberta' is not supported"},
      {"model_type", "\"vit\"", "names are those of bert"},
      {"model_type", "null", "model_type"},
  };
  ExpectRefused(kBert, cases);
}

TEST(CheckpointRefusals, RefusesConfigsOfVitByKeyAndFile) {
  const Broken cases[] = {{"num_attention_heads", "null", "num_attention_heads"},
                          {"image_size", "", "no 'image_size', for which transformers takes 224"},
                          {"hidden_act", "\"gelo\"", "'gelo' is not supported; known: gelu, "},
                          {"image_size", "32", "but the tensors say 16"},
                          {"patch_size", "-4", "patch_size"},
                          {"layer_norm_eps", "null", "layer_norm_eps"},
                          {"qkv_bias", "false", "qkv_bias"},
                          {"model_type", "\"bert\"", "names are those of vit or deit"}};
  ExpectRefused(kVit, cases);
}

TEST(CheckpointRefusals, RefusesPicklesWithTheWayToConvertThem) {
  const TempDir dir;
  dir.Write("model/config.json", "{}");
  dir.Write("model/pytorch_model.bin", "\x80\x02");
  for (const std::string& path : {dir / "model", dir / "model/pytorch_model.bin"}) {
    const std::string message = MessageOf([&] { Load(path); });
    EXPECT_NE(message.find("pickle"), std::string::npos) << message;
    EXPECT_NE(message.find("safetensors"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace graft::checkpoint_refusals_test
