#include "adapters/facts.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "adapters/base_hash.h"
#include "adapters/fields.h"
#include "data/preprocess.h"
#include "models/text/prompt.h"
#include "models/text/tokenizer_file.h"
#include "peft/method.h"
#include "runtime/io/files_read.h"
#include "runtime/io/json.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"

namespace graft {

namespace {

void CheckPrompt(const AdapterFacts& c) {
  if (!c.head.empty() && c.head != "mlm") FailUsage("--head: '{}'; known: mlm", c.head);
  const std::vector<std::string> objectives{"mlm", "nsp", "nss"};
  if (!c.objective.empty() && std::ranges::find(objectives, c.objective) == objectives.end())
    FailUsage("--objective: '{}'; known: {}", c.objective, fmt::join(objectives, ", "));
  const bool prompt = !c.head.empty();
  for (const auto& [flag, value] : {std::pair("template", c.prompt), std::pair("words", c.words)}) {
    if (prompt && value.empty()) FailUsage("--head mlm: needs --{}", flag);
    if (!prompt && !value.empty()) FailUsage("--{} {}: goes with --head mlm", flag, value);
  }
  if (c.whole_words && !MasksWords(c)) FailUsage("--whole-words: goes with --objective mlm");
  const char* instead = prompt ? "--head mlm" : c.objective.empty() ? nullptr : "--objective mlm";
  if (prompt && MasksWords(c))
    FailUsage("--objective {}: has the masked-LM head already; leave out --head", c.objective);
  if (instead && !c.pool.empty())
    FailUsage("--pool {}: of a classifier; {} has none", c.pool, instead);
  if (prompt) ParsePrompt(c.prompt);
}

}  // namespace

std::string TaskOfMetadata(const StringMap& metadata, const std::string& where) {
  const auto it = metadata.find("graft.task");
  if (it == metadata.end()) return kClassify;
  if (std::ranges::find(TaskNames(), it->second) == TaskNames().end())
    Fail("{}: metadata graft.task is '{}'; known: {}", where, it->second,
         fmt::join(TaskNames(), ", "));
  return it->second;
}

void TakeTexts(const StringMap& metadata, AdapterFacts* facts, const std::string& where) {
  if (const auto it = metadata.find("graft.texts"); it != metadata.end()) facts->texts = it->second;
  if (const auto it = metadata.find("graft.tokenizer_sha256"); it != metadata.end())
    facts->tokenizer_sha256 = it->second;
  if (const std::string& texts = facts->texts;
      !texts.empty() && texts != kSingleTexts && texts != kTextPairs)
    Fail("{}: metadata graft.texts is '{}'; known: {}, {}", where, texts, kSingleTexts, kTextPairs);
}

std::string WrongTexts(const AdapterFacts& facts, bool pairs) {
  if (facts.texts.empty() || (facts.texts == kTextPairs) == pairs) return "";
  return pairs ? "pairs of texts, but the model learnt single ones; hint: --columns names the "
                 "column of the text"
               : "single texts, but the model learnt pairs; hint: --columns names the columns of "
                 "both; --text has a tab between them";
}

void CheckFacts(const AdapterFacts& c) {
  if (!c.texts.empty() && c.texts != kSingleTexts && c.texts != kTextPairs)
    Fail("texts: '{}'; known: {}, {}", c.texts, kSingleTexts, kTextPairs);
  if (std::ranges::find(TaskNames(), c.task) == TaskNames().end())
    FailUsage("--task: '{}'; known: {}{}", c.task, fmt::join(TaskNames(), ", "),
              DidYouMean(c.task, TaskNames()));
  if (c.task != kClassify && !c.head.empty())
    FailUsage("--task {}: --head mlm chooses one class by its words", c.task);
  if (c.task != kClassify && !c.objective.empty())
    FailUsage("--task {}: of labelled data; --objective {} reads plain texts", c.task, c.objective);
  if (c.max_length != 0 && (c.max_length < kLeastMaxLength || c.max_length > kMostMaxLength))
    FailUsage("--max-length: expected {} to {}, found {}", kLeastMaxLength, kMostMaxLength,
              c.max_length);
  const std::vector<std::string> pools{"pooler", "cls", "mean"};
  if (!c.pool.empty() && std::ranges::find(pools, c.pool) == pools.end())
    FailUsage("--pool: '{}'; known: {}", c.pool, fmt::join(pools, ", "));
  CheckPrompt(c);
}

StringMap ModelMetadata(const LoadedModel& model, const AdapterFacts& facts) {
  nlohmann::json recipe = nlohmann::json::array();
  const Method method = facts.method.empty() ? Method() : ParseMethod(facts.method);
  for (const MethodTerm& term : method)
    recipe.push_back({{"method", term.name}, {"options", term.options}});
  StringMap metadata = ModelFacts(model);
  metadata["graft.recipe"] = DumpJson(recipe);
  metadata["graft.base_sha256"] =
      facts.base_sha256.empty() ? BaseHash(facts.model) : facts.base_sha256;
  metadata["graft.labels"] = DumpJson(nlohmann::json(facts.labels));
  metadata["graft.preprocess"] = facts.preprocess;
  if (model.is_bert()) metadata["graft.max_length"] = std::to_string(facts.max_length);
  if (!facts.texts.empty()) metadata["graft.texts"] = facts.texts;
  if (!facts.tokenizer_sha256.empty()) metadata["graft.tokenizer_sha256"] = facts.tokenizer_sha256;
  if (!facts.prompt.empty())
    metadata["graft.template"] = facts.prompt, metadata["graft.words"] = facts.words;
  return metadata;
}

void TakePrompt(const StringMap& metadata, AdapterFacts* facts, const std::string& where) {
  const auto prompt = metadata.find("graft.template"), words = metadata.find("graft.words");
  if (prompt == metadata.end() && words == metadata.end()) return;
  if (prompt == metadata.end() || words == metadata.end())
    Fail("{}: metadata graft.template and graft.words: expected both", where);
  facts->head = "mlm", facts->prompt = prompt->second, facts->words = words->second;
}

int64_t ParseWhole(const std::string& text, const std::string& where, const std::string& key) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    Fail("{}: metadata {} is '{}', expected a whole number", where, key, text);
  return value;
}

std::vector<std::string> ParseLabels(const std::string& text, const std::string& where) {
  const Json json = ParseJson(text, where);
  if (!json.is_array() || json.empty()) Fail("{}: expected a list of class names", where);
  std::vector<std::string> labels;
  for (const Json& label : json) {
    if (!label.is_string()) Fail("{}: expected class names, found {}", where, label.dump());
    labels.push_back(label.get<std::string>());
  }
  return labels;
}

int64_t MaxLengthOf(const StringMap& metadata, int64_t otherwise, const std::string& where) {
  const auto it = metadata.find("graft.max_length");
  if (it == metadata.end()) return otherwise;
  const int64_t length = ParseWhole(it->second, where, it->first);
  if (length < 0) Fail("{}: metadata {} is {}, expected 0 or more", where, it->first, length);
  return length;
}

bool IsRunDirectory(const std::string& path) {
  struct stat s;
  const std::string file = path + "/config.json";
  if (stat(file.c_str(), &s) != 0) return false;
  const Json config = ReadJson(file);
  return config.is_object() && config.contains("base_sha256") && config.contains("method");
}

void RefuseUnfinishedSearch(const std::string& path) {
  struct stat s;
  if (stat((path + "/" + kSearchFile).c_str(), &s) == 0 &&
      stat((path + "/" + kMethodFile).c_str(), &s) != 0)
    Fail("{}: the search has not ended, so there is no run yet; hint: graft search --resume {}",
         path, ShellWord(path));
}

void FailNoRun(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<std::string> runs;
  for (const DirectoryEntry& entry : ListIfReadable(path))
    if (std::error_code none; fs::exists(fs::path(path) / entry.name / "config.json", none))
      runs.push_back((fs::path(path) / entry.name).string());
  if (!runs.empty())
    Fail("{}: no run here (no config.json), but {} below, such as {}; hint: graft runs {}", path,
         runs.size(), *std::ranges::min_element(runs), ShellWord(path));
  Fail("{}: no run here (no config.json){}; hint: a run is the --out of graft train", path,
       DidYouMeanPath(path));
}

AdapterFacts ReadRunFacts(const std::string& run) {
  const std::string file = run + "/config.json";
  struct stat s;
  if (stat(file.c_str(), &s) != 0) FailNoRun(run);
  RecordRead(run);
  RefuseUnfinishedSearch(run);
  AdapterFacts facts = FieldsFromJson<AdapterFacts>(ReadJson(file), file);
  CheckRunFacts(facts, file);
  facts.preprocess_source = "the run";
  return facts;
}

void CheckRunFacts(const AdapterFacts& facts, const std::string& file) {
  if (facts.model.empty()) Fail("{}: 'model' is empty", file);
  if (facts.labels.empty() && !MasksWords(facts)) Fail("{}: 'labels' is empty", file);
  try {
    CheckFacts(facts);
    ParseMethod(facts.method);
    if (!facts.preprocess.empty()) ParsePreprocess(facts.preprocess);
  } catch (const Error& e) {  // of a command line
    Fail("{}: {}", file, e.what());
  }
}

void CheckInputOptions(const LoadedModel& model, const std::string& preprocess,
                       const std::string& tokenizer, int64_t max_length) {
  if (model.is_bert()) {
    if (!preprocess.empty())
      FailUsage("--preprocess {}: {} is a BERT, which reads texts", preprocess, model.source);
    return;
  }
  constexpr const char* kReads = "is a vision transformer, which reads images";
  if (!tokenizer.empty()) FailUsage("--tokenizer {}: {} {}", tokenizer, model.source, kReads);
  if (max_length) FailUsage("--max-length {}: {} {}", max_length, model.source, kReads);
}

int64_t TextPositions(const AdapterFacts& facts, const LoadedModel& model) {
  const int64_t all = model.bert().positions;
  if (facts.method.empty()) return all;
  const int64_t left = all - PositionsTaken(ParseMethod(facts.method));
  if (left < kLeastMaxLength)
    Fail("method '{}' leaves {} of the {} positions of {} to texts, expected at least {}",
         facts.method, std::max<int64_t>(0, left), all, model.source, kLeastMaxLength);
  return left;
}

int64_t MaxLength(const AdapterFacts& facts, const LoadedModel& model) {
  constexpr int64_t kUsual = 128;
  if (facts.max_length > 0) return facts.max_length;
  if (!model.is_bert()) return kUsual;
  const std::string& source = facts.tokenizer.empty() ? facts.model : facts.tokenizer;
  const int64_t most = std::min(kUsual, TextPositions(facts, model));
  if (source.starts_with("init:")) return most;
  const int64_t own = TokenizerMaxLength(source).value_or(most);
  if (own < kLeastMaxLength)
    Fail("{}: its 'model_max_length' is {}, expected at least {}; hint: --max-length", source, own,
         kLeastMaxLength);
  return std::min(own, most);
}

}  // namespace graft
