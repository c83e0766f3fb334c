#include "data/text_rows.h"

#include <algorithm>

#include "data/splits.h"
#include "runtime/error.h"
#include "runtime/io/foreign_file.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

size_t LineOf(std::string_view text, size_t at) {
  return 1 + static_cast<size_t>(
                 std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n'));
}

// Windows-1252 has letters and quotes where Latin-1 has control characters.
const char* GuessEncoding(std::string_view text) {
  const auto is_c1 = [](char c) { return static_cast<uint8_t>(c) >= 0x80 && uint8_t(c) < 0xA0; };
  return std::any_of(text.begin(), text.end(), is_c1) ? "WINDOWS-1252" : "ISO-8859-1";
}

void CheckEncoding(std::string_view text, const std::string& path) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    Fail("{}: expected UTF-8, found UTF-16; hint: iconv -f UTF-16 -t UTF-8", path);
  if (text.starts_with("\x1f\x8b")) Fail("{}: expected text, found a gzip file", path);
  if (const size_t nul = text.find('\0'); nul != text.npos)
    Fail("{}:{}: expected UTF-8, found a NUL byte (UTF-16 without a mark, or no text at all)", path,
         LineOf(text, nul));
  const size_t bad = FirstInvalidUtf8(text);
  if (bad == text.size()) return;
  Fail("{}:{}: expected UTF-8, found byte 0x{:02x}; hint: if it is Latin-1, iconv -f {} -t UTF-8",
       path, LineOf(text, bad), static_cast<uint8_t>(text[bad]), GuessEncoding(text));
}

// Adds a field to a row.
std::string& AddField(std::vector<std::string>& fields, const std::string& path, size_t line) {
  if (fields.size() == kMaxColumns)
    Fail("{}:{}: expected at most {} columns, found more", path, line, kMaxColumns);
  return fields.emplace_back();
}

}  // namespace

std::string ReadUtf8File(const std::string& path, uint64_t max_bytes) {
  std::string text = ReadTextFile(path, max_bytes);
  RefuseForeignText(path, text);
  CheckEncoding(text, path);
  if (text.find('\n') == text.npos) std::ranges::replace(text, '\r', '\n');
  return text;
}

void ForEachLine(std::string_view text, const std::function<void(std::string_view, size_t)>& line) {
  for (size_t at = 0, number = 1; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view one = text.substr(at, end - at);
    at = end + 1;
    if (one.ends_with('\r')) one.remove_suffix(1);
    if (!one.empty()) line(one, number);
  }
}

void ForEachTsvRow(std::string_view text, const std::string& path, const RowSink& row) {
  std::vector<std::string> fields;
  ForEachLine(text, [&](std::string_view line, size_t number) {
    fields.clear();
    for (size_t at = 0; at <= line.size();) {
      const size_t end = std::min(line.find('\t', at), line.size());
      AddField(fields, path, number) = line.substr(at, end - at);
      at = end + 1;
    }
    row(fields, number);
  });
}

namespace {

// The line `sep=;` that Excel reads and writes, up to its end; or "".
std::string_view SeparatorLine(std::string_view text) {
  const size_t end = text.find_first_of("\r\n");
  return text.starts_with("sep=") && end == 5 ? text.substr(0, end) : "";
}

// How many fields the first rows have, if that is the same for all of them; else 0.
size_t FieldsOfFirstRows(std::string_view text, char separator) {
  constexpr size_t kRows = 20;
  size_t rows = 0, fields = 1, in_all = 0, bytes = 0;
  bool quoted = false;
  for (size_t at = 0; at <= text.size() && rows < kRows; ++at) {
    const char c = at < text.size() ? text[at] : '\n';
    quoted ^= c == '"';
    if (at < text.size() && (quoted || c != '\n')) {
      fields += !quoted && c == separator;
      bytes += c != '\r';
      continue;
    }
    if (bytes > 0 && ++rows > 1 && fields != in_all) return 0;
    if (bytes > 0) in_all = fields;
    fields = 1, bytes = 0;
  }
  return in_all;
}

char FirstSeparator(std::string_view text) {
  if (const std::string_view line = SeparatorLine(text); !line.empty()) return line.back();
  if (FieldsOfFirstRows(text, ',') < 2)
    for (const char c : {';', '\t'})
      if (FieldsOfFirstRows(text, c) > 1) return c;
  char other = kNoSeparator;
  bool quoted = false;
  for (const char c : text) {
    quoted ^= c == '"';
    if (quoted) continue;
    if (c == ',') return c;
    if (c == '\n') break;
    if ((c == ';' || c == '\t') && other == kNoSeparator) other = c;
  }
  return other;
}

}  // namespace

char SeparatorOf(std::string_view text) {
  const char first = FirstSeparator(text);
  return first == kNoSeparator ? ',' : first;
}

bool InQuotes(std::string_view field) {
  return field.size() > 1 && field.front() == '"' && field.back() == '"';
}

std::string Unquoted(const std::string& field) {
  std::string text;
  for (size_t i = 1; i + 1 < field.size(); ++i) {
    text += field[i];
    if (field[i] == '"' && field[i + 1] == '"' && i + 2 < field.size()) ++i;
  }
  return text;
}

bool HasOneColumn(std::string_view text) { return FirstSeparator(text) == kNoSeparator; }

// A field begins after a separator or a line's end; one that begins with a quote ends at the next
// quote that is not doubled, any other at the next separator or line's end. Quotes inside the
// latter are themselves, as Python's csv and pandas read them.
void ForEachCsvRow(std::string_view text, const std::string& path, const RowSink& row,
                   char separator) {
  std::vector<std::string> fields;
  size_t at = SeparatorLine(text).size(), line = 1, first_line = 1;
  const auto at_end_of_line = [&] {
    return at == text.size() || text[at] == '\n' || text.substr(at, 2) == "\r\n";
  };
  const auto quoted = [&](std::string& field) {
    const size_t opened = line;
    for (++at;; ++at) {
      if (at == text.size()) Fail("{}:{}: a quote is opened and never closed", path, opened);
      line += text[at] == '\n';
      if (text[at] == '"' && !(text.substr(at, 2) == "\"\"")) break;
      at += text[at] == '"';
      field += text[at];
    }
    ++at;
    if (!at_end_of_line() && text[at] != separator)
      Fail("{}:{}: expected a {} or the end of the line after a closing quote, found '{}'", path,
           line, separator == ',' ? "comma" : "separator", text[at]);
  };
  while (at < text.size()) {
    if (at_end_of_line() && fields.empty()) {  // a blank line
      at = std::min(text.find('\n', at), text.size() - 1) + 1;
      first_line = ++line;
      continue;
    }
    while (true) {
      std::string& field = AddField(fields, path, line);
      if (at < text.size() && text[at] == '"') {
        quoted(field);
      } else {
        while (!at_end_of_line() && text[at] != separator) field += text[at++];
      }
      if (at_end_of_line()) break;
      ++at;  // the separator
    }
    row(fields, first_line);
    fields.clear();
    at = std::min(text.find('\n', at), text.size() - 1) + 1;
    first_line = ++line;
  }
}

}  // namespace graft
