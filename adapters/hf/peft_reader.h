// Adapters of Hugging Face peft: a directory with adapter_config.json and
// adapter_model.safetensors. Reading turns them into a method of ours and parameters under
// canonical names.
#pragma once
#include "adapters/hf/peft_config.h"
#include "peft/method.h"

namespace graft {

struct PeftAdapter {
  std::string path;  // the directory
  PeftConfig config;
  SafetensorsFile file;

  // `path` is the directory or one of its two files. Throws Error for a config that Graft cannot
  // follow to the letter, and for pickled weights, which it never opens.
  static PeftAdapter Open(const std::string& path);
};

// Whether there is an adapter_config.json at or beside the path.
bool LooksLikePeft(const std::string& path);
// Whether that directory is one of a Hugging Face model as well: config.json and weights.
bool HoldsModelToo(const std::string& path);

// An adapter on a model: every key of the file has a parameter, and every parameter that the config
// speaks of has a key, unless the ledger says otherwise.
struct PeftOnModel {
  struct Tensor {
    std::string key, parameter;
    int64_t first = 0, columns = 0;  // of the file's matrix; columns = 0: all
  };
  Method method;
  HfNaming naming;              // that the adapter uses
  std::vector<Tensor> tensors;  // what matched
  int64_t classes = 0;          // rows of the adapter's head; 0 if it has none
  KeyLedger ledger;
};

// `plain` is the model's graph without any method. Throws Error for a target that Graft cannot
// adapt and for a tensor of another shape than the model and the config say.
PeftOnModel FitPeft(const PeftAdapter& adapter, const LoadedModel& model, const Graph& plain);

// Throws Error if the ledger has a missing or an unexpected key.
void CheckPeftLedger(const PeftAdapter& adapter, const PeftOnModel& fitted);

// Puts the tensors into the store, under the canonical names.
void LoadPeft(const PeftAdapter& adapter, const PeftOnModel& fitted, ParamStore& params);

// Names for `chosen` among `all`, as short as a method's targets allow: "attn.q" if every block's
// is chosen, else "blocks.3.attn.q".
std::vector<std::string> ShortTargets(const std::vector<std::string>& chosen,
                                      const std::vector<std::string>& all);

}  // namespace graft
