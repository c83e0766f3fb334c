#include "models/text/prompt.h"

#include <algorithm>
#include <map>

#include "runtime/error.h"
#include "runtime/words.h"

namespace graft {
namespace {

constexpr std::string_view kMaskText = "[MASK]";

// The tokens of a part of the template, or of an example's text.
std::vector<int32_t> Tokens(const Tokenizer& tokenizer, std::string_view text, size_t most = 0) {
  return tokenizer.Encode(text, {.max_length = most, .special_tokens = false}).ids;
}

// Throws Error for a name that stands for no text.
PromptTemplate::Source FieldOf(const std::string& name, const std::string& text) {
  if (name == "text" || name == "text_a") return PromptTemplate::kFirst;
  if (name == "text_b") return PromptTemplate::kSecond;
  FailUsage("--template '{}': no field '{{{}}}'; known: {{text}}, {{text_a}}, {{text_b}}", text,
            name);
}

void CheckParts(const PromptTemplate& prompt) {
  const auto count = [&](PromptTemplate::Source source) {
    return std::ranges::count(prompt.parts, source, &PromptTemplate::Part::source);
  };
  if (const auto masks = count(PromptTemplate::kMask); masks != 1)
    FailUsage("--template '{}': expected one {}, found {}", prompt.text, kMaskText, masks);
  if (const auto texts = count(PromptTemplate::kFirst); texts != 1)
    FailUsage("--template '{}': expected {{text}} (or {{text_a}}) once, found it {} times",
              prompt.text, texts);
  if (const auto texts = count(PromptTemplate::kSecond); texts > 1)
    FailUsage("--template '{}': expected {{text_b}} once, found it {} times", prompt.text, texts);
}

}  // namespace

bool PromptTemplate::Has(Source source) const {
  return std::ranges::find(parts, source, &Part::source) != parts.end();
}

PromptTemplate ParsePrompt(const std::string& text) {
  PromptTemplate prompt{text, {}};
  std::string literal;
  const auto add = [&](PromptTemplate::Source source) {
    if (!literal.empty()) prompt.parts.push_back({PromptTemplate::kLiteral, literal});
    literal.clear();
    if (source != PromptTemplate::kLiteral) prompt.parts.push_back({source, ""});
  };
  for (size_t at = 0; at < text.size();) {
    if (text.compare(at, kMaskText.size(), kMaskText) == 0) {
      add(PromptTemplate::kMask);
      at += kMaskText.size();
    } else if (text[at] == '{') {
      const size_t close = text.find('}', at);
      if (close == text.npos) FailUsage("--template '{}': a '{{' is opened and not closed", text);
      add(FieldOf(text.substr(at + 1, close - at - 1), text));
      at = close + 1;
    } else {
      literal += text[at++];
    }
  }
  add(PromptTemplate::kLiteral);
  CheckParts(prompt);
  return prompt;
}

int32_t MaskToken(const Tokenizer& tokenizer) {
  const std::optional<int32_t> id = tokenizer.Find(kMaskText);
  if (!id) Fail("{}: the vocabulary has no token '{}'", tokenizer.spec().where, kMaskText);
  return *id;
}

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer, PromptTemplate prompt, size_t max_length)
    : tokenizer_(tokenizer), prompt_(std::move(prompt)) {
  size_t used = 0;
  for (const auto& [source, literal] : prompt_.parts) {
    std::vector<int32_t>& ids = fixed_.emplace_back();
    if (source == PromptTemplate::kLiteral) ids = Tokens(tokenizer, literal);
    if (source == PromptTemplate::kMask) ids = {MaskToken(tokenizer)};
    used += ids.size();
  }
  for (const TemplatePiece& piece : tokenizer.spec().single) used += piece.ids.size();
  const size_t texts = prompt_.Has(PromptTemplate::kSecond) ? 2 : 1;
  if (max_length < used + texts)
    FailUsage(
        "--template '{}': takes {} tokens and leaves no room for the text; expected fewer "
        "than --max-length {}",
        prompt_.text, used, max_length);
  room_ = max_length - used;
}

PromptRows PromptEncoder::operator()(std::string_view text,
                                     std::optional<std::string_view> second) const {
  if (second.has_value() != prompt_.Has(PromptTemplate::kSecond))
    Fail(
        "--template '{}': {}, found '{}'", prompt_.text,
        second ? "expected single texts, as it has no {text_b}" : "expected pairs for its {text_b}",
        text);
  const bool left = tokenizer_.spec().truncate_left;
  std::vector<int32_t> texts[] = {Tokens(tokenizer_, text, second || left ? 0 : room_),
                                  second ? Tokens(tokenizer_, *second) : std::vector<int32_t>()};
  size_t sizes[] = {texts[0].size(), texts[1].size()};
  Shorten(sizes[0], sizes[1], room_);
  for (size_t i = 0; i < 2; ++i)
    texts[i].erase(left ? texts[i].begin() : texts[i].begin() + static_cast<ptrdiff_t>(sizes[i]),
                   left ? texts[i].end() - static_cast<ptrdiff_t>(sizes[i]) : texts[i].end());
  PromptRows rows;
  const auto append = [&](const std::vector<int32_t>& ids) {
    rows.ids.insert(rows.ids.end(), ids.begin(), ids.end());
  };
  for (const TemplatePiece& piece : tokenizer_.spec().single) {
    if (piece.source == TemplatePiece::kTokens) append(piece.ids);
    for (size_t i = 0; piece.source == TemplatePiece::kFirst && i < prompt_.parts.size(); ++i) {
      const PromptTemplate::Source source = prompt_.parts[i].source;
      if (source == PromptTemplate::kMask) rows.mask = static_cast<int32_t>(rows.ids.size());
      const bool fixed = source == PromptTemplate::kLiteral || source == PromptTemplate::kMask;
      append(fixed ? fixed_[i] : texts[source == PromptTemplate::kSecond]);
    }
    rows.types.resize(rows.ids.size(), piece.type);
  }
  return rows;
}

namespace {

// The ids of a word's sub-words, joined by '+'.
std::string SubWords(const Tokenizer& tokenizer, const std::string& word,
                     const std::string& words) {
  const std::vector<int32_t> ids = Tokens(tokenizer, word);
  if (ids.empty()) FailUsage("--words '{}': a word is empty", words);
  if (std::ranges::find(ids, tokenizer.Find(tokenizer.spec().unknown)) != ids.end())
    Fail("--words: '{}' is not in the vocabulary of {}", word, tokenizer.spec().where);
  return fmt::format("{}", fmt::join(ids, "+"));
}

}  // namespace

std::string LabelWords(const Tokenizer& tokenizer, const std::string& words, size_t classes) {
  const std::vector<std::string> groups = SplitAt(words, '|');
  if (groups.size() != classes)
    FailUsage("--words '{}': words for {} classes, but the task has {}; '|' stands between classes",
              words, groups.size(), classes);
  std::string text;
  std::map<std::string, size_t> class_of;
  for (size_t i = 0; i < groups.size(); ++i) {
    std::string group;
    for (const std::string& word : SplitAt(groups[i], ',')) {
      const std::string ids = SubWords(tokenizer, word, words);
      const auto [it, fresh] = class_of.emplace(ids, i);
      if (!fresh)
        FailUsage("--words '{}': '{}' {}", words, word,
                  it->second == i ? "occurs twice" : "stands for two classes");
      group += (group.empty() ? "" : ",") + ids;
    }
    text += (i ? "|" : "") + group;
  }
  return text;
}

}  // namespace graft
