// Tests what can be wrong with the files around a text model, and with those of other programs:
// config, vocabulary, tokenizer, archives, adapters, texts.
#include "runtime/io/npy.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"
#include "tests/zip_testing.h"

namespace graft::cli::cli_mistakes_text_test {
namespace {

using Json = nlohmann::json;

constexpr const char* kWords = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\nfilm\n";

// A change of a JSON file that is in order, and what the error says.
struct BrokenJson {
  const char* name;
  Json patch;  // RFC 7386, but for the text "absent": the key goes, and null stays
  Words says;
};

void Patch(Json& json, const Json& patch) {
  for (const auto& [key, value] : patch.items()) {
    if (value == "absent")
      json.erase(key);
    else if (value.is_object() && json.contains(key) && json[key].is_object() && !value.empty())
      Patch(json[key], value);
    else
      json[key] = value;
  }
}

// What is wrong with a config.json, as changes of the one in tests/fixtures/tiny_bert_hf.
std::vector<BrokenJson> BrokenConfigs() {
  return {
      {"type of null", {{"model_type", nullptr}}, {"model_type", "found null"}},
      {"other type", {{"model_type", "roberta"}}, {"'roberta'", "known: bert, deit"}},
      {"type of images", {{"model_type", "vit"}}, {"'vit'", "names are those of bert"}},
      {"number as type", {{"model_type", 7}}, {"model_type", "expected a string"}},
      {"no width", {{"hidden_size", "absent"}}, {"'hidden_size'"}},
      {"negative width", {{"hidden_size", -24}}, {"hidden_size", "-24"}},
      {"huge width", {{"hidden_size", 1e15}}, {"hidden_size", "expected an integer"}},
      {"wide", {{"hidden_size", 4611686018427387904}}, {"hidden_size", "4611686018427387904"}},
      {"width as text", {{"hidden_size", "24"}}, {"hidden_size", "expected an integer", "string"}},
      {"another width", {{"hidden_size", 48}}, {"hidden_size = 48", "24"}},
      {"no heads", {{"num_attention_heads", 0}}, {"num_attention_heads", "1 to 24", "0"}},
      {"five heads", {{"num_attention_heads", 5}}, {"does not divide"}},
      {"many heads", {{"num_attention_heads", 25}}, {"1 to 24", "25"}},
      {"more layers", {{"num_hidden_layers", 3}}, {"num_hidden_layers = 3", "2"}},
      {"no layers", {{"num_hidden_layers", nullptr}}, {"num_hidden_layers"}},
      {"more words", {{"vocab_size", 30522}}, {"vocab_size = 30522", "41"}},
      {"positions", {{"max_position_embeddings", 512}}, {"max_position_embeddings = 512", "16"}},
      {"types", {{"type_vocab_size", 1}}, {"type_vocab_size = 1", "2"}},
      {"zero eps", {{"layer_norm_eps", 0}}, {"layer_norm_eps", "0"}},
      {"negative eps", {{"layer_norm_eps", -1e-12}}, {"layer_norm_eps", "-1e-12"}},
      {"eps as text", {{"layer_norm_eps", "1e-12"}}, {"layer_norm_eps", "expected a number"}},
      {"activation", {{"hidden_act", "gelo"}}, {"'gelo'", "known: gelu, gelu_python"}},
      {"activation as list", {{"hidden_act", {1}}}, {"hidden_act", "expected a string"}},
      {"dropout of 1", {{"hidden_dropout_prob", 1}}, {"hidden_dropout_prob"}},
      {"decoder", {{"is_decoder", true}}, {"is_decoder"}},
      {"decoder as number", {{"is_decoder", 1}}, {"is_decoder", "true or false"}},
      {"positions of another kind",
       {{"position_embedding_type", "relative_key"}},
       {"'relative_key'", "absolute"}},
      {"pruned", {{"pruned_heads", {{"0", {1}}}}}, {"pruned_heads"}},
      {"quantised", {{"quantization_config", {{"bits", 4}}}}, {"quantization_config"}},
      {"width of null", {{"hidden_size", nullptr}}, {"'hidden_size'", "found null"}},
      {"class for tokens",
       {{"architectures", {"BertForTokenClassification"}}},
       {"'BertForTokenClassification'", "known: BertModel", "BertForSequenceClassification"}},
      {"class of another model",
       {{"architectures", {"RobertaForSequenceClassification"}}},
       {"'RobertaForSequenceClassification'", "not supported"}},
      {"class as text", {{"architectures", "BertModel"}}, {"architectures", "expected an array"}},
      {"more classes", {{"num_labels", 7}}, {"num_labels = 7", "3 classes"}},
      {"labels as list", {{"id2label", {"a", "b", "c"}}}, {"id2label", "expected an object"}},
      {"four labels", {{"id2label", {{"3", "d"}}}}, {"id2label names 4", "3"}},
      {"labels from 1", {{"id2label", {{"0", "absent"}, {"3", "d"}}}}, {"id2label", "'0'"}},
      {"labels as numbers", {{"id2label", {{"0", 5}}}}, {"'0'", "expected a string"}},
  };
}

// Makes the content of a small tokenizer.json.
Json SmallTokenizer() {
  return {{"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", true},
            {"strip_accents", nullptr},
            {"lowercase", true}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab",
             {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"a", 4}, {"film", 5}}}}}};
}

Json Model(const Json& patch) { return {{"model", patch}}; }

std::vector<BrokenJson> BrokenTokenizers() {
  const auto vocab = [](const Json& patch) { return Model({{"vocab", patch}}); };
  const auto added = [](const Json& token) {
    Json whole{{"single_word", false},
               {"lstrip", false},
               {"rstrip", false},
               {"normalized", false},
               {"special", false}};
    whole.update(token);
    return Json{{"added_tokens", {whole}}};
  };
  const auto post = [](const Json& value) { return Json{{"post_processor", value}}; };
  const Json piece{{"SpecialToken", {{"id", "[CLS]"}, {"type_id", 0}}}};
  const Json text{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second{{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  const auto of_template = [&](const Json& single) {
    return post({{"type", "TemplateProcessing"},
                 {"sep", "absent"},
                 {"single", single},
                 {"pair", {text, second}},
                 {"special_tokens", {{"[CLS]", {{"ids", {2}}}}}}});
  };
  return {
      {"no model", {{"model", "absent"}}, {"model", "WordPiece"}},
      {"another model", Model({{"type", "BPE"}}), {"'BPE'", "not supported"}},
      {"model as text", {{"model", "WordPiece"}}, {"'model'", "expected an object"}},
      {"no vocabulary", Model({{"vocab", "absent"}}), {"'vocab'"}},
      {"vocabulary as list", Model({{"vocab", {"a", "b"}}}), {"'vocab'", "expected an object"}},
      {"empty vocabulary", Model({{"vocab", Json::object()}}), {"expected tokens, found none"}},
      {"negative id", vocab({{"a", -1}}), {"'a'", "0 to 999999", "-1"}},
      {"huge id", vocab({{"a", 4000000000}}), {"'a'", "4000000000"}},
      {"id as text", vocab({{"a", "4"}}), {"'a'", "expected an integer"}},
      {"id as fraction", vocab({{"a", 4.5}}), {"'a'", "expected an integer"}},
      {"one id twice", vocab({{"film", 4}}), {"'a'", "'film'", "same id 4"}},
      {"beyond the embeddings", vocab({{"film", 41}}), {"42 tokens", "embeddings for 41"}},
      {"no unknown token", Model({{"unk_token", "[NUNK]"}}), {"no unknown token '[NUNK]'"}},
      {"word of 0", Model({{"max_input_chars_per_word", 0}}), {"max_input_chars_per_word", "1 to"}},
      {"word of -1", Model({{"max_input_chars_per_word", -1}}), {"1 to 1000", "-1"}},
      {"huge word", Model({{"max_input_chars_per_word", 1 << 30}}), {"1 to 1000", "1073741824"}},
      {"prefix as number",
       Model({{"continuing_subword_prefix", 2}}),
       {"continuing_subword_prefix", "expected a string"}},
      {"another normalizer", {{"normalizer", {{"type", "NFC"}}}}, {"'NFC'", "not supported"}},
      {"lowercase as text", {{"normalizer", {{"lowercase", "yes"}}}}, {"'lowercase'", "true or"}},
      {"another splitter", {{"pre_tokenizer", {{"type", "ByteLevel"}}}}, {"'ByteLevel'"}},
      {"no splitter", {{"pre_tokenizer", nullptr}}, {"BertPreTokenizer", "'null'"}},
      {"another template", post({{"type", "RobertaProcessing"}}), {"'RobertaProcessing'"}},
      {"separator outside", post({{"sep", {"[SEP]", 6}}}), {"'sep'", "[token, id]"}},
      {"separator as number", post({{"sep", 3}}), {"'sep'", "expected an array"}},
      {"template without text", of_template(Json::array({piece})), {"found A 0 times"}},
      {"template of two texts", of_template({text, piece, text}), {"found A 2 times"}},
      {"template of another token",
       of_template({text, {{"SpecialToken", {{"id", "[CLX]"}, {"type_id", 0}}}}}),
       {"'[CLX]'", "did you mean '[CLS]'"}},
      {"huge template", of_template(Json(std::vector<Json>(100, piece))), {"at most 64 pieces"}},
      {"type without embedding",
       of_template({{{"Sequence", {{"id", "A"}, {"type_id", 2}}}}}),
       {"type 2 in the template", "has 2"}},
      {"added without id", added({{"content", "x"}}), {"added_tokens[0]", "'id'"}},
      {"added of another id", added({{"content", "a"}, {"id", 9}}), {"'a'", "9", "4"}},
      {"added and empty", added({{"content", ""}, {"id", 9}}), {"1 to 256 characters"}},
      {"added and long",
       added({{"content", std::string(100000, 'x')}, {"id", 9}}),
       {"1 to 256 characters", "100000"}},
      {"added behind a gap", added({{"content", "x"}, {"id", 9}}), {"'x' has id 9", "gives it 6"}},
      {"no special tokens", {{"post_processor", nullptr}}, {"no token at all", "''"}},
  };
}

struct BrokenText {
  const char* name;
  std::string text;
  Words says;
};

std::vector<BrokenText> BrokenVocabularies() {
  const std::string words = kWords;
  std::string many;
  for (int i = 0; i < 1000001; ++i) many += std::to_string(i) + "\n";
  return {
      {"empty", "", {"expected a token in each line"}},
      {"blank", "\n\n\n", {"expected a token in each line"}},
      {"no unknown token", "[CLS]\n[SEP]\na\n", {"no unknown token '[UNK]'"}},
      {"no separator", "[CLS]\n[UNK]\na\n", {"no separator token '[SEP]'"}},
      {"twice", words + "a\n", {"vocab.txt:10", "'a' is in line 6 too"}},
      {"latin-1", words + "caf\xe9\n", {"vocab.txt:10", "expected UTF-8", "0xe9"}},
      {"utf-16", std::string("\xff\xfe[\0U\0N\0K\0]\0\n\0", 14), {"vocab.txt:1", "expected UTF-8"}},
      {"too long for the model",
       [&] {
         std::string more = words;
         for (int i = 0; i < 40; ++i) more += fmt::format("w{}\n", i);
         return more;
       }(),
       {"49 tokens", "embeddings for 41"}},
      {"a million lines", many, {"at most 1000000 tokens"}},
      {"a token of 10 MB",
       words + std::string(10 << 20, 'x') + "\n",
       {"at most 8000000 characters"}},
      {"34 MB", std::string(34 << 20, '\n'), {"at most 33554432 bytes"}},
      {"a picture", std::string("\x89PNG\r\n\x1a\n\0\0\0\r", 12), {"expected UTF-8"}},
  };
}

std::vector<BrokenText> BrokenData() {
  return {
      {"one.tsv", "a film\t0\nno label here\n", {"train.tsv:2", "expected 2 columns, found 1"}},
      {"four.tsv", "a\tb\tc\t1\n", {"train.tsv:1", "2 or 3 columns", "found 4"}},
      {"third.tsv", "a\t0\nb\t1\nc\td\t1\n", {"train.tsv:3", "expected 2 columns, found 3"}},
      {"header.tsv", "text\tnote\tlabel\na\t0\n", {"train.tsv:2", "expected 3 columns, found 2"}},
      {"column.tsv",
       "words\tnotes\tlabel\na\tb\t0\n",
       {"train.tsv:1", "a column 'text'", "words, notes, label"}},
      {"label.tsv", "a\tgood\nb\tgod\n", {"train.tsv:2", "'god'", "did you mean 'good'"}},
      {"number.tsv", "a\t2\n", {"train.tsv:1", "0 to 1", "'2'"}},
      {"negative.tsv", "a\t-1\n", {"train.tsv:1", "0 to 1", "'-1'"}},
      {"empty.tsv", "\n\n", {"train.tsv", "found none"}},
      {"nul.tsv", std::string("a\0b\t0\n", 6), {"train.tsv:1", "NUL"}},
      {"latin.tsv", "caf\xe9\t0\n", {"train.tsv:1", "0xe9", "iconv"}},
      {"utf16.tsv",
       std::string("\xff\xfe"
                   "a\0\t\0",
                   6),
       {"UTF-16", "iconv"}},
      {"gzip.tsv", "\x1f\x8b\x08", {"gzip"}},
      {"two.csv", "a,b,c,0\n", {"train.csv:1", "2 or 3 columns", "found 4"}},
      {"quote.csv", "\"a,0\nb,1\n", {"train.csv:1", "never closed"}},
      {"after.csv", "\"a\"b,0\n", {"train.csv:1", "after a closing quote"}},
      {"array.jsonl", "[\"a\", 0]\n", {"train.jsonl:1", "expected an object"}},
      {"missing.jsonl",
       "{\"text\": \"a\", \"label\": 0}\n{\"text\": \"b\"}\n",
       {"train.jsonl:2", "'label'"}},
      {"type.jsonl", "{\"text\": 5, \"label\": 0}\n", {"train.jsonl:1", "'text'", "a string"}},
      {"cut.jsonl", "{\"text\": \"a\", \"lab", {"train.jsonl:1", "parse error"}},
      {"deep.jsonl", std::string(100000, '['), {"train.jsonl:1", "found an array"}},
      {"twice.jsonl",
       "{\"text\": \"a\", \"text\": \"b\", \"label\": 0}\n",
       {"train.jsonl:1", "duplicate key 'text'"}},
  };
}

class TextMistakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    // Makes a model, its vocabulary, and texts; each is in order.
    MakeModel("bert", "");
    Spill(*dir_ / "bert/vocab.txt", kWords);
    MakeData("data", "train.tsv", "a film\tgood\nb\tbad\nfilm\t1\n");
    Spill(*dir_ / "data/dev.tsv", "film b\tbad\n");
  }
  static void TearDownTestSuite() { delete dir_; }

  // Makes a directory with the tiny BERT and another config.json ("" leaves its own).
  static void MakeModel(const std::string& name, const std::string& config) {
    fs::create_directories(*dir_ / name);
    const std::string from = kFixtures + "tiny_bert_hf/";
    fs::create_symlink(from + "model.safetensors", *dir_ / (name + "/model.safetensors"));
    Spill(*dir_ / (name + "/config.json"), config.empty() ? Slurp(from + "config.json") : config);
  }
  static void MakeData(const std::string& name, const std::string& file, const std::string& text) {
    fs::create_directories(*dir_ / name);
    Spill(*dir_ / (name + "/labels.txt"), "good\nbad\n");
    Spill(*dir_ / (name + "/" + file), text);
  }
  static Words Train(const std::string& model, const std::string& data, Words more = {}) {
    Words args{"train",    "--model", "@" + model, "--data", "@" + data,     "--val-split", "none",
               "--method", "lora",    "--out",     "@fresh", "--max-length", "16"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static Words Predict(const std::string& tokenizer, const std::string& text = "") {
    return {"predict",      "--model", "@bert",  "--tokenizer", "@" + tokenizer,
            "--max-length", "16",      "--text", text};
  }
  static TempDir* dir_;
};
TempDir* TextMistakes::dir_ = nullptr;

// The files differ from these in what their case says, and in nothing else.
TEST_F(TextMistakes, TheUnchangedFilesWork) {
  EXPECT_EQ(Graft(InDirectory(*dir_, {"inspect", "@bert"})).code, 0);
  fs::create_directory(*dir_ / "right");
  Spill(*dir_ / "right/tokenizer.json", SmallTokenizer().dump());
  for (const char* tokenizer : {"bert", "bert/vocab.txt", "right", "right/tokenizer.json"}) {
    const Outcome o = Graft(InDirectory(*dir_, Predict(tokenizer)));
    EXPECT_EQ(o.code, 0) << tokenizer << o.err;
  }
  const Outcome o = Graft(InDirectory(*dir_, Train("bert", "data", {"--epochs", "1"})));
  EXPECT_EQ(o.code, 0) << o.err;
  fs::remove_all(*dir_ / "fresh");
}

TEST_F(TextMistakes, Configs) {
  const Json right = Json::parse(Slurp(kFixtures + "tiny_bert_hf/config.json"));
  std::vector<Mistake> table;
  for (const BrokenJson& b : BrokenConfigs()) {
    Json config = right;
    Patch(config, b.patch);
    const std::string name = fmt::format("config-{}", table.size());
    MakeModel(name, config.dump());
    Words says = b.says;
    says.push_back("config.json: ");
    table.push_back({b.name, {"inspect", "@" + name}, 1, says});
  }
  const std::pair<const char*, const char*> texts[] = {
      {"{", "parse error"},
      {"[]", "expected an object"},
      {"\xff", "parse error"},
      {"{\"model_type\":\"bert\",\"model_type\":\"vit\"}", "duplicate key"}};
  for (const auto& [text, says] : texts) {
    const std::string name = fmt::format("config-{}", table.size());
    MakeModel(name, text);
    table.push_back({text, Train(name, "data"), 1, {"config.json", says}});
  }
  ExpectMistakes(table, *dir_);
}

TEST_F(TextMistakes, Tokenizers) {
  std::vector<Mistake> table;
  for (const BrokenJson& b : BrokenTokenizers()) {
    Json tokenizer = SmallTokenizer();
    Patch(tokenizer, b.patch);
    const std::string name = fmt::format("tokenizer-{}", table.size());
    fs::create_directory(*dir_ / name);
    Spill(*dir_ / (name + "/tokenizer.json"), tokenizer.dump());
    Words says = b.says;
    says.push_back(name);
    table.push_back({b.name, Predict(name), 1, says});
  }
  for (const BrokenText& b : BrokenVocabularies()) {
    const std::string name = fmt::format("vocabulary-{}", table.size());
    fs::create_directory(*dir_ / name);
    Spill(*dir_ / (name + "/vocab.txt"), b.text);
    table.push_back({b.name, Train("bert", "data", {"--tokenizer", "@" + name}), 1, b.says});
  }
  fs::create_directory(*dir_ / "settings");
  Spill(*dir_ / "settings/vocab.txt", kWords);
  Spill(*dir_ / "settings/tokenizer_config.json", R"({"do_lower_case": "yes"})");
  table.push_back({"settings", Predict("settings"), 1, {"tokenizer_config.json", "do_lower_case"}});
  fs::create_directory(*dir_ / "none");
  table.push_back({"no files", Predict("none"), 1, {"tokenizer.json or vocab.txt", "neither"}});
  fs::create_directory(*dir_ / "another");
  Spill(*dir_ / "another/spiece.model", "");
  table.push_back({"another kind", Predict("another"), 1, {"found spiece.model", "another kind"}});
  ExpectMistakes(table, *dir_);
}

TEST_F(TextMistakes, Texts) {
  std::vector<Mistake> table;
  for (const BrokenText& b : BrokenData()) {
    const std::string name = fmt::format("data-{}", b.name);
    MakeData(name, "train" + fs::path(b.name).extension().string(), b.text);
    table.push_back({b.name, Train("bert", name), 1, b.says});
  }
  MakeData("one-class", "train.tsv", "a film\tgood\n");
  Spill(*dir_ / "one-class/labels.txt", "good\n");
  table.push_back(
      {"one class", Train("bert", "one-class"), 1, {"expected at least 2 classes, found 1"}});
  Spill(*dir_ / "three.txt", "a film\na\tb\tfilm\n");
  table.push_back({"three columns",
                   {"predict", "--model", "@bert", "--max-length", "16", "@three.txt"},
                   1,
                   {"three.txt:2", "found 3 columns"}});
  Spill(*dir_ / "nothing.txt", "\n");
  table.push_back({"no text",
                   {"predict", "--model", "@bert", "--max-length", "16", "@nothing.txt"},
                   1,
                   {"nothing.txt", "expected a text in each line"}});
  Spill(*dir_ / "picture.jpg", "\xff\xd8\xff\xe0");
  table.push_back({"picture as texts",
                   {"predict", "--model", "@bert", "--max-length", "16", "@picture.jpg"},
                   1,
                   {"picture.jpg: an image by its name", "reads texts"}});
  table.push_back({"preprocessing of texts",
                   {"predict", "--model", "@bert", "--preprocess", "vtab", "--text", "a film"},
                   2,
                   {"--preprocess vtab", "is a BERT, which reads texts"}});
  ExpectMistakes(table, *dir_);
}

// Texts of 10 MB are cut to their first tokens.
TEST_F(TextMistakes, LongTextsAreCut) {
  std::string words, word(2 << 20, 'a');
  while (words.size() < 2 << 20) words += "a film b ";
  Spill(*dir_ / "short.txt", "a film b a film b a film b a film b a film b a film b\n");
  Spill(*dir_ / "long.txt", words + "\n" + word + "\n" + words + "\ta\n");
  const Words args{"predict", "--model", "@bert", "--max-length", "16", "--json"};
  const auto predict = [&](const char* file) {
    Words with = args;
    with.push_back(file);
    const Outcome o = Graft(InDirectory(*dir_, with));
    EXPECT_EQ(o.code, 0) << o.err;
    return Json::parse(o.out)["predictions"];
  };
  const Json cut = predict("@long.txt"), whole = predict("@short.txt");
  ASSERT_EQ(cut.size(), 3u);
  EXPECT_EQ(cut[0]["top"], whole[0]["top"]);
  MakeData("long", "train.tsv", words + "\t0\n" + word + "\t1\n");
  const Outcome o = Graft(InDirectory(*dir_, Train("bert", "long", {"--epochs", "1"})));
  EXPECT_EQ(o.code, 0) << o.err;
  fs::remove_all(*dir_ / "fresh");
}

}  // namespace
}  // namespace graft::cli::cli_mistakes_text_test
