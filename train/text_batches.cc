// Labelled texts: those of MakeTextData, and random ones.
#include "adapters/base_model.h"
#include "models/text/prompt.h"
#include "runtime/rng.h"
#include "train/ordered_data.h"

namespace graft {
namespace {

class TextData : public OrderedData {
 public:
  TextData(std::span<const TextExample> examples, const TextLoader::Tokenize& tokenize)
      : loader_(examples, tokenize), targets_(examples) {
    for (const TextExample& e : examples) labels_.push_back(e.label);
  }
  const char* unit() const override { return "texts"; }
  size_t size() const override { return loader_.size(); }
  int label(size_t example) const override { return labels_[example]; }
  std::span<const float> targets(size_t example) const override { return targets_.of(example); }
  int64_t length(size_t example) const override {
    return static_cast<int64_t>(loader_.length(example));
  }
  int64_t longest() const override { return static_cast<int64_t>(loader_.longest()); }
  size_t HeldBytes() const override {
    constexpr size_t kToken = 2 * sizeof(int32_t), kText = 3 * sizeof(int32_t) + 3 * sizeof(size_t);
    return loader_.rows() * kToken + loader_.size() * kText + targets_.bytes();
  }
  std::vector<Counts> Parts(const Counts& capacity) const override {
    return TextParts(capacity);
  }
  bool HashInputs(Sha256& hash) const override {
    std::vector<int32_t> all(3 * static_cast<size_t>(longest()));
    for (size_t i = 0; i < size(); ++i) {
      const size_t rows = loader_.length(i);
      int32_t offsets[2], label = 0, mask = 0;
      loader_.Write({{i}}, {all.data(), all.data() + rows, all.data() + 2 * rows, offsets, &label,
                            loader_.has_masks() ? &mask : nullptr});
      const int32_t ends[] = {static_cast<int32_t>(rows), mask};
      hash.Update(std::as_bytes(std::span(ends)));
      hash.Update(std::as_bytes(std::span(all).first(3 * rows)));
    }
    return true;
  }
  void HashContents(Sha256& hash) const override { HashInputs(hash); }
  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    const auto input = [&](const char* name) {
      return session.HasInput(name) ? session.Input(name, worker).i32() : nullptr;
    };
    loader_.Write(Examples(first, count), {input("ids"), input("type_ids"), input("positions"),
                                           input("offsets"), input("labels"), input("rows")});
    FillTargets(*this, Examples(first, count), worker, &session);
  }

 private:
  TextLoader loader_;
  std::vector<int> labels_;
  Targets targets_;
};

// How many rows the embedding must have, whatever the texts are. Added tokens that follow the
// vocabulary may be missing there: transformers adds [MASK] and the like to any vocabulary.
int64_t WordsOf(const Tokenizer& tokenizer) {
  int64_t words = std::ssize(tokenizer.spec().tokens);
  for (const AddedToken& token : tokenizer.spec().added)
    if (token.appended) words = std::min(words, int64_t{token.id});
  return words;
}

}  // namespace

void CheckIds(std::span<const int32_t> ids, const Tokenizer& tokenizer, const std::string& text,
              const LoadedModel& model) {
  for (const int32_t id : ids)
    if (id >= model.bert().vocab)
      Fail("{}: the token '{}' has id {}, but {} has embeddings for {}; found in '{}'",
           tokenizer.spec().where, tokenizer.token(id), id, model.source, model.bert().vocab, text);
}

Tokenizer OpenFittingTokenizer(const LoadedModel& model, const AdapterFacts& facts, bool pairs) {
  Tokenizer tokenizer = OpenTokenizer(facts);
  const std::string& path = facts.tokenizer.empty() ? facts.model : facts.tokenizer;
  const BertConfig& c = model.bert();
  if (WordsOf(tokenizer) > c.vocab)
    Fail("{}: {} tokens, but {} has embeddings for {}", path, WordsOf(tokenizer), model.source,
         c.vocab);
  const auto check = [&](const std::vector<TemplatePiece>& pieces, const char* of) {
    for (const TemplatePiece& piece : pieces)
      if (piece.type < 0 || piece.type >= c.types)
        Fail("{}: type {} in the template of {}, but {} has {}", path, piece.type, of, model.source,
             c.types);
  };
  check(tokenizer.spec().single, "one text");
  if (pairs) check(tokenizer.spec().pair, "two texts");  // some models have one type
  if (const int64_t positions = TextPositions(facts, model); facts.max_length > positions)
    Fail("--max-length {}: {} has {} positions{}", facts.max_length, model.source, positions,
         positions < c.positions ? fmt::format(" beside those of {}", facts.method) : "");
  return tokenizer;
}

std::unique_ptr<BatchSource> MakeTextData(std::span<const TextExample> examples,
                                          const LoadedModel& model, const AdapterFacts& facts) {
  const bool prompt = !facts.head.empty();
  const bool pairs = !prompt && std::ranges::any_of(examples, [](const TextExample& e) {
    return e.second.has_value();
  });
  const Tokenizer tokenizer = OpenFittingTokenizer(model, facts, pairs);
  const EncodeOptions options{.max_length = static_cast<size_t>(MaxLength(facts, model))};
  std::optional<PromptEncoder> encoder;
  if (prompt) encoder.emplace(tokenizer, ParsePrompt(facts.prompt), options.max_length);
  return std::make_unique<TextData>(examples, [&](const TextExample& e) {
    TokenSequence sequence;
    if (prompt) {
      PromptRows rows = (*encoder)(e.text, e.second);
      sequence = {std::move(rows.ids), std::move(rows.types), rows.mask};
    } else {
      Encoding encoded = e.second ? tokenizer.Encode(e.text, *e.second, options)
                                  : tokenizer.Encode(e.text, options);
      sequence = {std::move(encoded.ids), std::move(encoded.types)};
    }
    CheckIds(sequence.ids, tokenizer, e.text, model);
    if (sequence.ids.empty())
      Fail("{}: has no special tokens, and gives no token at all for the text '{}'",
           tokenizer.spec().where, e.text);
    return sequence;
  });
}

std::unique_ptr<BatchSource> MakeRandomTexts(size_t n, const LoadedModel& model, uint64_t seed) {
  const BertConfig& c = model.bert();
  std::vector<TextExample> examples(n);
  for (size_t i = 0; i < n; ++i) examples[i].label = static_cast<int>(i);  // names the sequence
  return std::make_unique<TextData>(examples, [&](const TextExample& e) {
    // Lengths 4, 9, 14, ... differ, as the proof should see that results do not depend on what else
    // a batch holds.
    const int64_t length = std::min<int64_t>(c.positions, 4 + 5 * e.label);
    const StreamKey key{MakeKey(seed, Purpose::kData, "fuse proof"), static_cast<uint64_t>(e.label),
                        0};
    const std::vector<int32_t> ids = Permutation(static_cast<int32_t>(c.vocab), key);
    TokenSequence sequence;
    for (int64_t i = 0; i < length; ++i)
      sequence.ids.push_back(ids[static_cast<size_t>(i) % ids.size()]);
    sequence.types.assign(sequence.ids.size(), 0);
    sequence.mask = static_cast<int32_t>(length - 1);
    return sequence;
  });
}

}  // namespace graft
