// What commands print: lines for people, or one JSON object.
#pragma once
#include <functional>

#include "tools/lib/options.h"

namespace graft {

// Neither shows anything of a hostile file that a terminal would obey (EscapeControls).
// Prints a line for people, or several: to standard output, or to standard error with --json;
// nothing with --quiet.
void Say(const CommonOptions& options, const std::string& line);
// Returns a Say that shows only the first of equal lines.
std::function<void(const std::string&)> SayOnce(const CommonOptions& options);
// Returns how wide the terminal is that Say shows lines on; 0 for a file or a pipe.
size_t ShownColumns(const CommonOptions& options);
// Says which precision is used, where --dtype leaves it open or the CPU lacks it. Must be called
// after ApplyCommonOptions.
void SayDtype(const CommonOptions& options);
// Refuses to go on with a run in another precision than it was begun in: throws Error (kUser).
void CheckDtypeOfRun(const std::string& run, const std::string& dtype);
// Prints one line to standard error; a long message is cut in the middle.
void Complain(std::string_view message);

// Says what a user should know of a model, in lines that begin with "note: ".
void SayNotices(const CommonOptions& options, const std::vector<std::string>& notices);
// Prints the result: one JSON object to standard output with --json.
void PrintJson(const CommonOptions& options, const nlohmann::json& json);
// Prints text for programs, such as CSV and scripts, to standard output as it is.
void PrintText(const std::string& text);
// Prints what ended a command, {"error", "kind", "exit_code"}, unless the command has printed its
// result already, which then says what is wrong with it.
void PrintErrorJson(const std::string& message, ErrorKind kind);
const char* KindName(ErrorKind kind);

// Throws Error unless a file may be written (CheckOutput) and its directory is there: before the
// work.
void CheckOutputFile(const std::string& out);
// Does so for the files that options name, "" being none, and refuses two that name one file,
// through whatever links.
void CheckOutputFiles(const std::vector<std::pair<const char*, std::string>>& files);

// Prints what --preprocess list shows.
void PrintPreprocessPresets(const CommonOptions& options);
void PrintAugmentPresets(const CommonOptions& options);

}  // namespace graft
