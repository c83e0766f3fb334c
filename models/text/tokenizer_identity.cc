#include "models/text/tokenizer_identity.h"

#include <fmt/format.h>

#include "runtime/io/sha256.h"

namespace graft {
namespace {

// Texts that each follow their length, so that no two sequences give the same bytes.
class Hasher {
 public:
  void Add(std::string_view text) {
    const std::string length = fmt::format("{}:", text.size());
    hash_.Update(std::as_bytes(std::span(length)));
    hash_.Update(std::as_bytes(std::span(text)));
  }
  template <class... Numbers>
  void AddNumbers(Numbers... numbers) {
    (Add(fmt::format("{}", static_cast<int64_t>(numbers))), ...);
  }
  std::string Hex() { return hash_.Hex(); }

 private:
  Sha256 hash_;
};

}  // namespace

std::string TokenizerIdentity(const TokenizerSpec& spec) {
  Hasher h;
  h.AddNumbers(spec.tokens.size(), spec.added.size());
  for (const std::string& token : spec.tokens) h.Add(token);
  for (const AddedToken& t : spec.added) {
    h.Add(t.content);
    h.AddNumbers(t.id, t.left_strip, t.right_strip, t.normalized, t.single_word, t.special,
                 t.appended);
  }
  for (const auto* pieces : {&spec.single, &spec.pair}) {
    h.AddNumbers(pieces->size());
    for (const TemplatePiece& piece : *pieces) {
      h.AddNumbers(piece.source, piece.type, piece.ids.size());
      for (const int32_t id : piece.ids) h.AddNumbers(id);
    }
  }
  h.Add(spec.unknown), h.Add(spec.prefix);
  const NormalizerOptions& n = spec.normalizer;
  h.AddNumbers(spec.max_word, n.clean, n.chinese, n.strip_accents, n.lowercase, spec.truncate_left,
               spec.split_special);
  return h.Hex();
}

}  // namespace graft
