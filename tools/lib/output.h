// What commands print: lines for people, or one JSON object.
#pragma once
#include <functional>

#include "tools/lib/options.h"

namespace graft {

// Both show nothing of a hostile file that a terminal would obey (EscapeControls).
//
// A line for people, or some: standard output, or standard error with --json; nothing with --quiet.
void Say(const CommonOptions& options, const std::string& line);
// Say, of equal lines the first one only.
std::function<void(const std::string&)> SayOnce(const CommonOptions& options);
// How wide the terminal is that Say shows lines on; 0 of a file or a pipe.
size_t ShownColumns(const CommonOptions& options);
// Says which precision is taken, where --dtype leaves it open or the CPU lacks it. Call after
// ApplyCommonOptions.
void SayDtype(const CommonOptions& options);
// One line on standard error, of a long message the two ends.
void Complain(std::string_view message);

// What a user should know of a model, a line each: "note: ...".
void SayNotices(const CommonOptions& options, const std::vector<std::string>& notices);
// The result: one JSON object on standard output with --json.
void PrintJson(const CommonOptions& options, const nlohmann::json& json);
// Text on standard output as it is, for programs: CSV, scripts.
void PrintText(const std::string& text);
// What ended a command, {"error", "kind", "exit_code"}, unless it has printed its result already,
// which then says what is wrong with it.
void PrintErrorJson(const std::string& message, ErrorKind kind);
const char* KindName(ErrorKind kind);

// What --preprocess list prints.
void PrintPreprocessPresets(const CommonOptions& options);

}  // namespace graft
