// The option --task of `graft data`.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "data/text.h"
#include "train/run_config.h"

namespace graft {

void AddTaskOption(CLI::App& command, std::string& task);

// What the labels of texts are: --task says it or, without that, the data, as in graft train.
// Throws Error (kUsage) for a word that is no task.
LabelKind KindOfData(const std::string& task, const std::string& directory,
                     const TextColumns& columns);

}  // namespace graft
