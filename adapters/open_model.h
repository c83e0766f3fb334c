// A model that is ready to infer, wherever it comes from: the run of a training, a plain or fused
// model, or a plain model with an adapter, ours or Hugging Face peft's.
#pragma once
#include <optional>

#include "adapters/base_model.h"
#include "models/files/hf_modules.h"
#include "peft/method.h"
#include "runtime/io/safetensors.h"

namespace graft {

// What a command line chooses: --run RUN [--checkpoint last|best], or --model M [--adapter A]
// [--arch NAME].
struct ModelChoice {
  std::string run, model, adapter, arch, preprocess, tokenizer;
  // The checkpoint of a run, last or best; "" means best if the run was validated, else last, which
  // then is the same.
  std::string checkpoint = "";
  int64_t max_length = 0;  // 0 = the run's, else the default
  int64_t seed = 0;        // of init:ARCH
  bool headless = false;   // a model without a head will do: it is written, not run
};

// What an adapter of peft says of itself, and is kept when it is written again.
struct PeftSource {
  HfNaming naming;
  std::string base, task_type;
  SafetensorsFile file;
  std::vector<std::string> copies;  // keys of the file that no parameter needs
};

struct OpenedModel {
  std::string description;  // "runs/a (lora(r=8), best)", for messages
  std::string checkpoint;   // best or last, of a run
  LoadedModel model;        // params hold the weights of the checkpoint, too
  Method method;            // empty for a plain model
  uint64_t seed = 0;
  Preprocess preprocess;             // of images
  AdapterFacts facts;                // of a plain model only what ModelMetadata wants
  std::vector<std::string> trained;  // parameters that the run's checkpoint or the adapter holds
  std::optional<PeftSource> peft;    // of an adapter in peft's form
  // Neither the model nor the adapter has a head. With an adapter a random head stands in for it,
  // so that a merge can be proved.
  bool headless = false;

  const std::vector<std::string>& labels() const { return model.labels; }
  // The canonical graph for inference; with `loss` it has the output "losses" too.
  Graph Inference(bool loss);
  // The graph to be run alone: LayerScale is folded into the layers before it, whose new weights
  // join the model's.
  Graph ToRun(bool loss);
};

// Opens what was chosen. Throws Error, of kind kUsage for a choice that makes no sense. The base of
// a run or adapter must be the file it was trained on, by hash. A model without a head is refused
// unless the choice allows it.
OpenedModel OpenModel(const ModelChoice& choice, InputKind kind, const OpenBase& base = LoadModel);

// The checkpoint that a run stands for where none is named: the best one, if it was validated, else
// the last one.
std::string UsualCheckpoint(const std::string& run);

// Refuses an adapter or a run in the place of a model, and says how the command can have it. A
// directory that holds both a model and an adapter is refused, too, unless an adapter is named
// beside it: transformers would load both.
void CheckIsModel(const std::string& path, bool takes_adapter = false, bool has_adapter = false);

// Refuses a head that learnt to guess words, and a head whose one output chooses no class.
void CheckProblem(const OpenedModel& opened);

}  // namespace graft
