#include "adapters/base_model.h"

#include "adapters/base_hash.h"

namespace graft {

void CheckBase(const AdapterFacts& facts) {
  if (facts.base_sha256.empty()) return;  // init: weights come from the seed
  const std::string now = BaseHash(facts.model);
  if (now != facts.base_sha256)
    Fail(
        "{}: this is another base than the one trained on (SHA-256 {}..., then {}...); hint: put "
        "the "
        "original file back",
        facts.model, now.substr(0, 12), facts.base_sha256.substr(0, 12));
}

LoadedModel OpenAdapted(const AdapterFacts& facts, const OpenBase& open) {
  CheckBase(facts);
  LoadedModel model = open(facts.model, facts.arch, static_cast<uint64_t>(facts.seed));
  const uint64_t seed = static_cast<uint64_t>(facts.seed);
  if (!facts.pool.empty()) {
    if (!model.is_bert()) Fail("--pool {}: {} is no BERT", facts.pool, model.source);
    SetPooling(model, facts.pool);
  }
  if (model.is_bert())
    AdaptClasses(model, facts.labels, seed, facts.new_head);
  else
    AdaptModel(model, ParsePreprocess(facts.preprocess).size(), facts.labels, seed, facts.new_head);
  return model;
}

Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file) {
  try {
    return ParsePreprocess(text);
  } catch (const Error& e) {
    Fail("{} (metadata graft.preprocess): {}", file, e.what());
  }
}

ChosenPreprocess ChoosePreprocess(const std::string& text, const LoadedModel& model,
                                  InputKind kind) {
  if (!text.empty()) return {ParsePreprocess(text), "--preprocess"};
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
