#include "data/sentence_tasks.h"

#include <algorithm>

#include "data/splits.h"
#include "runtime/error.h"
#include "runtime/rng.h"

namespace graft {
namespace {

constexpr int kCandidates = 6;
constexpr double kMostRatio = 100;  // of the lengths of a pair, in bytes

bool Blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Adds a piece without blanks around it, if anything is left.
void AddTrimmed(std::string_view piece, std::vector<std::string>* sentences) {
  while (!piece.empty() && Blank(piece.front())) piece.remove_prefix(1);
  while (!piece.empty() && Blank(piece.back())) piece.remove_suffix(1);
  if (!piece.empty()) sentences->emplace_back(piece);
}

std::vector<std::string> Sentences(std::string_view text) {
  std::vector<std::string> sentences;
  const bool lines = text.find('\n') != text.npos;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool stop = text[i] == '.' || text[i] == '!' || text[i] == '?';
    const bool ends = lines ? text[i] == '\n' : stop && i + 1 < text.size() && Blank(text[i + 1]);
    if (!ends) continue;
    AddTrimmed(text.substr(begin, i + 1 - begin), &sentences);
    begin = i + 1;
  }
  AddTrimmed(text.substr(begin), &sentences);
  return sentences;
}

std::string FirstWords(std::string_view text, int64_t most) {
  size_t end = 0;
  for (int64_t words = 0; end < text.size() && words < most; ++words) {
    while (end < text.size() && Blank(text[end])) ++end;
    while (end < text.size() && !Blank(text[end])) ++end;
  }
  return std::string(text.substr(0, end));
}

// Draws one example after the other. What is drawn for a sentence is a function of its number.
class Draws {
 public:
  Draws(const TextSplit& split, SentenceTaskKind kind)
      : key_(MakeKey(0, Purpose::kData,
                     kind == SentenceTaskKind::kPairs ? "sentence pairs" : "sentence choice")) {
    for (const TextExample& text : split.examples)
      if (std::vector<std::string> sentences = Sentences(text.text); !sentences.empty()) {
        documents_.push_back(std::move(sentences));
        for (size_t i = 0; i < documents_.back().size(); ++i)
          places_.push_back({static_cast<int64_t>(documents_.size()) - 1, static_cast<int64_t>(i)});
      }
  }

  int64_t sentences() const { return std::ssize(places_); }
  void Begin(int64_t sentence) { sentence_ = sentence, drawn_ = 0; }

  // Returns nothing for a sentence that has no neighbour, only neighbours, or no other document.
  std::optional<TextExample> Pair() {
    const auto [document, i] = places_[sentence_];
    const int64_t count = std::ssize(documents_[document]);
    // The sentence i and its neighbours.
    const int64_t near = std::max<int64_t>(0, i - 1);
    const int64_t far = count - (1 + (i > 0) + (i + 1 < count));
    if (far < 1 || documents_.size() < 2) return {};
    const std::string& first = documents_[document][i];
    const int label = static_cast<int>(Below(3));
    std::string second;
    if (label == 0) {
      const bool next = i == 0 || (i + 1 < count && Below(2) == 0);
      second = documents_[document][next ? i + 1 : i - 1];
    } else if (label == 1) {
      int64_t other = Below(far);
      if (other >= near) other += count - far;
      second = documents_[document][other];
    } else {
      second = Elsewhere(document);
    }
    const double ratio = static_cast<double>(first.size()) / static_cast<double>(second.size());
    if (ratio > kMostRatio || ratio < 1 / kMostRatio) return {};
    return TextExample{first, std::move(second), label};
  }

  std::optional<TextExample> Choice(int64_t max_length) {
    const auto [document, i] = places_[sentence_];
    const int64_t count = std::ssize(documents_[document]);
    if (i + 1 >= count || count < 3 || documents_.size() < 2) return {};
    int64_t same = Below(count - 2);
    if (same >= i) same += 2;
    std::vector<std::string> others{documents_[document][same]};
    while (std::ssize(others) < kCandidates - 1) others.push_back(Elsewhere(document));
    for (int64_t k = std::ssize(others) - 1; k > 0; --k) std::swap(others[k], others[Below(k + 1)]);
    const int label = static_cast<int>(Below(kCandidates));
    others.insert(others.begin() + label, documents_[document][i + 1]);
    // A word has about 1.3 tokens, and each candidate two more.
    const int64_t each = std::max<int64_t>(3, max_length / 15);
    std::string listed;
    for (int k = 0; k < kCandidates; ++k)
      listed += fmt::format("{}{}. {}", k ? " " : "", static_cast<char>('A' + k),
                            FirstWords(others[k], each));
    return TextExample{FirstWords(documents_[document][i], std::max<int64_t>(3, max_length / 8)),
                       std::move(listed), label};
  }

 private:
  struct Place {
    int64_t document, sentence;
  };

  int64_t Below(int64_t n) {
    const StreamKey stream{key_, static_cast<uint64_t>(sentence_), 0};
    const double u = Uniform(stream, drawn_++);
    return std::min(n - 1, static_cast<int64_t>(u * static_cast<double>(n)));
  }
  // Draws a sentence of another document; each sentence is equally likely.
  const std::string& Elsewhere(int64_t document) {
    const auto [begin, end] = std::ranges::equal_range(places_, document, {}, &Place::document);
    const int64_t own = end - begin, before = begin - places_.begin();
    int64_t at = Below(sentences() - own);
    if (at >= before) at += own;
    return documents_[places_[at].document][places_[at].sentence];
  }

  std::vector<std::vector<std::string>> documents_;
  std::vector<Place> places_;  // of all sentences, in order
  uint64_t key_;
  int64_t sentence_ = 0;
  uint64_t drawn_ = 0;  // numbers for this sentence
};

}  // namespace

std::vector<std::string> SentenceTask::class_names() const {
  if (kind_ == SentenceTaskKind::kPairs) return {"yes", "maybe", "no"};
  return {"A", "B", "C", "D", "E", "F"};
}

TextSplit SentenceTask::Load(std::string_view name, size_t limit, int64_t max_length) const {
  Draws draws(corpus_.Load(name), kind_);
  TextSplit split{std::string(name), {}};
  for (int64_t i = 0; i < draws.sentences(); ++i) {
    draws.Begin(i);
    std::optional<TextExample> example =
        kind_ == SentenceTaskKind::kPairs ? draws.Pair() : draws.Choice(max_length);
    if (!example) continue;
    split.examples.push_back(std::move(*example));
    if (split.examples.size() == limit) break;
  }
  if (split.examples.empty())
    Fail(
        "{}: split '{}': expected at least two documents, one of them of three sentences or more; "
        "hint: empty lines stand between documents",
        directory(), name);
  return split;
}

SentencePrompt PromptOf(SentenceTaskKind kind) {
  if (kind == SentenceTaskKind::kPairs) return {"{text_a} [MASK] {text_b}", "yes|maybe|no"};
  return {"{text_a} {text_b} The correct one is [MASK].", "A|B|C|D|E|F"};
}

}  // namespace graft
