// What commands print: lines for people, or one JSON object.
#pragma once
#include "tools/lib/options.h"

namespace graft {

// A line for people: standard output, or standard error with --json; nothing with --quiet.
void Say(const CommonOptions& options, const std::string& line);
// What a user should know of a model, a line each: "note: ...".
void SayNotices(const CommonOptions& options, const std::vector<std::string>& notices);
// The result: one JSON object on standard output with --json.
void PrintJson(const CommonOptions& options, const nlohmann::json& json);

// What --preprocess list prints.
void PrintPreprocessPresets(const CommonOptions& options);

}  // namespace graft
