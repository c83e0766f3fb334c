// Checkpoints of others: which file tensor is which canonical parameter, in both directions, with a
// ledger of every key so that nothing is lost in silence.
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

// A model as it came: canonical parameters, its architecture and where each fact of it came from.
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
  // ("preprocessor_config.json"); or why that form cannot express it. All empty if none is stated.
  std::string preprocess, preprocess_source, preprocess_problem;
  std::shared_ptr<const TensorFile> file;  // none for init:ARCH and after ToLayout

  std::string architecture() const { return ArchitectureName(config); }
  bool is_bert() const { return std::holds_alternative<BertConfig>(config); }
  // Throw Error naming what was found instead.
  VitConfig& vit();
  const VitConfig& vit() const;
  BertConfig& bert();
  const BertConfig& bert() const;
};

// M of docs/cli.md: a safetensors file, a Hugging Face directory, the .npz of an original ViT, or
// init:ARCH (seeded weights). `arch` is --arch or "". Throws Error for an unknown architecture,
// missing keys, wrong shapes, and for a tensor that the model does not read and that is not known
// to be harmless (unused_tensors.h). A missing head is not an error here: `ledger` tells and
// AdaptClasses adds one.
LoadedModel LoadModel(const std::string& source, const std::string& arch = "", uint64_t seed = 0);
// Does the same but leaves such tensors in ledger.unexpected: to look at a file, not to run it.
LoadedModel LoadToInspect(const std::string& source, const std::string& arch, uint64_t seed);

// The model has a head that was trained for this task (task.h): it comes from a file, not from
// init:, and one output is no choice of a class.
bool HasTrainedHead(const LoadedModel& model, const std::string& task = kClassify);
// Makes the model fit a task. A trained head whose classes are these in this order (MatchClasses),
// of a regression one with as many outputs, stays, unless `new_head`; otherwise there is a fresh
// one, and an entry in the ledger says so. No labels leave it as it is.
void AdaptClasses(LoadedModel& model, const std::vector<std::string>& labels, uint64_t seed = 0,
                  bool new_head = false, const std::string& task = kClassify);
// Does the same for a ViT, and resamples its positions for images of this size.
void AdaptModel(LoadedModel& model, int64_t image_size, const std::vector<std::string>& labels,
                uint64_t seed = 0, bool new_head = false, const std::string& task = kClassify);
// What BERT's classifier reads: pooler | cls | mean. Error for a pooler that the file does not
// have.
void SetPooling(LoadedModel& model, const std::string& pool);

// Throws Error for a part of the model that a layout has no place for.
void CheckExpressible(const LoadedModel& model, Layout layout);
// Another naming for what SaveModel writes. Throws Error for a model that it cannot express.
void ToLayout(LoadedModel& model, Layout layout);

// Metadata for SaveModel from which LoadModel knows again what tensors do not tell: graft.config
// and, if the model has them, graft.labels; graft.task (task.h) unless it is to classify.
StringMap ModelFacts(const LoadedModel& model);

// Writes canonical parameters back under the names, shapes and fusions of the layout that the model
// came in, with the file's tensors that no model uses: a file for timm, a directory with
// config.json for Hugging Face, an .npz for Jax, with its metadata as arrays of bytes named
// graft.*. What was read and not changed is written byte for byte, what changed in f32: rounding it
// would undo a part of what was learnt. Then config.json says float32, or transformers would round
// it on loading. With `weights` of kF16 or kBF16 all weights are written in that type.
void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata, FileDType weights = FileDType::kF32);
// In which type a program has the weights that loads them as they are: that of config.json, else
// the one type of the file's tensors (kF32 for init:). Throws Error (kUsage) for mixed ones.
FileDType StoredType(const LoadedModel& model);

}  // namespace graft
