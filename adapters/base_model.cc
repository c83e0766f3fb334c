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

Preprocess DataPreprocess(const std::string& text, const VitConfig& model) {
  if (!text.empty()) return ParsePreprocess(text);
  return ForImageSize(ParsePreprocess("vtab"), static_cast<int>(model.image_size));
}

Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file) {
  try {
    return ParsePreprocess(text);
  } catch (const Error& e) {
    Fail("{} (metadata graft.preprocess): {}", file, e.what());
  }
}

Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model) {
  if (!text.empty()) return ParsePreprocess(text);
  if (const auto it = model.metadata.find("graft.preprocess"); it != model.metadata.end())
    return PreprocessOfMetadata(it->second, model.source);
  return ForImageSize(ParsePreprocess("imagenet"), static_cast<int>(model.vit().image_size));
}

}  // namespace graft
