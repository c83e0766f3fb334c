// Plain texts of which words are masked (Devlin et al. 2019, arXiv 1810.04805, section 3.1).
#include <cmath>
#include <exception>
#include <numeric>

#include "adapters/base_model.h"
#include "models/text/prompt.h"
#include "runtime/rng.h"
#include "train/ordered_data.h"

namespace graft {
namespace {

// The share of a text's tokens that is chosen; and the shares of these that become [MASK] or
// another token. The others stay.
constexpr double kChosen = 0.15, kMasked = 0.8, kReplaced = 0.1;

// Tokens of texts, one text after the other.
struct TokenRuns {
  std::vector<int32_t> ids;
  std::vector<size_t> begin{0};

  size_t size() const { return begin.size() - 1; }
  std::span<const int32_t> operator[](size_t i) const {
    return std::span(ids).subspan(begin[i], begin[i + 1] - begin[i]);
  }
  void Add(std::span<const int32_t> run) {
    ids.insert(ids.end(), run.begin(), run.end());
    begin.push_back(ids.size());
  }
};

// The tokens of every text without those of the template, in the order of the texts.
std::vector<std::vector<int32_t>> Tokenize(std::span<const TextExample> texts,
                                           const Tokenizer& tokenizer, const LoadedModel& model) {
  std::vector<std::vector<int32_t>> ids(texts.size());
  const FixedChunks cut(std::ssize(texts), 64);
  ParallelForThrowing(cut.count(), [&](int64_t chunk) {
    for (int64_t i = cut.begin(chunk); i < cut.end(chunk); ++i) {
      const TextExample& e = texts[i];
      ids[i] = tokenizer.Encode(e.text, {.special_tokens = false}).ids;
      CheckIds(ids[i], tokenizer, e.text, model);
    }
  });
  return ids;
}

// What masking needs to know of a tokenizer.
struct Words {
  int32_t mask = 0;
  int64_t size = 0;              // ids that may replace a token
  std::vector<bool> special;     // by id: never chosen
  std::vector<bool> continuing;  // by id: belongs to the word of the token before it

  Words(const Tokenizer& tokenizer, int64_t vocab)
      : mask(MaskToken(tokenizer)),
        size(std::min(static_cast<int64_t>(tokenizer.vocab_size()), vocab)),
        special(tokenizer.vocab_size()),
        continuing(tokenizer.vocab_size()) {
    const TokenizerSpec& spec = tokenizer.spec();
    for (size_t id = 0; id < spec.tokens.size(); ++id)
      continuing[id] = spec.tokens[id].starts_with(spec.prefix) && spec.tokens[id] != spec.prefix;
    for (const AddedToken& token : spec.added)
      if (token.special) special[token.id] = true;
  }
};

class MaskedTexts : public OrderedData {
 public:
  MaskedTexts(std::span<const TextExample> texts, const Tokenizer& tokenizer,
              const LoadedModel& model, const AdapterFacts& facts)
      : words_(tokenizer, model.bert().vocab), whole_words_(facts.whole_words) {
    for (const TemplatePiece& piece : tokenizer.spec().single) {
      if (piece.source == TemplatePiece::kFirst)
        type_ = piece.type, placed_ = true;
      else
        for (const int32_t id : piece.ids) (placed_ ? after_ : before_).push_back({id, piece.type});
    }
    const size_t around = before_.size() + after_.size();
    const size_t most = static_cast<size_t>(MaxLength(facts, model));
    if (most <= around)
      Fail("--max-length {}: {} puts {} tokens around a text", most, tokenizer.spec().where,
           around);
    const size_t room = most - around;
    for (const std::vector<int32_t>& ids : Tokenize(texts, tokenizer, model))
      for (size_t at = 0; at < ids.size(); at += room)
        AddPiece(std::span(ids).subspan(at, std::min(room, ids.size() - at)));
    if (runs_.size() == 0) Fail("expected texts with words that could be masked, found none");
    for (size_t i = 0; i < runs_.size(); ++i) longest_ = std::max(longest_, length(i));
    SetMaskRows(needed_);
    const uint64_t seed = static_cast<uint64_t>(facts.seed);
    chosen_key_ = MakeKey(seed, Purpose::kData, "masked words");
    token_key_ = MakeKey(seed, Purpose::kData, "masked tokens");
  }

  const char* unit() const override { return "texts"; }
  size_t size() const override { return runs_.size(); }
  int label(size_t) const override { return 0; }
  int64_t length(size_t example) const override {
    return static_cast<int64_t>(runs_[example].size() + before_.size() + after_.size());
  }
  int64_t longest() const override { return longest_; }
  size_t HeldBytes() const override {
    return runs_.ids.size() * sizeof(int32_t) + runs_.size() * sizeof(size_t);
  }
  size_t ExampleBytes() const override {
    return static_cast<size_t>(longest_ + 2 * mask_rows_) * sizeof(int32_t);
  }
  std::vector<Counts> Parts(const Counts& capacity) const override {
    return TextParts(capacity);
  }

  void HashContents(Sha256& hash) const override {
    for (size_t i = 0; i < runs_.size(); ++i) hash.Update(std::as_bytes(runs_[i]));
  }

  int64_t mask_rows() const override { return mask_rows_; }
  void SetMaskRows(int64_t rows) override {
    GRAFT_CHECK(rows >= needed_, "{} rows for {} masks", rows, needed_);
    mask_rows_ = rows;
  }
  void SetEpoch(int64_t epoch) override { draw_ = static_cast<uint64_t>(epoch) + 1; }
  std::span<const int32_t> answers() const override { return answers_; }
  int64_t Losses() const override { return losses_; }

  void Take(size_t count) override {
    OrderedData::Take(count);
    masked_ = {};
    places_.assign(count * static_cast<size_t>(mask_rows_), 0);
    answers_.assign(places_.size(), -1);
    losses_ = 0;
    for (size_t i = 0; i < count; ++i) Mask(i, batch()[i]);
  }

  void Fill(Session& session, int64_t first, int64_t count, int worker) const override {
    // A method may leave a graph that does not read one of them.
    const auto input = [&](const char* name) {
      return session.HasInput(name) ? session.Input(name, worker).i32() : nullptr;
    };
    int32_t *ids = input("ids"), *types = input("type_ids"), *positions = input("positions");
    int32_t *offsets = input("offsets"), *rows = input("rows");
    int32_t row = 0;
    if (offsets) *offsets++ = 0;
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(first + count); ++i) {
      const std::span<const int32_t> text = masked_[i];
      for (int64_t k = 0; rows && k < mask_rows_; ++k)
        *rows++ = row + places_[i * static_cast<size_t>(mask_rows_) + static_cast<size_t>(k)];
      const int32_t begin = row;
      const auto put = [&](int32_t id, int32_t type) {
        if (ids) ids[row] = id;
        if (types) types[row] = type;
        if (positions) positions[row] = row - begin;
        ++row;
      };
      for (const auto& [id, type] : before_) put(id, type);
      for (const int32_t id : text) put(id, type_);
      for (const auto& [id, type] : after_) put(id, type);
      if (offsets) *offsets++ = row;
    }
    if (!session.HasInput("labels")) return;
    int32_t* labels = input("labels");
    float* weights = session.Input("weights", worker).f32();
    for (const int32_t answer : answers().subspan(first * mask_rows_, count * mask_rows_)) {
      *labels++ = std::max(answer, 0);
      *weights++ = answer < 0 ? 0 : 1;
    }
  }

 private:
  using Unit = std::pair<size_t, size_t>;  // tokens [first, second) that are chosen together

  // What may be chosen: tokens or, with whole words, words.
  std::vector<Unit> Units(std::span<const int32_t> ids) const {
    std::vector<Unit> units;
    for (size_t i = 0; i < ids.size(); ++i) {
      const size_t id = static_cast<size_t>(ids[i]);
      if (words_.special[id]) continue;
      if (whole_words_ && words_.continuing[id] && !units.empty() && units.back().second == i)
        units.back().second = i + 1;
      else
        units.emplace_back(i, i + 1);
    }
    return units;
  }
  // How many tokens are chosen, at least one.
  static size_t Wanted(std::span<const Unit> units) {
    size_t tokens = 0;
    for (const auto& [begin, end] : units) tokens += end - begin;
    return static_cast<size_t>(std::max(1LL, std::llround(kChosen * static_cast<double>(tokens))));
  }
  static size_t Shortest(std::span<const Unit> units) {
    size_t least = SIZE_MAX;
    for (const auto& [begin, end] : units) least = std::min(least, end - begin);
    return least;
  }

  // Adds a piece of a text, unless it has no word that could be chosen: such a piece teaches
  // nothing.
  void AddPiece(std::span<const int32_t> ids) {
    const std::vector<Unit> units = Units(ids);
    if (units.empty()) return;
    runs_.Add(ids);
    needed_ = std::max(needed_, static_cast<int64_t>(std::max(Wanted(units), Shortest(units))));
  }

  // Goes through the units in an order drawn for this text, and chooses those that still fit. If
  // none fits, all words are longer than what is wanted, and the first of the shortest is chosen.
  std::vector<Unit> Choose(std::span<const int32_t> ids, const StreamKey& stream) const {
    const std::vector<Unit> units = Units(ids);
    const std::vector<int32_t> order = Permutation(static_cast<int32_t>(units.size()), stream);
    std::vector<Unit> chosen;
    size_t left = Wanted(units);
    for (const int32_t i : order) {
      const Unit& unit = units[i];
      if (unit.second - unit.first > left) continue;
      chosen.push_back(unit), left -= unit.second - unit.first;
    }
    const size_t shortest = Shortest(units);
    for (size_t i = 0; chosen.empty(); ++i) {
      const Unit& unit = units[order[i]];
      if (unit.second - unit.first == shortest) chosen.push_back(unit);
    }
    return chosen;
  }

  // Masks text i of the batch. Its masks depend on the seed, the text and the epoch alone.
  void Mask(size_t i, size_t example) {
    const std::span<const int32_t> ids = runs_[example];
    masked_.Add(ids);
    int32_t* out = masked_.ids.data() + masked_.begin[i];
    const uint32_t sample = static_cast<uint32_t>(example);
    const StreamKey tokens{token_key_, draw_, sample};
    size_t at = i * static_cast<size_t>(mask_rows_);
    for (const auto& [begin, end] : Choose(ids, {chosen_key_, draw_, sample}))
      for (size_t k = begin; k < end; ++k) {
        places_[at] = static_cast<int32_t>(before_.size() + k);
        answers_[at++] = ids[k];
        ++losses_;
        const double u = Uniform(tokens, 2 * k);
        if (u < kMasked)
          out[k] = words_.mask;
        else if (u < kMasked + kReplaced)
          out[k] = static_cast<int32_t>(
              (uint64_t{RandomWord(tokens, 2 * k + 1)} * static_cast<uint64_t>(words_.size)) >> 32);
      }
  }

  Words words_;
  bool whole_words_, placed_ = false;
  std::vector<std::pair<int32_t, int32_t>> before_, after_;  // ids and types around each text
  int32_t type_ = 0;                                         // of the text
  TokenRuns runs_;
  int64_t longest_ = 0, needed_ = 1, mask_rows_ = 1;
  uint64_t chosen_key_ = 0, token_key_ = 0;
  uint64_t draw_ = 0;  // 0: the fixed masks; else the epoch + 1
  // The masked texts of the batch; and for each row that the head reads its place in the text and
  // the token that stood there, or -1 for a row beyond the masked ones.
  TokenRuns masked_;
  std::vector<int32_t> places_, answers_;
  int64_t losses_ = 0;
};

}  // namespace

std::unique_ptr<BatchSource> MakeMaskedTexts(std::span<const TextExample> texts,
                                             const LoadedModel& model, const AdapterFacts& facts) {
  const Tokenizer tokenizer = OpenFittingTokenizer(model, facts, false);
  return std::make_unique<MaskedTexts>(texts, tokenizer, model, facts);
}

}  // namespace graft
