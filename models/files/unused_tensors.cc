#include "models/files/unused_tensors.h"

#include <algorithm>

namespace graft {
namespace {

struct Meaning {
  std::string_view part;  // of the key, in lower case
  std::string_view text;
};

// Parts of names of tensors that change no logit of a classifier. A part that begins with '^'
// stands at the beginning of the name.
constexpr Meaning kHarmless[] = {
    {"mask_token", "stands for masked patches in pre-training"},
    {"^decoder", "a decoder's"},
    {"decoder_pos_embed", "a decoder's"},
    {"position_ids", "counts positions"},
    {"token_type_ids", "a buffer of zeros"},
    {"relative_position_index", "counts positions"},
    {"^optimizer", "an optimizer's state"},
    {"^opt_state", "an optimizer's state"},
    {"^opt/state", "an optimizer's state"},
    {"^state/", "an optimizer's state"},
    {"^seq_relationship", "another task's head"},
    {"^cls.seq_relationship", "another task's head"},
    {"^cls.predictions", "another task's head"},
    {"^qa_outputs", "another task's head"},
};

// Of single numbers alone: what training scripts, batch norms and averages of weights count.
constexpr Meaning kCounters[] = {
    {"num_batches_tracked", "counts steps"},
    {"^n_averaged", "counts models"},
    {"num_updates", "counts steps"},
    {"^iter", "counts steps"},
    {"^global_step", "counts steps"},
    {"^step", "counts steps"},
    {"^epoch", "counts epochs"},
    {"^ema.decay", "of an average of weights"},
    {"^decay", "of an average of weights"},
};

// What a part of the name tells of a tensor that changes what a model computes.
constexpr Meaning kMeanings[] = {
    {"lora_", "left over from a LoRA that was not merged"},
    {"adapter", "of adapter layers, which were not merged"},
    {"ssf_", "scales and shifts of SSF, which were not merged"},
    {"prompt", "prompt tokens"},
    {"prefix", "keys and values of a prefix"},
    {"ia3", "scales of IA3, which were not merged"},
    {"gamma_", "LayerScale"},
    {".ls", "LayerScale"},
    {"layer_scale", "LayerScale"},
    {"lambda", "LayerScale"},
    {"q_norm", "a norm of the queries"},
    {"k_norm", "a norm of the keys"},
    {"norm_pre", "a norm before the blocks"},
    {"attn_pool", "pooling by attention"},
    {"pre_logits", "a representation layer before the head"},
    {"fc_norm", "a norm after pooling, beside a final norm"},
    {"reg_token", "register tokens"},
    {"register_tokens", "register tokens"},
    {"relative_position", "relative positions"},
    {"rel_pos", "relative positions"},
    {"rope", "rotary positions"},
    {"q_bias", "biases of the queries alone"},
    {"v_bias", "biases of the values alone"},
    {"weight_scale", "scales of quantised weights"},
    {"scales", "scales of quantised weights"},
    {"zero_point", "zero points of quantised weights"},
    {"original_module", "peft's copy of a layer"},
    {"modules_to_save", "peft's copy of a layer"},
    {"crossattention", "cross attention"},
};

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

bool Matches(std::string_view key, std::string_view part) {
  if (part.starts_with('^')) return key.starts_with(part.substr(1));
  return key.find(part) != key.npos;
}

}  // namespace

std::string HarmlessReason(const std::string& key, int64_t numbers, const LoadedModel& model) {
  const std::string lower = Lower(key);
  // What a method has left over is never harmless, whichever tensor it belongs to.
  for (const char* method : {"lora_", "adapter", "ssf_", "prompt", "ia3"})
    if (lower.find(method) != std::string::npos) return "";
  for (const Meaning& m : kHarmless)
    if (Matches(lower, m.part)) return std::string(m.text);
  for (const Meaning& m : kCounters)
    if (numbers == 1 && Matches(lower, m.part)) return std::string(m.text);
  const bool pooler = lower.starts_with("pooler.");
  if (pooler && !model.is_bert()) return "a pooler that the classifier does not read";
  return "";
}

std::string MeaningOf(const std::string& key) {
  const std::string lower = Lower(key);
  for (const Meaning& m : kMeanings)
    if (Matches(lower, m.part)) return fmt::format(" ({})", m.text);
  return "";
}

void CheckUnused(const LoadedModel& m) {
  std::vector<std::string> harmful;
  for (const std::string& name : m.ledger.unexpected) {
    const std::string key = name.starts_with(m.root) ? name.substr(m.root.size()) : name;
    const std::vector<int64_t>* shape = m.file->Shape(name);
    int64_t numbers = 1;
    for (const int64_t side : shape ? *shape : std::vector<int64_t>{}) numbers *= side;
    if (HarmlessReason(key, numbers, m).empty()) harmful.push_back(name);
  }
  if (harmful.empty()) return;
  const std::string more =
      harmful.size() > 1 ? fmt::format(" and {} more", harmful.size() - 1) : "";
  Fail(
      "{}: the model that Graft would run does not read the tensor '{}'{}{}; without it the logits "
      "would be others; hint: graft inspect {} lists all keys",
      m.source, harmful[0], MeaningOf(harmful[0]), more, ShellWord(m.source));
}

}  // namespace graft
