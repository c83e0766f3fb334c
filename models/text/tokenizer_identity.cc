#include "models/text/tokenizer_identity.h"

#include "runtime/io/field_hash.h"

namespace graft {
namespace {

template <class... Numbers>
void AddNumbers(FieldHash& hash, Numbers... numbers) {
  (hash.Add(static_cast<int64_t>(numbers)), ...);
}

}  // namespace

std::string TokenizerIdentity(const TokenizerSpec& spec) {
  FieldHash h;
  AddNumbers(h, spec.tokens.size(), spec.added.size());
  for (const std::string& token : spec.tokens) h.Add(token);
  for (const AddedToken& t : spec.added) {
    h.Add(t.content);
    AddNumbers(h, t.id, t.left_strip, t.right_strip, t.normalized, t.single_word, t.special,
               t.appended);
  }
  for (const auto* pieces : {&spec.single, &spec.pair}) {
    AddNumbers(h, pieces->size());
    for (const TemplatePiece& piece : *pieces) {
      AddNumbers(h, piece.source, piece.type, piece.ids.size());
      for (const int32_t id : piece.ids) AddNumbers(h, id);
    }
  }
  h.Add(spec.unknown), h.Add(spec.prefix);
  const NormalizerOptions& n = spec.normalizer;
  AddNumbers(h, spec.max_word, n.clean, n.chinese, n.strip_accents, n.lowercase, spec.truncate_left,
             spec.split_special);
  return h.Hex();
}

}  // namespace graft
