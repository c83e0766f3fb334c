// A task as a sentence with a gap: the text goes into a template with a [MASK], and the words that
// a masked-LM head expects there name the class (Schick & Schuetze 2020, arXiv 2001.07676; with the
// template "{text} [MASK]" Logan et al. 2021, arXiv 2106.13353).
//
//   const PromptEncoder encode(tokenizer, ParsePrompt("{text} It was [MASK]."), 128);
//   encode("a moving film", {}).ids;  // [CLS] a moving film it was [MASK] . [SEP]
#pragma once
#include "models/text/tokenizer.h"

namespace graft {

struct PromptTemplate {
  // kFirst and kSecond are texts of an example: "{text}" or "{text_a}", and "{text_b}".
  enum Source : uint8_t { kLiteral, kFirst, kSecond, kMask };
  struct Part {
    Source source = kLiteral;
    std::string literal;
  };
  std::string text;  // as it was written
  std::vector<Part> parts;

  bool Has(Source source) const;
};

// Throws Error (kUsage) for another name in braces, unless there is one [MASK] and one first text,
// and for a second text that occurs twice.
PromptTemplate ParsePrompt(const std::string& text);

struct PromptRows {
  std::vector<int32_t> ids, types;
  int32_t mask = 0;  // the place of the template's [MASK], whatever the texts hold
};

// Encodes texts by a template. Thread safe. The tokenizer must outlive it.
class PromptEncoder {
 public:
  // Throws Error for a vocabulary without [MASK], and if the template leaves no room for a token of
  // each text in `max_length` tokens.
  PromptEncoder(const Tokenizer& tokenizer, PromptTemplate prompt, size_t max_length);

  // Tokenizes each part by itself. Around all parts stands what the tokenizer puts around one text,
  // and the types are those of one text. Texts that are too long lose tokens as in
  // Tokenizer::Encode; the template loses none. Throws Error for a pair if the template has no
  // {text_b}, and for one text if it has.
  PromptRows operator()(std::string_view text, std::optional<std::string_view> second) const;

 private:
  const Tokenizer& tokenizer_;
  PromptTemplate prompt_;
  std::vector<std::vector<int32_t>> fixed_;  // ids of each part that is no text
  size_t room_ = 0;                          // tokens of the texts together
};

// The id of [MASK]. Throws Error for a vocabulary without one.
int32_t MaskToken(const Tokenizer& tokenizer);

// Turns "great,good|terrible" into groups of MeanRowsAttrs (ops.h), "2307,2204|6659": '|' stands
// between classes, ',' between the words of one class, '+' between the ids of a word's sub-words.
// Throws Error naming a word that is empty, is not in the vocabulary or stands for two classes, and
// (kUsage) for another number of classes.
std::string LabelWords(const Tokenizer& tokenizer, const std::string& words, size_t classes);

}  // namespace graft
