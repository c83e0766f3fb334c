// Finds the files of a folder with labelled texts: one for each split, and labels.txt.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/text_rows.h"

namespace graft {

// The format by the extension .tsv, .csv or .jsonl.
std::optional<RowFormat> FormatOf(const std::filesystem::path& path);

// The paths of the split files in their usual order, then by name. Throws Error for a folder that
// cannot be read, and for two files of one split.
std::vector<std::filesystem::path> FindSplits(const std::string& directory);

// Reads class names, one in each line. Throws Error with the line of a name that occurs twice.
std::vector<std::string> ReadLabelsFile(const std::string& path);

}  // namespace graft
