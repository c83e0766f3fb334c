// The inputs on which a merge is proved.
#pragma once
#include "adapters/fused_model.h"
#include "train/dataset.h"
#include "train/evaluator.h"
#include "train/run_config.h"

namespace graft {

struct ProofInputs {
  std::unique_ptr<BatchSource> examples;
  bool random = false;  // without meaning, as there is no data set
};
// Opens the examples of `data`; without it those of the data set of the run that was opened (`run`,
// if there is one and its data are still there), or else random ones.
ProofInputs OpenProofInputs(const OpenedModel& opened, const std::string& data,
                            const std::optional<RunConfig>& run);

// The logits of these inputs, within the memory budget ("" = no bound). `inputs` must outlive it.
// `progress` is told how far each pass over them is.
LogitsOf LogitsOn(ProofInputs& inputs, const OpenedModel& opened, const std::string& memory_budget,
                  const WorkHook& progress = {});

// Fuses with the logits of these inputs as proof, within the memory budget ("" = no bound).
FusedModel FuseOn(ProofInputs& inputs, OpenedModel opened, const std::string& memory_budget,
                  FileDType weights = FileDType::kF32, const WorkHook& progress = {});

}  // namespace graft
