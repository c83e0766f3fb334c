// Adapters of Hugging Face peft made by hand, for the tiny ViT of tests/fixtures.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/hf/peft_reader.h"
#include "adapters/open_model.h"
#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "tests/test_util.h"

namespace graft {

using ::testing::HasSubstr;

inline const std::string kBase = kFixtures + "tiny_vit_hf";
constexpr int64_t kWidth = 24, kMlp = 48;  // of the fixture; it has 2 blocks and 5 classes

// Makes a config by hand: query and value with rank 2 and a head of 3 classes.
inline Json LoraConfig() {
  return {{"peft_type", "LORA"},
          {"r", 2},
          {"lora_alpha", 6},
          {"target_modules", {"query", "value"}},
          {"modules_to_save", {"classifier"}}};
}

// Tensors of an adapter, filled with noise.
class Tensors {
 public:
  void Add(const std::string& key, const std::vector<int64_t>& shape) {
    int64_t size = 1;
    for (int64_t d : shape) size *= d;
    std::vector<float>& values = values_[key];
    values.resize(size);
    FillNormal(values, {MakeKey(5, Purpose::kData, key)}, 0, 0.1);
    shapes_[key] = shape;
  }
  void Remove(const std::string& key) { values_.erase(key); }
  bool Has(const std::string& key) const { return values_.contains(key); }
  // Puts the same numbers under a second name.
  void Copy(const std::string& key, const std::string& copy) {
    values_[copy] = values_.at(key), shapes_[copy] = shapes_.at(key);
  }
  // Every key that holds `part` with `now` in its place.
  void Rename(const std::string& part, const std::string& now) {
    for (const auto& [key, values] : std::map(values_))
      if (const size_t at = key.find(part); at != std::string::npos) {
        std::string renamed = key;
        Copy(key, renamed.replace(at, part.size(), now));
        Remove(key);
      }
  }
  void Lora(const std::string& module, int64_t out, int64_t in, int64_t r) {
    Add("base_model.model." + module + ".lora_A.weight", {r, in});
    Add("base_model.model." + module + ".lora_B.weight", {out, r});
  }
  void Whole(const std::string& module, const std::vector<int64_t>& weight) {
    Add("base_model.model." + module + ".weight", weight);
    Add("base_model.model." + module + ".bias", {weight[0]});
  }
  void Write(const std::string& path, const StringMap& metadata = {}) const {
    std::vector<TensorToWrite> all;
    for (const auto& [key, values] : values_)
      all.push_back(ToWrite<float>(key, shapes_.at(key), values));
    WriteSafetensors(path, all, metadata);
  }

 private:
  std::map<std::string, std::vector<float>> values_;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

inline std::string Layer4(int block, const std::string& name) {
  return fmt::format("vit.encoder.layer.{}.{}", block, name);
}

inline Tensors LoraTensors() {
  Tensors t;
  for (int block : {0, 1})
    for (const char* name : {"attention.attention.query", "attention.attention.value"})
      t.Lora(Layer4(block, name), kWidth, kWidth, 2);
  t.Whole("classifier", {3, kWidth});
  return t;
}

class HfPeft : public ::testing::Test {
 protected:
  std::string Write(const Json& config, const Tensors& tensors, const StringMap& metadata = {}) {
    const std::string name = fmt::format("adapter-{}", count_++);
    dir_.Write(name + "/adapter_config.json", config.dump());
    tensors.Write(dir_ / (name + "/adapter_model.safetensors"), metadata);
    return dir_ / name;
  }
  PeftOnModel Fit(const std::string& path) {
    const PeftAdapter adapter = PeftAdapter::Open(path);
    const PeftOnModel fitted = FitPeft(adapter, model_, BuildModel(model_.config));
    CheckPeftLedger(adapter, fitted);
    return fitted;
  }
  std::string MethodOf(const Json& config, const Tensors& tensors) {
    return ToString(Fit(Write(config, tensors)).method);
  }
  std::string Refused(const Json& config, const Tensors& tensors) {
    return MessageOf([&] { Fit(Write(config, tensors)); });
  }
  OpenedModel Open(const std::string& adapter) {
    ModelChoice choice;
    choice.model = kBase, choice.adapter = adapter;
    return OpenModel(choice, InputKind::kDataset);
  }
  TempDir dir_;
  LoadedModel model_ = LoadModel(kBase, "", 0);

 private:
  int count_ = 0;
};

}  // namespace graft
