// Checkpoints that other programs wrote: which file tensor is which canonical parameter, in both
// directions, with a ledger of every key so that nothing is lost in silence.
#pragma once
#include "models/files/name_map.h"

namespace graft {

// What happened to every key of the file and of the model.
struct KeyLedger {
  struct Reshaped {
    std::string key, from, to, why;
  };
  std::vector<std::string> matched;     // file keys
  std::vector<std::string> missing;     // canonical names that the file lacks
  std::vector<std::string> unexpected;  // file keys that the model does not use
  std::vector<Reshaped> reshaped;
};

// A model as its file gave it: canonical parameters, its architecture, and where each fact of it
// came from.
struct LoadedModel {
  ModelConfig config;
  ParamStore params;  // all that the file has: of BERT also heads that `config` does not use
  KeyLedger ledger;
  Layout layout = Layout::kTimm;
  std::string root;                                // of Hugging Face keys, "vit."
  std::string source;                              // path or "init:ARCH"
  std::map<std::string, std::string> fact_source;  // "heads" -> "config.json", ...
  std::vector<std::string> notices;                // what the user should know, a line each
  std::vector<std::string> training_notices;       // the same, of what only training would use
  std::map<std::string, std::string> metadata;     // of the file
  std::string hf_config;                           // config.json as read, else ""
  std::vector<std::string> labels;                 // class names, if the file knows them
  // The transform of images that the checkpoint states, in the text form of --preprocess, and where
  // it is stated ("preprocessor_config.json"); or why that form cannot express it. All are empty if
  // none is stated.
  std::string preprocess, preprocess_source, preprocess_problem;
  std::shared_ptr<const TensorFile> file;  // none for init:ARCH and after ToLayout

  std::string architecture() const { return ArchitectureName(config); }
  bool is_bert() const { return std::holds_alternative<BertConfig>(config); }
  // These throw Error naming what was found instead.
  VitConfig& vit();
  const VitConfig& vit() const;
  BertConfig& bert();
  const BertConfig& bert() const;
};

// Opens the model M of docs/cli.md: a safetensors file, a Hugging Face directory, the .npz of an
// original ViT, or init:ARCH (seeded weights). `arch` is --arch or "". Throws Error for an unknown
// architecture, missing keys, wrong shapes, and for a tensor that the model does not read and that
// is not known to be harmless (unused_tensors.h). A missing head is not an error here: `ledger`
// tells of it, and AdaptClasses adds one.
LoadedModel LoadModel(const std::string& source, const std::string& arch = "", uint64_t seed = 0);
// Does the same, but leaves unknown tensors in ledger.unexpected: such a file can be looked at, but
// must not be run.
LoadedModel LoadToInspect(const std::string& source, const std::string& arch, uint64_t seed);

// Whether the model has a head that was trained for this task (task.h). A head of init: was not
// trained, and one output is no choice of a class.
bool HasTrainedHead(const LoadedModel& model, const std::string& task = kClassify);
// Makes the model fit a task. A trained head whose classes are these in this order (MatchClasses)
// or, of a regression, that has as many outputs, stays unless `new_head`. Otherwise the model gets
// a fresh one, and an entry in the ledger says so. With no labels the model stays as it is.
void AdaptClasses(LoadedModel& model, const std::vector<std::string>& labels, uint64_t seed = 0,
                  bool new_head = false, const std::string& task = kClassify);
// Does the same for a ViT, and resamples its positions for images of this size.
void AdaptModel(LoadedModel& model, int64_t image_size, const std::vector<std::string>& labels,
                uint64_t seed = 0, bool new_head = false, const std::string& task = kClassify);
// Sets what BERT's classifier reads: pooler, cls or mean. Throws Error for a pooler that the file
// does not have.
void SetPooling(LoadedModel& model, const std::string& pool);

// Throws Error for a part of the model that has no place in a layout.
void CheckExpressible(const LoadedModel& model, Layout layout);
// Changes the layout in which SaveModel writes the model. Throws Error for a model that the layout
// cannot express.
void ToLayout(LoadedModel& model, Layout layout);

// Metadata for SaveModel by which LoadModel knows what tensors do not tell: graft.config and, if
// the model has them, graft.labels; also graft.task (task.h) unless the task is to choose a class.
StringMap ModelFacts(const LoadedModel& model);

// Writes canonical parameters back under the names, shapes and fusions of the layout that the model
// came in, with the file's tensors that no model uses: a file for timm, a directory with
// config.json for Hugging Face, an .npz for Jax, with its metadata as arrays of bytes named
// graft.*. What was read and not changed is written byte for byte, what changed in f32: rounding it
// would undo a part of what was learnt. Then config.json says float32, or transformers would round
// it on loading. With `weights` of kF16 or kBF16 all weights are written in that type.
void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata, FileDType weights = FileDType::kF32);
// The type in which a program has the weights that loads them as they are: that of config.json,
// else the one type of the file's tensors (kF32 for init:). Throws Error (kUsage) for tensors of
// several types.
FileDType StoredType(const LoadedModel& model);

}  // namespace graft
