#include "tools/lib/predict_tables.h"

#include <algorithm>

#include "data/splits.h"
#include "data/text.h"
#include "data/text_columns.h"
#include "data/text_files.h"
#include "data/text_rows.h"
#include "runtime/error.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

using Names = std::vector<std::string>;

// What --columns asks for; a column of labels is never read.
struct Asked {
  std::string text, second;
  bool must = true;     // be there
  bool images = false;  // what is read is their names

  // The columns that are asked of a table or object with these names.
  Asked Among(const Names& names) const {
    if (must || (Contains(names, text) && (second.empty() || Contains(names, second))))
      return *this;
    const size_t file = images ? FileColumn(names) : names.size();
    return {file < names.size() ? names[file] : "", "", true, images};
  }
};

Asked ParseAsked(const std::string& columns) {
  if (columns.empty()) return {};
  if (columns.find(',') == columns.npos) return {.text = columns, .second = ""};
  const TextColumns c = ParseTextColumns(columns);
  return {.text = c.text, .second = c.second};
}

size_t IndexOf(const Names& names, const std::string& name) {
  return static_cast<size_t>(std::ranges::find(names, name) - names.begin());
}

bool IsNumber(const std::string& name) {
  return !name.empty() && name.find_first_not_of("0123456789") == name.npos;
}

// The index of a column that is given by its number from 1 or its name in the header.
size_t Column(const std::string& name, const Names& header, const std::string& where) {
  if (IsNumber(name) && name.size() < 6)
    if (const size_t number = std::stoul(name); number >= 1 && number <= header.size())
      return number - 1;
  if (const size_t at = IndexOf(header, name); at < header.size()) return at;
  FailUsage("--columns: {}: there is no column '{}'{}", where, name, DidYouMean(name, header));
}

struct TablePlaces {
  size_t text = 0, second = SIZE_MAX, columns = 0;
  bool header = false, unnamed_pairs = false;
};

TablePlaces PlacesOf(const Asked& all, const Names& first, const std::string& where) {
  TablePlaces p{.columns = first.size()};
  const bool names_a_text = NamesAText(first);
  if (const Asked asked = all.Among(first); !asked.text.empty()) {
    // Numbers name the columns of a file that has no header, or has one with the usual names. They
    // are no names themselves: a label in line 1 may be one of them.
    p.header = !IsNumber(asked.text) || names_a_text || LookAt(first, {}) == FirstLine::kNames;
    p.text = Column(asked.text, first, where);
    if (!asked.second.empty()) p.second = Column(asked.second, first, where);
  } else if (names_a_text || (NamesAny(first) && AreIdentifiers(first))) {
    const Places named = TextPlacesByName(first, where);
    p.header = true, p.text = named.text, p.second = named.second;
  } else if (first.size() > 3) {
    Fail("{}: expected 1 to 3 columns or a column 'text', found {}; hint: name it with --columns",
         where, fmt::join(first, ", "));
  } else if (first.size() > 1 && !all.images) {
    p.second = 1, p.unnamed_pairs = first.size() == 2;
  }
  return p;
}

void Finish(TextRow* row) {
  row->shown = row->text;
  if (row->second) row->shown += "\t" + *row->second;
}

TextRow Bad(const std::string& path, int64_t number, const std::string& error) {
  return {.text = "", .second = {}, .shown = path, .number = number, .error = error};
}

// Takes quotes off the texts of a TSV as training does: off all of a column or off none.
void UnquoteColumns(TextRows* out) {
  const auto all = [&](const auto& quoted) {
    return !out->rows.empty() && std::ranges::all_of(out->rows, [&](const TextRow& row) {
      return !row.error.empty() || quoted(row);
    });
  };
  const bool first = all([](const TextRow& row) { return InQuotes(row.text); });
  const bool second = all([](const TextRow& row) { return row.second && InQuotes(*row.second); });
  for (TextRow& row : out->rows) {
    if (!row.error.empty()) continue;
    if (first) row.text = Unquoted(row.text);
    if (second) row.second = Unquoted(*row.second);
    if (first || second) Finish(&row);
  }
}

void ReadTable(const std::string& text, const std::string& path, RowFormat format,
               const Asked& asked, TextRows* out) {
  std::optional<TablePlaces> places;
  const auto row = [&](Names& fields, size_t line) {
    const std::string where = fmt::format("{}:{}", path, line);
    if (!places) {
      places = PlacesOf(asked, fields, where);
      out->unnamed_pairs = places->unnamed_pairs;
      if (places->header) return;
    }
    const int64_t number = std::ssize(out->rows) + 1;
    if (fields.size() != places->columns) {
      out->rows.push_back(
          Bad(path, number,
              fmt::format("{}: expected {} column{}, found {}", where, places->columns,
                          places->columns == 1 ? "" : "s", fields.size())));
      return;
    }
    TextRow r{
        .text = fields[places->text], .second = {}, .shown = "", .number = number, .error = ""};
    if (places->second != SIZE_MAX) r.second = fields[places->second];
    Finish(&r);
    out->rows.push_back(std::move(r));
  };
  try {
    if (format == RowFormat::kTsv) {
      ForEachTsvRow(text, path, row);
      return UnquoteColumns(out);
    }
    const char separator = HasOneColumn(text) ? kNoSeparator : SeparatorOf(text);
    ForEachCsvRow(text, path, row, separator);
    out->commas = separator == kNoSeparator && text.find(',') != text.npos;
  } catch (const Error& e) {  // what follows the row that is wrong has no beginning
    if (e.kind == ErrorKind::kUsage || out->rows.empty()) throw;
    out->rows.push_back(Bad(path, std::ssize(out->rows) + 1, e.what()));
  }
}

TextRow FromObject(const Json& object, const Asked& all, const std::string& where) {
  if (!object.is_object()) Fail("{}: expected an object, found {}", where, object.type_name());
  Names keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  const Asked asked = all.Among(keys);
  std::string text = asked.text, second = asked.second;
  if (text.empty()) {
    const Places named = TextPlacesByName(keys, where);
    if (!NamesAny(std::span(keys).subspan(named.text, 1)))  // a key of another kind is no text
      Fail("{}: expected a key 'text', found {}; hint: name it with --columns", where,
           fmt::join(keys, ", "));
    text = keys[named.text], second = named.pairs() ? keys[named.second] : "";
  }
  TextRow row{
      .text = GetString(object, text, where), .second = {}, .shown = "", .number = 0, .error = ""};
  if (!second.empty()) row.second = GetString(object, second, where);
  return row;
}

void ReadJsonLines(const std::string& text, const std::string& path, const Asked& asked,
                   TextRows* out) {
  ForEachLine(text, [&](std::string_view line, size_t at) {
    const std::string where = fmt::format("{}:{}", path, at);
    const int64_t number = std::ssize(out->rows) + 1;
    try {
      TextRow row = FromObject(ParseJson(line, where, {.bytes = kMaxJsonLine}), asked, where);
      row.number = number;
      Finish(&row);
      out->rows.push_back(std::move(row));
    } catch (const Error& e) {
      out->rows.push_back(Bad(path, number, e.what()));
    }
  });
}

}  // namespace

TextRow ParseTextLine(const std::string& line, const std::string& where) {
  TextRow row{.text = line, .second = {}, .shown = line, .number = 0, .error = ""};
  const size_t tab = line.find('\t');
  if (tab == std::string::npos) return row;
  if (const auto tabs = std::count(line.begin(), line.end(), '\t'); tabs > 1)
    row.error = fmt::format("{}: expected a text, or two with a tab between them, found {} columns",
                            where, tabs + 1);
  row.text = line.substr(0, tab), row.second = line.substr(tab + 1);
  return row;
}

namespace {

TextRows ReadRows(const std::string& path, const std::string& columns, const std::string& usual,
                  bool images) {
  const std::string text = ReadUtf8File(path, kMaxTableBytes);
  TextRows out;
  const std::optional<RowFormat> format = FormatOf(path);
  Asked asked = ParseAsked(columns.empty() ? usual : columns);
  asked.must = !columns.empty() || IsNumber(asked.text);
  asked.images = images;
  out.table = format.has_value();
  if (!format) {
    out.unnamed_pairs = true;
    ForEachLine(text, [&](std::string_view line, size_t at) {
      TextRow row = ParseTextLine(std::string(line), fmt::format("{}:{}", path, at));
      row.number = std::ssize(out.rows) + 1;
      out.rows.push_back(std::move(row));
    });
  } else if (*format == RowFormat::kJsonl) {
    ReadJsonLines(text, path, asked, &out);
  } else {
    ReadTable(text, path, *format, asked, &out);
  }
  return out;
}

}  // namespace

TextRows ReadTextRows(const std::string& path, const std::string& columns,
                      const std::string& usual) {
  return ReadRows(path, columns, usual, false);
}

TextRows ReadImageRows(const std::string& path, const std::string& columns,
                       const std::string& usual) {
  return ReadRows(path, columns, usual, true);
}

}  // namespace graft
