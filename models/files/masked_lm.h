// The masked-LM head of a BERT in the classifier's place.
#pragma once
#include "models/files/checkpoint.h"

namespace graft {

// What the head computes, and of how many rows of each text (BertConfig).
struct MaskedLmTask {
  int64_t mask_rows = 1;
  std::string label_words = "";          // groups of words, a class each; "" = all words
  std::vector<std::string> labels = {};  // class names
};

// The classifier goes, and so does the pooler of init:, which nothing would train. Of init: the
// head gets seeded initial values; throws Error for a file that has none whose decoder is the word
// embeddings. Repeating it changes the task.
void UseMaskedLm(LoadedModel& model, const MaskedLmTask& task, uint64_t seed);

}  // namespace graft
