#include "adapters/base_model.h"

#include <filesystem>

#include "adapters/base_hash.h"
#include "models/files/masked_lm.h"
#include "models/text/prompt.h"
#include "models/text/tokenizer_identity.h"

namespace graft {

void CheckBase(const AdapterFacts& facts) {
  if (facts.base_sha256.empty()) return;  // init: weights come from the seed
  if (std::error_code none; !std::filesystem::exists(facts.model, none))
    Fail(
        "{}: the base that was trained on is not there; hint: put it back, or name it where it is "
        "now: --model BASE --adapter RUN",
        facts.model);
  const std::string now = BaseHash(facts.model);
  if (now != facts.base_sha256)
    Fail(
        "{}: this is another base than the one trained on (SHA-256 {}..., then {}...); hint: put "
        "the original file back",
        facts.model, now.substr(0, 12), facts.base_sha256.substr(0, 12));
}

void TakeHead(const AdapterFacts& facts, LoadedModel* model) {
  if (!model->is_bert())
    FailUsage("--{}: {} is a vision transformer, which reads images",
              facts.objective.empty() ? "head mlm" : "objective " + facts.objective, model->source);
  MaskedLmTask task;
  if (!facts.words.empty()) {
    task.labels = facts.labels;
    task.label_words = LabelWords(OpenTokenizer(facts), facts.words, facts.labels.size());
  }
  UseMaskedLm(*model, task, static_cast<uint64_t>(facts.seed));
}

Tokenizer OpenTokenizer(const AdapterFacts& facts) {
  if (facts.tokenizer.empty() && facts.model.starts_with("init:"))
    Fail("{}: has no vocabulary; hint: --tokenizer DIR, a directory with vocab.txt", facts.model);
  const std::string& path = facts.tokenizer.empty() ? facts.model : facts.tokenizer;
  Tokenizer tokenizer = Tokenizer::Open(path);
  if (!facts.tokenizer_sha256.empty() &&
      TokenizerIdentity(tokenizer.spec()) != facts.tokenizer_sha256)
    Fail(
        "{}: another tokenizer than the one that was learnt with: its words, special tokens or "
        "rules differ; hint: --tokenizer names the right one",
        path);
  return tokenizer;
}

LoadedModel OpenAdapted(const AdapterFacts& facts, const OpenBase& open) {
  CheckBase(facts);
  LoadedModel model = open(facts.model, facts.arch, static_cast<uint64_t>(facts.seed));
  const uint64_t seed = static_cast<uint64_t>(facts.seed);
  if (!facts.pool.empty()) {
    if (!model.is_bert()) FailUsage("--pool {}: {} is no BERT", facts.pool, model.source);
    SetPooling(model, facts.pool);
  }
  if (!facts.head.empty() || !facts.objective.empty())
    TakeHead(facts, &model);
  else if (model.is_bert())
    AdaptClasses(model, facts.labels, seed, facts.new_head, facts.task);
  else
    AdaptModel(model, ParsePreprocess(facts.preprocess).size(), facts.labels, seed, facts.new_head,
               facts.task);
  return model;
}

Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file) {
  try {
    return ParsePreprocess(text);
  } catch (const Error& e) {
    Fail("{} (metadata graft.preprocess): {}", file, e.what());
  }
}

namespace {

Preprocess PreprocessOfWords(const std::string& text) {
  try {
    return ParsePreprocess(text);
  } catch (const Error& e) {
    FailUsage("--{}", e.what());  // which begins with "preprocess: "
  }
}

}  // namespace

ChosenPreprocess ChoosePreprocess(const std::string& text, const LoadedModel& model,
                                  InputKind kind) {
  if (!text.empty()) return {PreprocessOfWords(text), "--preprocess"};
  if (!model.preprocess_problem.empty())
    Fail("{}; hint: say the nearest with --preprocess; 'list' shows names",
         model.preprocess_problem);
  if (!model.preprocess.empty())
    return {PreprocessOfMetadata(model.preprocess, model.source), model.preprocess_source};
  const bool data = kind == InputKind::kDataset;
  const Preprocess usual = ParsePreprocess(data ? "vtab" : "imagenet");
  return {ForImageSize(usual, static_cast<int>(model.vit().image_size)),
          data ? "usual for data sets: vtab" : "usual for single images: imagenet"};
}

}  // namespace graft
