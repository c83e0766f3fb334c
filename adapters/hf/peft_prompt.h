// Adapters of peft that learn rows in front of a text: one matrix "prompt_embeddings" and the head.
//
//   PROMPT_TUNING [P,D]      prompt(tokens=P,pool=first): rows of words, and the pooler reads the
//                            first of them
//   P_TUNING [P,D]           the same, read only: an LSTM or an MLP made the rows in training
//   PREFIX_TUNING [P,2LD]    ptuning2(tokens=P,shift=true): keys, then values of each layer; the
//                            positions of the text count from P on. prefix(shift=true) is written
//                            so, too, once its MLP is evaluated
//
// What made rows or a prefix in training is gone when peft saves them.
#pragma once
#include "adapters/hf/peft_writer.h"

namespace graft {

// Whether a type, or a method, is one of these.
bool LearnsPrompt(const PeftConfig& config);
bool LearnsPrompt(const Method& method);

// As FitPeft. Throws Error for a model that reads no texts or has no pooler, and for tensors of
// other shapes than model and config say.
PeftOnModel FitPrompt(const PeftAdapter& adapter, const LoadedModel& model);

// Puts the columns [first, first + columns) of the file's matrix into the store.
void LoadColumns(const SafetensorsFile& file, const FileTensor& tensor,
                 const PeftOnModel::Tensor& t, ParamStore& params);

// As PlanPeft, of a method in its reduced form (adapters/in_part.h). Throws Error for options that
// peft does not have.
PeftPlan PlanPrompt(const Method& method, const std::vector<std::string>& trained,
                    const HfNaming& naming, const std::string& base);

}  // namespace graft
