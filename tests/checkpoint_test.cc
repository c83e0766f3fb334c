// Checkpoints of others: read, written back byte for byte, converted between layouts, refused.
#include "models/files/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/interpret.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/npz.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"

namespace graft::checkpoint_test {
namespace {

LoadedModel Load(const std::string& path) { return LoadModel(path, "", 0); }

using Raw = std::map<std::string, TensorToWrite>;

// The bytes of a checkpoint live as long as `file`.
Raw Tensors(const SafetensorsModel& file) {
  Raw raw;
  for (const SafetensorsFile& f : file.files())
    for (const FileTensor& t : f.tensors()) raw[t.name] = {t.name, t.dtype, t.shape, f.bytes(t)};
  return raw;
}

void ExpectSameTensors(const std::string& a_path, const std::string& b_path) {
  const SafetensorsModel a_file = SafetensorsModel::Open(a_path),
                         b_file = SafetensorsModel::Open(b_path);
  const Raw a = Tensors(a_file), b = Tensors(b_file);
  EXPECT_EQ(a_file.names(), b_file.names());
  for (const auto& [name, t] : a) {
    if (!b.contains(name)) continue;
    EXPECT_EQ(t.dtype, b.at(name).dtype) << name;
    EXPECT_EQ(t.shape, b.at(name).shape) << name;
    EXPECT_TRUE(std::ranges::equal(t.bytes, b.at(name).bytes)) << name;
  }
}

void ExpectSameParams(const LoadedModel& a, const LoadedModel& b) {
  EXPECT_EQ(a.params.names(), b.params.names());
  for (const auto& [name, entry] : a.params.entries()) {
    EXPECT_EQ(entry.shape, b.params.shape(name)) << name;
    EXPECT_TRUE(std::ranges::equal(entry.values(), b.params.values(name))) << name;
  }
}

// Writes a changed Hugging Face directory: tensors are renamed or dropped (a name that becomes ""),
// and others are added.
void WriteVariant(const std::string& from, const std::string& to,
                  const std::function<std::string(std::string)>& rename,
                  const std::vector<TensorToWrite>& added = {}) {
  const SafetensorsModel file = SafetensorsModel::Open(from);
  std::vector<TensorToWrite> tensors = added;
  for (auto& [name, t] : Tensors(file)) {
    tensors.push_back(t);
    tensors.back().name = rename(name);
    if (tensors.back().name.empty()) tensors.pop_back();
  }
  std::filesystem::create_directories(to);
  WriteSafetensors(to + "/model.safetensors", tensors, {{"format", "pt"}});
  std::filesystem::copy_file(from + "/config.json", to + "/config.json");
}

// Gives the name in a bare backbone, with the norms of old TensorFlow conversions; heads are left
// out.
std::string OldName(std::string name) {
  if (name.starts_with("cls") || name.starts_with("classifier")) return "";
  name = name.substr(5);  // "bert."
  for (auto [now, then] :
       {std::pair("Norm.weight", "Norm.gamma"), std::pair("Norm.bias", "Norm.beta")})
    if (name.ends_with(now)) name.replace(name.size() - std::strlen(now), std::string::npos, then);
  return name;
}

const std::string kBert = kFixtures + "tiny_bert_hf", kDeit = kFixtures + "tiny_deit_hf",
                  kVit = kFixtures + "tiny_vit_hf", kTimm = kFixtures + "tiny_vit.safetensors",
                  kNpz = kFixtures + "tiny_vit.npz";

// --- round trips

// numpy has no type for BF16 and stores its bits as U16: read as numbers they would be other
// weights.
TEST(Checkpoint, ArraysOfIntegersAreNoWeights) {
  const TempDir dir;
  const NpzFile whole = NpzFile::Open(kNpz);
  const std::string path = dir / "bits.npz";
  NpzWriter writer(path);
  for (const NpzFile::Array& a : whole.arrays()) {
    const NpyArray read = whole.Read(a);
    if (a.name != "cls") {
      writer.Add(ToWrite<float>(a.name, read.shape, read.values));
      continue;
    }
    const std::vector<uint16_t> bits(read.values.size(), 0x3f80);
    writer.Add({a.name, FileDType::kU16, read.shape, std::as_bytes(std::span(bits))});
  }
  writer.Close();
  EXPECT_THAT(MessageOf([&] { Load(path); }),
              ::testing::HasSubstr("'cls' is U16, expected F32, F16, BF16 or F64"));
}

TEST(Checkpoint, IsWrittenBackByteForByte) {
  const TempDir dir;
  std::vector<int64_t> position_ids(16);
  std::iota(position_ids.begin(), position_ids.end(), 0);
  WriteVariant(kBert, dir / "old", OldName,
               {ToWrite<int64_t>("embeddings.position_ids", {1, 16}, position_ids)});
  for (const std::string& source : {kTimm, kVit, kDeit, kBert, dir / "old"}) {
    const LoadedModel m = Load(source);
    const std::string to = dir / ("to" + std::filesystem::path(source).filename().string());
    SaveModel(m, m.params, to, {});
    ExpectSameTensors(source, to);
  }
  EXPECT_EQ(Load(dir / "old").ledger.unexpected,
            (std::vector<std::string>{"embeddings.position_ids"}));
}

// Unchanged tensors keep their type; one that training has changed is not rounded to it.
TEST(Checkpoint, ShortFloatsGoBackAsTheyCame) {
  const TempDir dir;
  const LoadedModel whole = Load(kTimm);
  std::deque<std::vector<uint16_t>> halves;
  std::vector<TensorToWrite> tensors;
  const SafetensorsModel file = SafetensorsModel::Open(kTimm);
  for (const auto& [name, t] : Tensors(file)) {
    std::vector<uint16_t>& half = halves.emplace_back(t.bytes.size() / 4);
    for (size_t i = 0; i < half.size(); ++i)  // the upper half of a float is a bfloat16
      std::memcpy(&half[i], t.bytes.data() + 4 * i + 2, 2);
    tensors.push_back({name, FileDType::kBF16, t.shape, std::as_bytes(std::span(half))});
  }
  WriteSafetensors(dir / "short.safetensors", tensors, whole.metadata);
  LoadedModel m = Load(dir / "short.safetensors");
  SaveModel(m, m.params, dir / "same.safetensors", m.metadata);
  ExpectSameTensors(dir / "short.safetensors", dir / "same.safetensors");
  m.params.Mutable("head.bias")[0] += 1e-4f;
  SaveModel(m, m.params, dir / "changed.safetensors", m.metadata);
  const SafetensorsFile changed = SafetensorsFile::Open(dir / "changed.safetensors");
  EXPECT_EQ(changed.Get("head.bias").dtype, FileDType::kF32);
  EXPECT_EQ(changed.Get("head.weight").dtype, FileDType::kBF16);
}

TEST(Checkpoint, DistilledDeiTGoesThroughTimmAndBack) {
  const TempDir dir;
  LoadedModel m = Load(kDeit);
  ToLayout(m, Layout::kTimm);
  SaveModel(m, m.params, dir / "timm.safetensors",
            {{"graft.config", R"({"heads":2,"eps":1e-6,"gelu":"erf","pool":"distilled"})"}});
  LoadedModel timm = Load(dir / "timm.safetensors");
  EXPECT_EQ(timm.config, m.config);
  ExpectSameParams(timm, m);
  EXPECT_TRUE(timm.file->Shape("head_dist.weight") && timm.file->Shape("dist_token"));
  SaveModel(timm, timm.params, dir / "again.safetensors", {});
  ExpectSameTensors(dir / "timm.safetensors", dir / "again.safetensors");
  ToLayout(timm, Layout::kHuggingFace);
  SaveModel(timm, timm.params, dir / "hf", {});
  ExpectSameTensors(kDeit, dir / "hf");
  EXPECT_EQ(Load(dir / "hf").config, m.config);
  EXPECT_NE(ReadFile(dir / "hf/config.json", 1 << 20).find("DeiTForImageClassificationWithTeacher"),
            std::string::npos);
}

TEST(Checkpoint, FusedAndSplitLayoutsConvertWithoutLoss) {
  const TempDir dir;
  LoadedModel m = Load(kTimm);
  ToLayout(m, Layout::kHuggingFace);
  SaveModel(m, m.params, dir / "hf", {});
  ExpectSameTensors(kVit, dir / "hf");
  LoadedModel hf = Load(dir / "hf");
  ToLayout(hf, Layout::kTimm);
  SaveModel(hf, hf.params, dir / "timm.safetensors", {});
  ExpectSameTensors(kTimm, dir / "timm.safetensors");
  LoadedModel from_npz = Load(kNpz);
  ToLayout(from_npz, Layout::kTimm);
  SaveModel(from_npz, from_npz.params, dir / "npz.safetensors", {});
  ExpectSameTensors(kTimm, dir / "npz.safetensors");
}

TEST(Checkpoint, NpzOfTheOriginalVitIsTheSameModel) {
  const LoadedModel timm = Load(kTimm), npz = Load(kNpz);
  EXPECT_EQ(timm.config, npz.config);
  ExpectSameParams(timm, npz);
  EXPECT_TRUE(npz.ledger.missing.empty() && npz.ledger.unexpected.empty());
  const TempDir dir;
  SaveModel(npz, npz.params, dir / "again.npz", {});
  const NpzFile before = NpzFile::Open(kNpz), after = NpzFile::Open(dir / "again.npz");
  ASSERT_EQ(before.arrays().size(), after.arrays().size());
  for (const NpzFile::Array& a : before.arrays()) {
    ASSERT_NE(after.Find(a.name), nullptr) << a.name;
    EXPECT_EQ(after.Find(a.name)->shape, a.shape) << a.name;
    EXPECT_EQ(after.Read(*after.Find(a.name)).values, before.Read(a).values) << a.name;
  }
}

// --- what is computed from them

std::vector<double> DeitLogits(const LoadedModel& m) {
  const Expected images("tiny_vit_expected.safetensors");
  const Graph g = BuildVit(m.vit());
  InterpretOptions o{.counts = {3, 0}, .leaves = {}, .params = &m.params};
  o.leaves["image"] = images["image"];
  return Interpret(g, o)[g.output("logits").i];
}

TEST(Checkpoint, DistilledDeiTMatchesTransformers) {
  const Expected e("tiny_deit_expected.safetensors");
  LoadedModel m = Load(kDeit);
  EXPECT_EQ(m.vit().tokens, 2);
  EXPECT_LT(RelativeError(DeitLogits(m), e["logits"]), 1e-12);
  // DeiTForImageClassification: the distillation token is there, its head is not.
  const TempDir dir;
  WriteVariant(kDeit, dir / "one", [](const std::string& name) {
    if (name.starts_with("distillation_classifier")) return std::string();
    return name.starts_with("cls_classifier") ? name.substr(4) : name;
  });
  EXPECT_LT(RelativeError(DeitLogits(Load(dir / "one")), e["one_head.logits"]), 1e-12);
  // Positions for larger images keep the rows of both tokens; a new task gets both heads.
  const std::vector<float> tokens(m.params.data("pos_embed"), m.params.data("pos_embed") + 48);
  AdaptModel(m, 24, {"a", "b"}, 1);
  EXPECT_EQ(m.params.shape("pos_embed"), (Extents{2 + 36, 24}));
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), m.params.data("pos_embed")));
  EXPECT_EQ(m.params.shape("head.dist.weight"), (Extents{2, 24}));
}

TEST(Checkpoint, BackboneWithANewHeadIsWrittenAsTransformersReadsIt) {
  const TempDir dir;
  WriteVariant(kBert, dir / "old", OldName);
  LoadedModel m = Load(dir / "old");
  EXPECT_THAT(m.ledger.missing, ::testing::UnorderedElementsAre("head.bias", "head.weight"));
  AdaptClasses(m, {"bad", "good"}, 1);
  SaveModel(m, m.params, dir / "new", {});
  const LoadedModel again = Load(dir / "new");
  EXPECT_EQ(again.root, "bert.");
  EXPECT_EQ(again.labels, m.labels);
  ExpectSameParams(again, m);
}

TEST(Checkpoint, ClassifierReadsTheFirstRowWhereThereIsNoPooler) {
  const TempDir dir;
  WriteVariant(kBert, dir / "mlm", [](const std::string& name) {
    return name.starts_with("bert.pooler") || name.starts_with("classifier") ? "" : name;
  });
  LoadedModel m = Load(dir / "mlm");
  EXPECT_EQ(m.bert().pool, "cls");
  EXPECT_NE(MessageOf([&] { SetPooling(m, "pooler"); }).find("has no pooler"), std::string::npos);
  SaveModel(m, m.params, dir / "again", {});
  ExpectSameTensors(dir / "mlm", dir / "again");
}

// --- mistakes

TEST(Checkpoint, TiedAndUntiedDecoders) {
  const TempDir dir;
  const SafetensorsModel file = SafetensorsModel::Open(kBert);
  TensorToWrite decoder = Tensors(file)["bert.embeddings.word_embeddings.weight"];
  decoder.name = "cls.predictions.decoder.weight";
  auto same = [](const std::string& name) { return name; };
  WriteVariant(kBert, dir / "equal", same, {decoder});
  const LoadedModel m = Load(dir / "equal");
  EXPECT_TRUE(m.ledger.unexpected.empty());
  SaveModel(m, m.params, dir / "again", {});
  ExpectSameTensors(dir / "equal", dir / "again");
  // A decoder of its own, or for another vocabulary, is not read by the classifier, and it stays.
  const std::vector<float> other(43 * 24, 0.5f);
  WriteVariant(kBert, dir / "other", same,
               {ToWrite<float>(decoder.name, {41, 24}, std::span(other).first(41 * 24))});
  WriteVariant(kBert, dir / "larger", same, {ToWrite<float>(decoder.name, {43, 24}, other)});
  WriteVariant(kBert, dir / "bias", same,
               {ToWrite<float>("cls.predictions.decoder.bias", {41}, std::span(other).first(41))});
  WriteVariant(kBert, dir / "told", same, {});
  nlohmann::json config = nlohmann::json::parse(ReadFile(dir / "told/config.json", 1 << 20));
  config["tie_word_embeddings"] = false;
  dir.Write("told/config.json", config.dump());
  const std::map<std::string, size_t> kept{{"other", 6}, {"larger", 6}, {"bias", 6}, {"told", 5}};
  for (const auto& [name, tensors] : kept) {
    const LoadedModel untied = Load(dir / name);
    EXPECT_EQ(untied.ledger.unexpected.size(), tensors) << name;
    EXPECT_NE(untied.notices.back().find("is not the word embeddings"), std::string::npos) << name;
    EXPECT_FALSE(untied.params.Has("mlm.bias")) << name;  // no graph of a masked-LM head is right
    ParamStore trained = untied.params;
    const std::vector<float> words(41 * 24, 0.25f);
    trained.Set("embed.word.weight", Extents{41, 24}, words);
    SaveModel(untied, trained, dir / (name + " again"), {});
    const SafetensorsModel was = SafetensorsModel::Open(dir / name);
    const SafetensorsModel now = SafetensorsModel::Open(dir / (name + " again"));
    Raw expected = Tensors(was), found = Tensors(now);
    EXPECT_EQ(expected.size(), found.size()) << name;
    for (const auto& [key, tensor] : expected)
      EXPECT_EQ(std::ranges::equal(tensor.bytes, found[key].bytes),
                key != "bert.embeddings.word_embeddings.weight")
          << name << " " << key;
  }
}

TEST(Checkpoint, NamesWhatIsMissing) {
  const TempDir dir;
  WriteVariant(kBert, dir / "a", [](std::string name) {
    return name.ends_with("layer.1.output.dense.bias") ? name + "es" : name;
  });
  EXPECT_NE(MessageOf([&] { Load(dir / "a"); }).find("no tensor for 'blocks.1.mlp.fc2.bias'"),
            std::string::npos);
  WriteVariant(kBert, dir / "b",
               [](const std::string& name) { return name == "classifier.bias" ? "" : name; });
  EXPECT_NE(MessageOf([&] { Load(dir / "b"); }).find("no tensor for 'head.bias'"),
            std::string::npos);
  WriteVariant(kBert, dir / "c", [](const std::string& name) {
    return name == "bert.embeddings.token_type_embeddings.weight" ? "" : name;
  });
  EXPECT_NE(MessageOf([&] {
              Load(dir / "c");
            }).find("no tensor 'bert.embeddings.token_type_embeddings.weight'"),
            std::string::npos);
  EXPECT_NE(MessageOf([] { Load(kBert + "/config.json"); }), "no error");
  LoadedModel bert = Load(kBert);
  EXPECT_NE(MessageOf([&] { bert.vit(); }).find("expected a vision transformer, found bert("),
            std::string::npos);
  EXPECT_NE(MessageOf([&] { ToLayout(bert, Layout::kTimm); }).find("cannot express"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::checkpoint_test
