// config.json of Hugging Face's transformers, read and written.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// Takes heads, eps, activation (and of BERT pooling and dropout) from config.json into a model
// whose sizes the tensors have told, and checks that both agree. A key that is absent has the value
// that transformers' config class gives it; a notice names those. Throws Error naming file and key
// for one of another type or out of range, and for models whose forward pass is another one:
// decoders, cross attention, relative positions, unknown activations, classes and model types.
// `path` is for messages.
void ReadHuggingFaceConfig(const nlohmann::json& config, const std::string& path,
                           LoadedModel* model);

// The class names of a model whose head has so many classes; none if all are the numbered ones that
// transformers makes up. Throws Error if the names, or their number, are not those of the head.
std::vector<std::string> ReadLabels(const nlohmann::json& config, int64_t classes,
                                    const std::string& path);

// The "model_type" of the config.json that the model came with, or "".
std::string ModelType(const LoadedModel& model);

// The task (models/task.h) of a head with so many outputs, as "problem_type" says. Where that is
// absent or null, one output is a regression, as in transformers. Throws Error for other words.
std::string TaskOfProblemType(const nlohmann::json& config, int64_t outputs,
                              const std::string& path);

// Whether the masked-LM head's decoder is the word embeddings, as config.json says.
bool TiesDecoder(const LoadedModel& model);

// Throws Error for a config.json whose kind of model is not known. One that names no kind passes,
// as the tensors tell it.
void CheckModelType(const nlohmann::json& config, const std::string& path);

// Makes config.json for the model as it is now: from the one it came with, or else from the
// architecture, with class names, problem_type and the class of transformers that reads it.
nlohmann::json HuggingFaceConfig(const LoadedModel& model);

}  // namespace graft
