// Options of a command from a file.
#pragma once
#include <string>

#include "tools/lib/options.h"

namespace graft {

// Gives `command` those options of a .json or .toml file that its command line does not give. Keys
// are the options' names, with `_` or `-` in them. A value is a string, a number, true or false
// (for flags), or a list for an option that may be repeated; null and "" mean that it is not given.
// A run's own config.json is such a file, too: what describes its data and base is left out. Throws
// Error with the file's name for anything else.
void ApplyConfigFile(CLI::App& command, const std::string& path);

}  // namespace graft
