// Labelled pairs that plain texts give by themselves, which soft prompts are pre-trained on (Gu et
// al. 2022, PPT, arXiv 2109.04332, section 3.3): how near two sentences stand, and which of six
// follows.
//
//   nsp: "s1 [MASK] s2"; yes: neighbours, maybe: of one document and not neighbours, no: of two
//        documents; a third of the pairs each
//   nss: "s A. c1 B. c2 ... F. c6 The correct one is [MASK]."; one of the six follows s, one is of
//        the same document, four are of others
//
// Sentences are the lines of a document; a text of one line is cut behind '.', '!' and '?'. Which
// sentences form an example, and of which class, is a function of the split alone.
#pragma once
#include "data/corpus.h"

namespace graft {

enum class SentenceTaskKind { kPairs, kChoice };

class SentenceTask {
 public:
  SentenceTask(Corpus corpus, SentenceTaskKind kind) : corpus_(std::move(corpus)), kind_(kind) {}

  const std::string& directory() const { return corpus_.directory(); }
  std::vector<std::string> split_names() const { return corpus_.split_names(); }
  std::string DefaultTrainSplit() const { return corpus_.DefaultTrainSplit(); }
  std::string DefaultValidationSplit() const { return corpus_.DefaultValidationSplit(); }
  std::string DefaultEvalSplit() const { return corpus_.DefaultEvalSplit(); }
  // Holds out texts, not pairs that are made of them.
  void HoldOut(const std::string& split, double share, uint64_t seed) {
    corpus_.HoldOut(split, share, seed);
  }
  std::vector<std::string> class_names() const;
  int num_classes() const { return static_cast<int>(class_names().size()); }

  // The first `limit` examples (0: all of them), one for each sentence that has what its class
  // needs. For nss, s and the six are cut to so many words that an example has about `max_length`
  // tokens. Throws Error if no sentence has: it takes two documents, with three sentences in one of
  // them.
  TextSplit Load(std::string_view name, size_t limit = 0, int64_t max_length = 128) const;

 private:
  Corpus corpus_;
  SentenceTaskKind kind_;
};

// The --template and --words of an objective of sentences where nobody gives them.
struct SentencePrompt {
  std::string prompt, words;
};
SentencePrompt PromptOf(SentenceTaskKind kind);

}  // namespace graft
