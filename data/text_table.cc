#include "data/text_table.h"

#include <algorithm>

#include "data/splits.h"
#include "data/text_files.h"
#include "data/text_labels.h"
#include "data/text_targets.h"
#include "runtime/error.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

void CountTexts(std::string_view field, UnreadColumn* column) {
  column->texts += TrimBlanks(field).find(' ') != std::string_view::npos;
}

// Collects the rows of a TSV or CSV file.
class RowReader {
 public:
  RowReader(RawTable& table, size_t before, const TextColumns& asked,
            const std::vector<std::string>& classes, char separator)
      : table_(table), before_(before), asked_(asked), classes_(classes), separator_(separator) {}

  void operator()(std::vector<std::string>& fields, size_t line) {
    const std::string where = fmt::format("{}:{}", table_.path, line);
    if (first_) {
      first_ = false;
      table_.first_line = fields;
      if (Begin(fields, where)) return;
    }
    if (fields == table_.header)
      return table_.problems.Add(fmt::format("{}: {}", where, kNamesAgain));
    if (fields.size() != table_.columns)
      return table_.problems.Add(fmt::format("{}: expected {} columns, found {}{}", where,
                                             table_.columns, fields.size(),
                                             separator_ != '\t' && fields.size() > table_.columns
                                                 ? "; hint: a text with commas stands in quotes"
                                                 : ""));
    CheckExampleCount(before_ + table_.rows.size() + 1, where);
    for (UnreadColumn& c : table_.unread) CountTexts(fields[c.column], &c);
    RawRow row{{}, line};
    for (size_t i = 0; i < 3; ++i)
      if (from_[i] < fields.size()) row.fields[i] = std::move(fields[from_[i]]);
    if (!more_.empty()) row.fields[2] = EncodeList(LabelsOf(row.fields[2], fields));
    table_.rows.push_back(std::move(row));
  }

 private:
  // Whether the first row is a header. Also chooses the columns to keep: three of many, or all of
  // few.
  bool Begin(std::vector<std::string>& fields, const std::string& where) {
    table_.columns = fields.size();
    const bool asked = !(asked_.text + asked_.second + asked_.label).empty();
    const bool numbers = AreNumbers(asked_);
    if ((asked && !numbers) || LookAt(fields, classes_) == FirstLine::kNames) {
      const bool named = NamesAny(fields) || (asked && !numbers) || fields.size() > 3 ||
                         ColumnNameIn(fields, "label");
      Keep(numbers ? PlacesByNumber(asked_, fields.size(), where)
           : named ? PlacesByName(asked_, fields, where)
                   : PlacesByOrder(fields.size()));
      table_.header = fields;
      table_.text_name = fields[from_[table_.places.text]];
      if (table_.pairs()) table_.second_name = fields[from_[table_.places.second]];
      const size_t label = from_[table_.places.label];
      table_.label_names =
          more_.empty() ? std::vector<std::string>{fields[label]} : LabelsOf(fields[label], fields);
      for (size_t i = 0; i < fields.size() && !asked; ++i)
        if (std::ranges::find(from_, i) == from_.end()) table_.unread.push_back({i, fields[i]});
      return true;
    }
    if (numbers) {
      Keep(PlacesByNumber(asked_, fields.size(), where));
    } else if (fields.size() == 2 || fields.size() == 3) {
      table_.places = PlacesByOrder(fields.size());
    } else if (fields.size() == 1) {
      Fail("{}: expected 2 or 3 columns (text, second text, label), found 1; hint: {}", where,
           separator_ == '\t' ? "a tab stands between text and label"
                              : "a comma stands between text and label");
    } else {
      Fail(
          "{}: expected 2 or 3 columns (text, second text, label), found {} ({}); hint: name the "
          "text's and the label's, --columns TEXT,LABEL, by these words if line 1 names the "
          "columns, else by number, --columns 1,2",
          where, fields.size(), Shown(fields));
    }
    table_.open = true;
    return false;
  }

  static std::string Shown(const std::vector<std::string>& fields) {
    constexpr size_t kShown = 8, kBytes = 200;
    const auto shown = std::span(fields).first(std::min(kShown, fields.size()));
    const std::string text = fmt::format("{}", fmt::join(shown, ", "));
    if (text.size() > kBytes) return "line 1 is long";
    return fields.size() > kShown ? text + ", ..." : text;
  }

  static bool ColumnNameIn(const std::vector<std::string>& fields, std::string_view name) {
    return std::ranges::any_of(fields, [&](const auto& f) { return ColumnName(f) == name; });
  }

  // The first column of the label, and its further ones.
  std::vector<std::string> LabelsOf(const std::string& first,
                                    const std::vector<std::string>& fields) const {
    std::vector<std::string> labels{first};
    for (const size_t column : more_) labels.push_back(fields[column]);
    return labels;
  }

  void Keep(const Places& p) {
    from_ = {p.text, p.second, p.label}, more_ = p.more;
    table_.places = {.second = p.pairs() ? 1 : SIZE_MAX, .label = 2, .named = p.named};
  }

  RawTable& table_;
  const size_t before_;
  const TextColumns& asked_;
  const std::vector<std::string>& classes_;
  const char separator_;
  std::array<size_t, 3> from_ = {0, 1, 2};  // the column of each field that is kept
  std::vector<size_t> more_;                // further columns of the label
  bool first_ = true;
};

// The text of one value in an array of labels.
std::string ItemOf(const Json& item, LabelKind kind, const std::string& where) {
  const bool numbers = kind == LabelKind::kNumbers;
  if (!item.is_number() && (numbers || !item.is_string()))
    Fail("{}: expected an array of {}, found {} in it", where, numbers ? "numbers" : "names",
         item.dump());
  return item.is_string() ? item.get<std::string>() : item.dump();
}

// The text of a label: a class name or number. Programs write numbers as 1.0, yes and no as true
// and false, and missing values as null. Where there may be several labels, an array is a list.
std::string LabelOf(const Json& object, const std::string& key, LabelKind kind,
                    const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_string()) return GetString(object, key, where);
  const std::string place = fmt::format("{}: '{}'", where, key);
  if (it->is_array() && kind != LabelKind::kClass) {
    std::vector<std::string> items;
    for (const Json& item : *it) items.push_back(ItemOf(item, kind, place));
    return EncodeList(items);
  }
  if (it->is_null() && kind == LabelKind::kClasses)
    Fail("{}: found null; an empty array or text stands for no class", place);
  if (it->is_null()) return "";
  if (!it->is_number() && !it->is_boolean())
    Fail("{}: expected a string or a number, found {}{}", place, it->dump(),
         it->is_array() ? "; hint: --task multi-label reads several classes, --task regression "
                          "several numbers"
                        : "");
  return it->dump();
}

// Refuses a file of one JSON value, which is written in many lines or in one.
void RefuseJsonOfLines(std::string_view line, const std::string& path, const std::string& where) {
  const std::string_view text = TrimBlanks(line);
  if (text.starts_with('[') || text == "{")
    Fail("{}: expected an object in each line, found {}; hint: jq -c '{}' {} > NEW.jsonl", where,
         text == "{" ? "one of many lines" : "an array", text == "{" ? "." : ".[]",
         ShellWord(path));
}

void ReadJsonLines(RawTable& table, size_t before, const TextColumns& asked, LabelKind kind,
                   const std::string& text) {
  std::optional<Places> places;
  std::vector<std::string> keys;
  ForEachLine(text, [&](std::string_view line, size_t number) {
    const std::string where = fmt::format("{}:{}", table.path, number);
    const auto read = [&] {
      RefuseJsonOfLines(line, table.path, where);
      const Json object = ParseJson(line, where, {.bytes = kMaxJsonLine});
      if (!object.is_object()) Fail("{}: expected an object, found {}", where, object.type_name());
      if (!places) {
        for (const auto& item : object.items()) keys.push_back(item.key());
        table.first_line = keys;
        places = PlacesByName(asked, keys, where);
        const Places& p = *places;
        for (size_t i = 0; i < keys.size() && asked.text.empty(); ++i)
          if (i != p.text && i != p.second && i != p.label) table.unread.push_back({i, keys[i]});
      }
      for (UnreadColumn& c : table.unread)
        if (const auto it = object.find(c.name); it != object.end() && it->is_string())
          CountTexts(it->get_ref<const std::string&>(), &c);
      RawRow row{{GetString(object, keys[places->text], where)}, number};
      if (places->pairs()) row.fields[1] = GetString(object, keys[places->second], where);
      row.fields[2] = LabelOf(object, keys[places->label], kind, where);
      if (!places->more.empty()) {
        std::vector<std::string> labels{row.fields[2]};
        for (const size_t column : places->more)
          labels.push_back(LabelOf(object, keys[column], LabelKind::kClass, where));
        row.fields[2] = EncodeList(labels);
      }
      return row;
    };
    CheckExampleCount(before + table.rows.size() + 1, where);
    if (!places) return table.rows.push_back(read());  // an error in the first is one of the file
    try {
      table.rows.push_back(read());
    } catch (const Error& e) {
      table.problems.Add(e.what());
    }
  });
  if (!places) return;
  table.header = keys;
  table.text_name = keys[places->text];
  if (places->pairs()) table.second_name = keys[places->second];
  table.label_names = {keys[places->label]};
  for (const size_t column : places->more) table.label_names.push_back(keys[column]);
  table.places = {.second = places->pairs() ? 1 : SIZE_MAX, .label = 2, .named = places->named};
}

// Programs may put every field of a TSV in quotes, or those of the columns that are no numbers.
void Unquote(RawTable& table) {
  const auto rows = std::span(table.rows).subspan(table.open ? 1 : 0);
  for (size_t column = 0; column < 3; ++column) {
    const auto quoted = [&](const RawRow& row) { return InQuotes(row.fields[column]); };
    if (rows.empty() || !std::ranges::all_of(rows, quoted)) continue;
    for (RawRow& row : table.rows)
      if (quoted(row)) row.fields[column] = Unquoted(row.fields[column]);
  }
}

void ReadRows(const TextColumns& columns, const std::vector<std::string>& classes, LabelKind kind,
              size_t before, uint64_t bytes_left, RawTable& table) {
  std::error_code ignored;
  if (const uint64_t bytes = fs::file_size(table.path, ignored); !ignored && bytes > bytes_left)
    Fail("{}: {} bytes; expected at most {} in all tables of a data set", table.path, bytes,
         kMaxTableBytes);
  const std::string text = ReadUtf8File(table.path, bytes_left);
  switch (*FormatOf(table.path)) {
    case RowFormat::kTsv:
      ForEachTsvRow(text, table.path, RowReader(table, before, columns, classes, '\t'));
      Unquote(table);
      break;
    case RowFormat::kCsv: {
      const char separator = SeparatorOf(text);
      ForEachCsvRow(text, table.path, RowReader(table, before, columns, classes, separator),
                    separator);
      break;
    }
    case RowFormat::kJsonl:
      ReadJsonLines(table, before, columns, kind, text);
      break;
  }
  if (table.rows.empty() && table.problems.count > 0) Fail("{}", table.problems.first[0]);
  if (table.rows.empty()) Fail("{}: expected texts with labels, found none", table.path);
}

}  // namespace

void RowProblems::Add(std::string message) {
  constexpr size_t kKept = 1000;
  if (++count <= kKept) first.push_back(std::move(message));
}

std::vector<RawTable> ReadTables(const std::vector<fs::path>& paths, const TextColumns& columns,
                                 const std::vector<std::string>& classes, LabelKind kind) {
  std::vector<RawTable> tables;
  size_t examples = 0;
  uint64_t bytes_left = kMaxTableBytes;
  for (const fs::path& path : paths) {
    RawTable table{.name = path.stem().string(), .path = path.string()};
    try {
      ReadRows(columns, classes, kind, examples, bytes_left, table);
    } catch (const Error& e) {
      table.error = e.what();
      table.rows.clear();
    }
    examples += table.rows.size();
    std::error_code ignored;
    const uint64_t bytes = fs::file_size(path, ignored);
    if (!ignored && table.error.empty()) bytes_left -= std::min(bytes_left, bytes);
    tables.push_back(std::move(table));
  }
  return tables;
}

}  // namespace graft
