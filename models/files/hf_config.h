// config.json of Hugging Face's transformers, read and written.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// Takes heads, eps, activation (and of BERT pooling and dropout) from config.json into a model
// whose sizes the tensors have told, and checks that both agree. A key that is absent has the value
// that transformers' config class gives it; a notice names those. Throws Error naming file and key
// for one of another type or out of range, and for what the forward pass would do
// otherwise: decoders, cross attention, relative positions, unknown activations, classes and model
// types.
// `path` is for messages.
void ReadHuggingFaceConfig(const nlohmann::json& config, const std::string& path,
                           LoadedModel* model);

// Class names of a model whose head has so many classes; none if all are the numbered ones that
// transformers makes up. Throws Error for names or a number that are not the head's.
std::vector<std::string> ReadLabels(const nlohmann::json& config, int64_t classes,
                                    const std::string& path);

// "model_type" of the config.json that the model came with, else "".
std::string ModelType(const LoadedModel& model);

// The task (models/task.h) of a head with so many outputs, by "problem_type"; where that is absent
// or null one output is a regression, as transformers has it. Throws Error for other words.
std::string TaskOfProblemType(const nlohmann::json& config, int64_t outputs,
                              const std::string& path);

// Whether the masked-LM head's decoder is the word embeddings, as config.json says.
bool TiesDecoder(const LoadedModel& model);

// Throws Error for a config.json of a kind of model that is not known; without a kind it passes, as
// the tensors tell it.
void CheckModelType(const nlohmann::json& config, const std::string& path);

// config.json for the model as it is now: that which it came with, or one made from the
// architecture, with class names, problem_type and the class of transformers that reads it.
nlohmann::json HuggingFaceConfig(const LoadedModel& model);

}  // namespace graft
