// The files of a folder with labelled texts: one for each split, and labels.txt.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/text_rows.h"

namespace graft {

// By extension: .tsv, .csv or .jsonl.
std::optional<RowFormat> FormatOf(const std::filesystem::path& path);

// Paths of the split files in their usual order, then by name. Throws Error for a folder that
// cannot be read, and for two files of one split.
std::vector<std::filesystem::path> FindSplits(const std::string& directory);

// Class names, one in each line. Throws Error with the line of one that is there twice.
std::vector<std::string> ReadLabelsFile(const std::string& path);

}  // namespace graft
