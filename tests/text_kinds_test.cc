// Directories with every file that a tokenizer may have, and config.json files that say little,
// against answers of transformers (tests/fixtures/text_kinds.json, make_text_kinds.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/facts.h"
#include "adapters/fused_model.h"
#include "models/files/checkpoint.h"
#include "models/text/tokenizer_file.h"
#include "models/text/unicode.h"
#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"

namespace graft::text_kinds_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Json& Kinds() {
  static const Json* kinds = new Json(ReadJson(kFixtures + "text_kinds.json"));
  return *kinds;
}

std::string Lines(const Json& tokens) {
  std::string text;
  for (const Json& token : tokens) text += token.get<std::string>() + "\n";
  return text;
}

// As the script writes them: null for vocab.txt is the vocabulary, a tokenizer.json is changes.
void WriteFiles(const Json& files, const TempDir& folder) {
  const Json& words = Kinds().at("vocabulary");
  for (const auto& [name, content] : files.items()) {
    if (name == "vocab.txt") {
      folder.Write(name, Lines(content.is_null() ? words : content));
    } else if (name == "tokenizer.json") {
      Json whole = Kinds().at("tokenizer.json");
      whole.merge_patch(content);
      for (size_t i = 0; i < words.size(); ++i) whole["model"]["vocab"][words[i]] = i;
      folder.Write(name, whole.dump());
    } else {
      folder.Write(name, content.dump());
    }
  }
}

void ExpectAnswers(const Tokenizer& tokenizer, const Json& kind) {
  for (const Json& request : kind.at("cases")) {
    const EncodeOptions options{.max_length = request.value("max_length", size_t{0})};
    const std::string text = request.at("text");
    const Encoding e = request.contains("second")
                           ? tokenizer.Encode(text, request["second"].get<std::string>(), options)
                           : tokenizer.Encode(text, options);
    Json offsets = Json::array();
    for (const TextSpan& span : e.offsets) {
      offsets.push_back(span.begin);
      offsets.push_back(span.end);
    }
    EXPECT_EQ(Json({e.ids, e.types, offsets}), request.at("expected")) << kind["name"] << request;
  }
}

TEST(TextKinds, EveryDirectoryIsReadAsTransformersReadsIt) {
  EXPECT_EQ(Kinds().at("tokenizers"), unicode::kTokenizersVersion);
  size_t directories = 0;
  for (const Json& kind : Kinds().at("cases")) {
    const TempDir folder;
    WriteFiles(kind.at("files"), folder);
    SCOPED_TRACE(kind.at("name").dump());
    ExpectAnswers(Tokenizer::Open(folder.path().string()), kind);
    ++directories;
  }
  EXPECT_GE(directories, 43u);
}

// The files stand in the directory of a model, and are copied once more from there.
TEST(TextKinds, EveryFileGoesWithAModel) {
  for (const Json& kind : Kinds().at("cases")) {
    const TempDir folder, model, again;
    WriteFiles(kind.at("files"), folder);
    SCOPED_TRACE(kind.at("name").dump());
    for (const TempDir* of : {&model, &again})
      of->Write("config.json", R"({"model_type": "bert"})");
    CopyTokenizer(folder.path().string(), model.path().string());
    CopyTokenizer(model.path().string(), again.path().string());
    ExpectAnswers(Tokenizer::Open(model.path().string()), kind);
    ExpectAnswers(Tokenizer::Open(again.path().string()), kind);
    for (const auto& [name, content] : kind.at("files").items())
      EXPECT_TRUE(std::filesystem::exists(again / name)) << name;
  }
}

// One file, under any name, is read and copied with those beside it.
TEST(TextKinds, AFileGoesWithItsNeighbours) {
  const TempDir folder, model;
  folder.Write("words", Lines(Kinds().at("vocabulary")));
  folder.Write("added_tokens.json", R"({"covid19": 50})");
  folder.Write("tokenizer.json", "{");  // is not read
  CopyTokenizer(folder / "words", model.path().string());
  for (const std::string& path : {folder / "words", model.path().string()})
    EXPECT_THAT(Tokenizer::Open(path).Encode("a covid19").ids, ElementsAre(2, 7, 50, 3)) << path;
  EXPECT_FALSE(std::filesystem::exists(model / "tokenizer.json"));
}

struct BadFiles {
  const char* name;
  Json files;
  const char* message;
};

TEST(TextKinds, WhatTransformersReadsOtherwiseIsRefused) {
  const auto vocab = [](const Json& config) {
    return Json{{"vocab.txt", nullptr}, {"tokenizer_config.json", config}};
  };
  const auto decoder = [&](const Json& tokens) {
    return vocab({{"added_tokens_decoder", tokens}});
  };
  const BadFiles cases[] = {
      {"an id that another token gets", decoder({{"51", {{"content", "covid19"}}}}),
       "'covid19' has id 51 here, but transformers gives it 50"},
      {"an id of the vocabulary", decoder({{"50", {{"content", "film"}}}}),
       "'film' has id 50 here and 8 in the vocabulary"},
      {"a gap",
       {{"vocab.txt", nullptr}, {"added_tokens.json", {{"b", 31}, {"x1", 50}, {"x2", 52}}}},
       "'x2' has id 52 here, but transformers gives it 51"},
      {"an id twice",
       {{"vocab.txt", nullptr}, {"added_tokens.json", {{"x1", 50}, {"x2", 50}}}},
       "added_tokens.json: 'x1' and 'x2' have the same id 50"},
      {"gaps in the vocabulary",
       {{"vocab.txt", {"[UNK]", "[CLS]", "[SEP]", "", "", "a"}},
        {"tokenizer_config.json", {{"x", 1}}}},
       "ids of the vocabulary have gaps, so that of the added token '[PAD]' is not certain"},
      {"several of the model's own", vocab({{"a_token", "<1>"}, {"b_token", "<2>"}}),
       "'b_token': several tokens that the vocabulary does not have"},
      {"one text for two tokens",
       decoder({{"50", {{"content", "Qq"}}}, {"51", {{"content", "qq"}}}}),
       "the added tokens 'Qq' and 'qq' are the same text"},
      {"a token that is nothing", decoder({{"50", {{"content", "\u0301"}}}}),
       "nothing is left of the added token"},
      {"another class", vocab({{"tokenizer_class", "RobertaTokenizerFast"}}),
       "tokenizer class 'RobertaTokenizer' is not supported; known: BertTokenizer"},
      {"a class without its file", vocab({{"tokenizer_class", "PreTrainedTokenizerFast"}}),
       "class is not supported with vocab.txt"},
      {"the class of another model",
       {{"vocab.txt", nullptr}, {"config.json", {{"model_type", "mpnet"}}}},
       "the tokenizer of model_type 'mpnet' is not supported"},
      {"without splitting", vocab({{"do_basic_tokenize", false}}), "'do_basic_tokenize': false"},
      {"several tokenizer.json", vocab({{"fast_tokenizer_files", {"tokenizer.4.0.json"}}}),
       "'fast_tokenizer_files': expected tokenizer.json alone"},
      {"a side", vocab({{"truncation_side", "middle"}}), "expected 'left' or 'right'"},
      {"a side of tokenizer.json",
       {{"tokenizer.json", {{"truncation", {{"direction", "left"}}}}}},
       "'direction': expected 'Left' or 'Right', found 'left'"},
      {"no unknown token", vocab({{"unk_token", nullptr}}), "has no unknown token ''"},
      {"a start that no file knows", vocab({{"cls_token", "<s>"}}), "has no start token '<s>'"},
      {"tokens as numbers", vocab({{"extra_special_tokens", {1}}}),
       "expected a token, a string or an object, found number"},
      {"ids as words", decoder({{"x", {{"content", "x"}}}}), "expected ids from 0 to"},
      {"a list of added tokens",
       {{"vocab.txt", nullptr}, {"added_tokens.json", Json::array({"x"})}},
       "added_tokens.json: expected an object, found array"},
      {"a map that is none",
       {{"vocab.txt", nullptr}, {"special_tokens_map.json", 3}},
       "special_tokens_map.json: expected an object, found number"},
  };
  for (const BadFiles& bad : cases) {
    const TempDir folder;
    WriteFiles(bad.files, folder);
    EXPECT_THAT(MessageOf([&] { Tokenizer::Open(folder.path().string()); }), HasSubstr(bad.message))
        << bad.name;
  }
}

// --- how long texts may be

TEST(TextKinds, AModelsOwnLengthIsTheDefault) {
  const LoadedModel model = LoadModel("init:bert_tiny");
  const TempDir folder;
  folder.Write("vocab.txt", Lines(Kinds().at("vocabulary")));
  const auto length = [&](const std::string& config, int64_t asked = 0) {
    folder.Write("tokenizer_config.json", config);
    AdapterFacts facts;
    facts.model = "init:bert_tiny", facts.tokenizer = folder.path().string();
    facts.max_length = asked;
    return MaxLength(facts, model);
  };
  EXPECT_EQ(length("{}"), 128);
  EXPECT_EQ(length(R"({"model_max_length": 32})"), 32);
  EXPECT_EQ(length(R"({"model_max_length": 32})", 64), 64);  // a file does not overrule the user
  EXPECT_EQ(length(R"({"model_max_length": 512})"), 128);
  EXPECT_EQ(length(R"({"model_max_length": 1000000000000000019884624838656})"), 128);
  EXPECT_EQ(length(R"({"max_len": 64})"), 64);
  EXPECT_THAT(MessageOf([&] { length(R"({"model_max_length": 2})"); }),
              HasSubstr("its 'model_max_length' is 2, expected at least 8"));
}

// --- config.json

std::vector<double> Logits(const LoadedModel& m) {
  const Graph g = BuildModel(m.config);
  InterpretOptions o{.counts = {1, 5}, .leaves = {}, .params = &m.params};
  if (m.is_bert()) {
    o.leaves["ids"] = {2, 7, 40, 3, 11};
    o.leaves["type_ids"] = std::vector<double>(5);
    o.leaves["positions"] = {0, 1, 2, 3, 4};
    o.leaves["offsets"] = {0, 5};
  } else {
    const VitConfig& c = m.vit();
    std::vector<double>& image = o.leaves["image"];
    for (int64_t i = 0; i < c.channels * c.image_size * c.image_size; ++i)
      image.push_back(std::sin(static_cast<double>(i)));
  }
  return Interpret(g, o)[g.output("logits").i];
}

TEST(TextKinds, WhatAConfigDoesNotSayIsAsInTransformers) {
  for (const Json& kind : Kinds().at("configs")) {
    const std::string source = kFixtures + kind.at("of").get<std::string>();
    const TempDir folder;
    Json config = ReadJson(source + "/config.json");
    for (const std::string key : kind.at("without")) config.erase(key);
    folder.Write("config.json", config.dump());
    std::filesystem::copy_file(source + "/model.safetensors", folder / "model.safetensors");
    const LoadedModel m = LoadModel(folder.path().string());
    const std::vector<double> expected = kind.at("logits");
    EXPECT_LT(RelativeError(Logits(m), expected), 1e-12) << kind;
    std::string notice;
    for (const std::string& line : m.notices)
      if (line.find("as in transformers: ") != line.npos) notice += line;
    for (const std::string key : kind.at("without")) {
      const bool matters = key.ends_with("_eps") || key.ends_with("_prob") ||
                           key.ends_with("heads") || key == "hidden_act";
      if (matters) {
        EXPECT_THAT(notice, HasSubstr(key)) << kind;
      }
    }
    // The written model says it all.
    SaveModel(m, m.params, folder / "again", {});
    const LoadedModel again = LoadModel(folder / "again");
    EXPECT_EQ(again.config, m.config);
    for (const std::string& line : again.notices)
      EXPECT_EQ(line.find("as in transformers: "), line.npos) << line;
    EXPECT_TRUE(ReadJson(folder / "again/config.json").contains("model_type"));
  }
}

TEST(TextKinds, AbsentSizesMustBeTransformers) {
  const TempDir folder;
  Json config = ReadJson(kFixtures + "tiny_bert_hf/config.json");
  config.erase("hidden_size");
  folder.Write("config.json", config.dump());
  std::filesystem::copy_file(kFixtures + "tiny_bert_hf/model.safetensors",
                             folder / "model.safetensors");
  EXPECT_THAT(MessageOf([&] { LoadModel(folder.path().string()); }),
              HasSubstr("config.json: no 'hidden_size', for which transformers takes 768, but the "
                        "tensors say 24"));
}

TEST(TextKinds, OneNumberedLabelAmongNames) {
  for (const auto& [labels, kept] : std::initializer_list<std::pair<Json, Json>>{
           {{"LABEL_0", "good", "bad"}, {"LABEL_0", "good", "bad"}},
           {{"good", "LABEL_1", "LABEL_2"}, {"good", "LABEL_1", "LABEL_2"}},
           {{"LABEL_1", "LABEL_0", "LABEL_2"}, {"LABEL_1", "LABEL_0", "LABEL_2"}},
           {{"LABEL_0", "LABEL_1", "LABEL_2"}, Json::array()}}) {
    const TempDir folder;
    Json config = ReadJson(kFixtures + "tiny_bert_hf/config.json");
    for (size_t i = 0; i < 3; ++i) config["id2label"][std::to_string(i)] = labels[i];
    folder.Write("config.json", config.dump());
    std::filesystem::copy_file(kFixtures + "tiny_bert_hf/model.safetensors",
                               folder / "model.safetensors");
    const LoadedModel m = LoadModel(folder.path().string());
    EXPECT_EQ(Json(m.labels), kept);
    SaveModel(m, m.params, folder / "again", {});
    const Json written = ReadJson(folder / "again/config.json");
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(written["id2label"][std::to_string(i)], labels[i]);
      EXPECT_EQ(written["label2id"][labels[i]], i);
    }
  }
}

}  // namespace
}  // namespace graft::text_kinds_test
