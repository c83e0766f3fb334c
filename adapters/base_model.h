// The base of an adapter or run: opened, compared by hash, and made ready for its classes and
// inputs.
#pragma once
#include <functional>

#include "adapters/facts.h"
#include "data/preprocess.h"
#include "models/text/tokenizer.h"

namespace graft {

// A run or adapter means nothing on other weights than those it was trained on: throws Error if the
// SHA-256 of facts.model is not facts.base_sha256. Nothing is checked where that is empty
// (init:).
void CheckBase(const AdapterFacts& facts);

// Opens the tokenizer of facts.tokenizer, or of the model's directory. Throws Error where there is
// none.
Tokenizer OpenTokenizer(const AdapterFacts& facts);

// Puts the masked-LM head in the classifier's place, for label words or for an objective
// (masked_lm.h). Throws Error for a model that has none.
void TakeHead(const AdapterFacts& facts, LoadedModel* model);

// Opens the plain model: LoadModel, or a function that shares what it has opened.
using OpenBase =
    std::function<LoadedModel(const std::string& source, const std::string& arch, uint64_t seed)>;

// Opens the model of a run, adapted to its task (image size, head); its params then hold the base
// weights and a fresh head, or the base's own. The same facts give the same model, so that eval and
// fuse see what was trained. Throws Error if the model's file is not the one that the run started
// from, by hash.
LoadedModel OpenAdapted(const AdapterFacts& facts, const OpenBase& open = LoadModel);

// Parses the metadata graft.preprocess; throws Error naming the file.
Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file);

// What a transform is chosen for where nobody names one: the data set of a task, or single images.
enum class InputKind { kDataset, kImages };

struct ChosenPreprocess {
  Preprocess value;
  std::string source;  // "--preprocess", "preprocessor_config.json", ...
};
// Chooses the transform of images for a model: `text` (--preprocess) if given, else the one that
// its checkpoint states, else the usual one at the model's image size. That is VTAB's for data sets
// (straight to the size), and ImageNet's for single images (shorter side 256, crop 224). Throws
// Error for one that is stated and cannot be expressed.
ChosenPreprocess ChoosePreprocess(const std::string& text, const LoadedModel& model,
                                  InputKind kind);

}  // namespace graft
