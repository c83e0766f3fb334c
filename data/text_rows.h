// Reads rows of a text file: TSV (no quoting: what lies between two tabs is the field), CSV (RFC
// 4180) and JSON lines. Encodings are checked; every error names file and line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

enum class RowFormat { kTsv, kCsv, kJsonl };

// The whole file as UTF-8 without its byte order mark; LF and CRLF stay as they are, and CR alone,
// where the file has no LF, becomes LF. Throws Error for more bytes, and for other encodings, with
// a way to convert them.
std::string ReadUtf8File(const std::string& path, uint64_t max_bytes);

// Calls row(fields, line) for every row that is not blank; `line` counts from 1, and is the first
// line of a row that spans several. The fields may be moved from. Throws Error for more than
// kMaxColumns.
using RowSink = std::function<void(std::vector<std::string>& fields, size_t line)>;
void ForEachTsvRow(std::string_view text, const std::string& path, const RowSink& row);
void ForEachCsvRow(std::string_view text, const std::string& path, const RowSink& row,
                   char separator = ',');

// What separates the fields of a .csv. Some programs write ';' or a tab: the first row has one of
// these and no comma, outside of quotes, or the first rows have equally many of these and not of
// commas. A line `sep=;` in front of the table says it, and is none of its rows.
char SeparatorOf(std::string_view text);

// Whether the first row has none of them: of a table with one column, where what stands between
// commas is one text. ForEachCsvRow reads it with kNoSeparator, which no text contains.
inline constexpr char kNoSeparator = '\0';
bool HasOneColumn(std::string_view text);

// Whether a field of a TSV stands in quotes, and the field without them; those inside are doubled.
bool InQuotes(std::string_view field);
std::string Unquoted(const std::string& field);

// Calls line(text, number) for every line that is not blank.
void ForEachLine(std::string_view text,
                 const std::function<void(std::string_view text, size_t line)>& line);

}  // namespace graft
