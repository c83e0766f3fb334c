// Models in half precision: what is written, and what config.json says of it.
#include <gtest/gtest.h>

#include <algorithm>

#include "models/files/checkpoint.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft::half_weights_test {
namespace {

const std::string kVit = kFixtures + "tiny_vit_hf", kNpz = kFixtures + "tiny_vit.npz";

LoadedModel Load(const std::string& path) { return LoadModel(path, "", 0); }

void ExpectSameParams(const LoadedModel& a, const LoadedModel& b) {
  ASSERT_EQ(a.params.names(), b.params.names());
  for (const std::string& name : a.params.names())
    EXPECT_TRUE(std::ranges::equal(a.params.values(name), b.params.values(name))) << name;
}

std::map<std::string, FileDType> TypesOf(const std::string& path) {
  std::map<std::string, FileDType> types;
  const SafetensorsModel model = SafetensorsModel::Open(path);
  for (const SafetensorsFile& file : model.files())
    for (const FileTensor& t : file.tensors()) types[t.name] = t.dtype;
  return types;
}

void ExpectSameBytes(const std::string& a, const std::string& b) {
  const SafetensorsModel of_a = SafetensorsModel::Open(a), of_b = SafetensorsModel::Open(b);
  EXPECT_EQ(of_a.names(), of_b.names());
  for (const FileTensor& t : of_a.files()[0].tensors()) {
    const FileTensor& other = of_b.files()[0].Get(t.name);
    EXPECT_EQ(t.dtype, other.dtype) << t.name;
    EXPECT_TRUE(std::ranges::equal(of_a.files()[0].bytes(t), of_b.files()[0].bytes(other)))
        << t.name;
  }
}

// transformers converts what it loads to the type that config.json names, whatever the file holds.
TEST(HalfWeights, ConfigsSayWhatALoadGives) {
  const TempDir dir;
  const std::string half = dir / "half";
  LoadedModel whole = Load(kVit);
  SaveModel(whole, whole.params, half, {}, FileDType::kF16);
  const auto config = [&](const std::string& model) { return ReadJson(model + "/config.json"); };
  for (const auto& [name, type] : TypesOf(half)) EXPECT_EQ(type, FileDType::kF16) << name;
  EXPECT_EQ(config(half)["dtype"], "float16");
  Json named = config(half);  // as before transformers 4.56
  named.erase("dtype"), named["torch_dtype"] = "float16";
  WriteFileAtomically(half + "/config.json", named.dump());

  LoadedModel m = Load(half);
  EXPECT_EQ(StoredType(m), FileDType::kF16);
  SaveModel(m, m.params, dir / "same", {});
  ExpectSameBytes(half, dir / "same");
  EXPECT_EQ(config(dir / "same")["torch_dtype"], "float16");
  m.params.Mutable("norm.bias")[0] += 1e-4f;
  SaveModel(m, m.params, dir / "changed", {});
  EXPECT_EQ(TypesOf(dir / "changed")["vit.layernorm.bias"], FileDType::kF32);
  EXPECT_EQ(TypesOf(dir / "changed")["vit.layernorm.weight"], FileDType::kF16);
  EXPECT_EQ(config(dir / "changed")["torch_dtype"], "float32");
  EXPECT_FALSE(config(dir / "changed").contains("dtype"));
  ExpectSameParams(Load(dir / "changed"), m);

  RoundTo(FileDType::kF16, {m.params.Mutable("norm.bias"), 1});
  SaveModel(m, m.params, dir / "rounded", {}, FileDType::kF16);
  EXPECT_EQ(config(dir / "rounded")["torch_dtype"], "float16");
  ExpectSameParams(Load(dir / "rounded"), m);
  SaveModel(m, m.params, dir / "bf16", {}, FileDType::kBF16);
  for (const auto& [name, type] : TypesOf(dir / "bf16")) EXPECT_EQ(type, FileDType::kBF16) << name;
  EXPECT_EQ(config(dir / "bf16")["torch_dtype"], "bfloat16");

  ToLayout(m, Layout::kTimm);
  SaveModel(m, m.params, dir / "timm.safetensors", ModelFacts(m), FileDType::kF16);
  const LoadedModel timm = Load(dir / "timm.safetensors");
  EXPECT_EQ(StoredType(timm), FileDType::kF16);
  ExpectSameParams(timm, m);
  LoadedModel npz = Load(kNpz);
  EXPECT_EQ(StoredType(npz), FileDType::kF32);
  for (const std::string& name : npz.params.names())
    RoundTo(FileDType::kF16,
            {npz.params.Mutable(name), static_cast<size_t>(npz.params.shape(name).size())});
  SaveModel(npz, npz.params, dir / "half.npz", {}, FileDType::kF16);
  ExpectSameParams(Load(dir / "half.npz"), npz);
  EXPECT_NE(MessageOf([&] {
              SaveModel(npz, npz.params, dir / "b.npz", {}, FileDType::kBF16);
            }).find("an .npz knows no bf16"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::half_weights_test
