// The options that choose a model: --run, --model, --adapter and what goes with them.
#pragma once
#include "adapters/open_model.h"
#include "tools/lib/options.h"

namespace graft {

// Adds the options. With `adapters`, --adapter may be repeated, and its values are found there.
void AddModelOptions(CLI::App& command, ModelChoice& choice,
                     std::vector<std::string>* adapters = nullptr);

// The line "preprocess: TEXT (SOURCE)" for a model that reads images.
std::string PreprocessText(const AdapterFacts& facts);
// Adds the members preprocess and preprocess_source, which are null where no image is read.
void AddPreprocess(const AdapterFacts& facts, bool images, nlohmann::json* json);

// The choice, completed by the common options that matter for it.
ModelChoice With(ModelChoice choice, const CommonOptions& common);

}  // namespace graft
