// The base of an adapter or run: opened, compared by hash, and made ready for its classes and
// inputs.
#pragma once
#include <functional>

#include "adapters/facts.h"
#include "data/preprocess.h"

namespace graft {

// A run or adapter means nothing on other weights than those it was trained on: throws Error if the
// SHA-256 of facts.model is not facts.base_sha256. Nothing is checked where that is empty
// (init:).
void CheckBase(const AdapterFacts& facts);

// How the plain model is opened: LoadModel, or a function that shares what it has opened.
using OpenBase =
    std::function<LoadedModel(const std::string& source, const std::string& arch, uint64_t seed)>;

// The model of a run, adapted to its task (image size, head); `params` of the model then hold the
// base weights and a fresh head, or the base's own. Deterministic: eval and fuse make the same
// model again. Throws Error if the model's file is not the one that the run started from, by hash.
LoadedModel OpenAdapted(const AdapterFacts& facts, const OpenBase& open = LoadModel);

// Of the metadata graft.preprocess; Error naming the file.
Preprocess PreprocessOfMetadata(const std::string& text, const std::string& file);

// The transform that a run uses: `text` if given, else the default for data sets (VTAB) at the
// model's image size.
Preprocess DataPreprocess(const std::string& text, const VitConfig& model);
// The transform of a model that is used alone: its metadata's, else its own (shorter side 256, crop
// 224).
Preprocess ModelPreprocess(const std::string& text, const LoadedModel& model);

}  // namespace graft
