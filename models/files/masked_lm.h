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

// Removes the classifier and, of a model of init:, the pooler, which nothing would train. The head
// of init: gets seeded initial values. Throws Error for a file without a head whose decoder is the
// word embeddings. Calling it again changes the task.
void UseMaskedLm(LoadedModel& model, const MaskedLmTask& task, uint64_t seed);

}  // namespace graft
