#include "data/text_columns.h"

#include <algorithm>
#include <charconv>

#include "data/splits.h"
#include "runtime/error.h"
#include "runtime/graph.h"
#include "runtime/utf8.h"
#include "runtime/words.h"

namespace graft {
namespace {

using Names = std::vector<std::string>;

// The first of these names that exists names the column.
const Names kTexts = {"text", "sentence", "text1", "sentence1"};
const Names kSeconds = {"second",    "text2",  "sentence2",  "hypothesis",
                        "question2", "text_b", "sentence_b", "text_pair"};
// The two texts of pairs as GLUE, SuperGLUE and data of retrieval name them, where both exist.
const std::pair<const char*, const char*> kPairs[] = {
    {"question", "sentence"}, {"question", "passage"}, {"question", "answer"},
    {"query", "passage"},     {"query", "document"},
};
const Names kLabels = {"label"};
// Only one of these may exist.
const Names kOtherTexts = {
    "review",        "comment",   "comments",   "tweet",    "content",   "contents", "message",
    "body",          "title",     "headline",   "question", "utterance", "query",    "description",
    "document",      "sms",       "post",       "abstract", "article",   "phrase",   "premise",
    "question1",     "text_a",    "sentence_a", "input",    "inputs",    "summary",  "feedback",
    "*_text",        "text_*",    "*_sentence", "*_review", "*_comment", "*_tweet",  "*_content",
    "*_description", "sentences", "texts",      "reviews",  "tweets",    "v2"};
const Names kOtherLabels = {
    "labels",     "class",    "classes",  "category",  "categories", "target",  "targets",
    "sentiment",  "polarity", "rating",   "score",     "stars",      "emotion", "intent",
    "topic",      "verdict",  "tag",      "gold",      "y",          "output",  "type",
    "is_*",       "has_*",    "*_label",  "label_*",   "*_class",    "class_*", "*_sentiment",
    "*_category", "*_rating", "*_intent", "*_emotion", "*_type",     "*_topic", "v1"};

// Names of columns of files; no such column is a text.
const Names kFiles = {"file", "filename",   "file_name", "path",     "filepath", "image",
                      "img",  "image_path", "images",    "image_id", "*_path",   "*_file"};
// Names of columns that are neither, unless the caller says so.
const Names kNumbering = {"", "id", "idx", "index", "unnamed: 0", "*_id", "row"};

bool IsOneOf(const Names& names, const std::string& name) {
  return std::ranges::any_of(names, [&](const std::string& n) { return GlobMatch(n, name); });
}

Names ColumnNames(std::span<const std::string> fields) {
  Names names;
  for (const std::string& field : fields) names.push_back(ColumnName(field));
  return names;
}

bool ContainsIndex(const std::vector<size_t>& list, size_t index) {
  return std::ranges::find(list, index) != list.end();
}

size_t IndexOf(const Names& names, const std::string& name) {
  return static_cast<size_t>(std::ranges::find(names, name) - names.begin());
}

// The columns of one kind: the first of the usual names that exists, else all that have one of the
// others.
std::vector<size_t> Candidates(const Names& columns, const Names& usual, const Names& others) {
  if (const std::string name = FirstOf(usual, columns); !name.empty())
    return {IndexOf(columns, name)};
  std::vector<size_t> found;
  for (size_t i = 0; i < columns.size(); ++i)
    if (IsOneOf(others, columns[i])) found.push_back(i);
  return found;
}

// The places of a usual pair of texts; `second` is SIZE_MAX if there is none.
Places PairOf(const Names& columns) {
  for (const auto& [first, second] : kPairs)
    if (Contains(columns, first) && Contains(columns, second))
      return {.text = IndexOf(columns, first), .second = IndexOf(columns, second)};
  return {};
}

// Finds a name as it is written, else in another case.
size_t Asked(const std::string& name, const Names& written, const Names& lower,
             const std::string& where) {
  if (Contains(written, name)) return IndexOf(written, name);
  if (const std::string any = ColumnName(name); Contains(lower, any)) return IndexOf(lower, any);
  const std::string near = Nearest(name, written);
  Fail("{}: there is no column '{}'{}; it has {}", where, name,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near), fmt::join(written, ", "));
}

[[noreturn]] void FailUnnamed(const char* kind, const std::vector<size_t>& found,
                              const Names& written, const std::string& where) {
  Names several;
  for (const size_t i : found) several.push_back(written[i]);
  Names usable;  // for an example
  for (const std::string& name : written)
    if (!IsOneOf(kNumbering, ColumnName(name))) usable.push_back(name);
  if (found.empty() && usable.size() < 2)
    Fail(
        "{}: expected a column '{}', found {}; hint: graft predict reads texts without labels; "
        "--columns names other columns",
        where, kind, fmt::join(written, ", "));
  if (found.empty())
    Fail("{}: expected a column '{}', found {}; hint: name the columns with --columns{}", where,
         kind, fmt::join(written, ", "),
         written.size() < 2 ? ""
         : written.size() > 2 && kind == std::string_view("label")
             ? ", TEXT,LABEL, or TEXT,A|B of several labels"
             : fmt::format(" TEXT,LABEL, such as --columns {}",
                           ShellWord(usable.front() + "," + usable.back())));
  Fail("{}: which column is the {}: {}? hint: name it, --columns TEXT,LABEL", where, kind,
       fmt::join(several, " or "));
}

size_t ColumnNumber(const std::string& text) {
  size_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && stop == text.data() + text.size() ? number : 0;
}

}  // namespace

std::string ColumnName(std::string_view field) {
  const auto trim = [&](std::string_view blanks) {
    const size_t first = std::min(field.find_first_not_of(blanks), field.size());
    field.remove_prefix(first);
    field = field.substr(0, field.find_last_not_of(blanks) + 1);
  };
  trim(" \t");
  if (field.size() > 1 && field.front() == '"' && field.back() == '"')
    field = field.substr(1, field.size() - 2);
  trim(" \t");
  return ToLowerAscii(std::string(field));
}

Names LabelParts(const std::string& label) { return SplitAt(label, '|'); }

bool AreNumbers(const TextColumns& asked) {
  return ColumnNumber(asked.text) > 0 &&
         std::ranges::all_of(LabelParts(asked.label),
                             [](const std::string& part) { return ColumnNumber(part) > 0; }) &&
         (asked.second.empty() || ColumnNumber(asked.second) > 0);
}

Places PlacesByNumber(const TextColumns& asked, size_t columns, const std::string& where) {
  const auto place = [&](const std::string& name) {
    const size_t number = ColumnNumber(name);
    if (number > columns)
      Fail("{}: --columns asks for column {}, expected 1 to {}", where, number, columns);
    return number - 1;
  };
  const Names labels = LabelParts(asked.label);
  Places p{.text = place(asked.text), .label = place(labels[0]), .named = true};
  for (size_t i = 1; i < labels.size(); ++i) p.more.push_back(place(labels[i]));
  if (!asked.second.empty()) p.second = place(asked.second);
  return p;
}

Places PlacesByName(const TextColumns& asked, const Names& written, const std::string& where) {
  for (size_t i = 0; i < written.size(); ++i)
    if (!written[i].empty() && IndexOf(written, written[i]) != i)
      Fail("{}: two columns have the name '{}'; hint: --columns takes columns by number, too",
           where, written[i]);
  const Names columns = ColumnNames(written);
  std::vector<size_t> texts = Candidates(columns, kTexts, kOtherTexts);
  if (texts.empty()) texts = Candidates(columns, {}, kFiles);
  std::vector<size_t> labels = Candidates(columns, kLabels, kOtherLabels);
  if (!asked.text.empty()) texts = {Asked(asked.text, written, columns, where)};
  Places p{.named = true};
  if (!asked.label.empty()) {
    const bool one = Contains(written, asked.label);  // also one whose name holds a '|'
    const Names parts = one ? Names{asked.label} : LabelParts(asked.label);
    labels = {Asked(parts[0], written, columns, where)};
    for (size_t i = 1; i < parts.size(); ++i)
      p.more.push_back(Asked(parts[i], written, columns, where));
  }
  const std::string second = asked.text.empty() ? FirstOf(kSeconds, columns) : "";
  if (!asked.second.empty()) p.second = Asked(asked.second, written, columns, where);
  if (!second.empty()) p.second = IndexOf(columns, second);
  if (const Places pair = PairOf(columns); asked.text.empty() && second.empty() && pair.pairs())
    texts = {pair.text}, p.second = pair.second;
  for (std::vector<size_t>* own : {&texts, &labels})  // a column is one thing
    for (const std::vector<size_t>* other : {&texts, &labels})
      if (own != other && other->size() == 1 && own->size() > 1) std::erase(*own, other->front());
  if (texts.size() > 1) std::erase(texts, p.second);
  std::vector<size_t> rest;  // may be what has no usual name
  for (size_t i = 0; i < written.size(); ++i)
    if (!IsOneOf(kNumbering, columns[i]) && !ContainsIndex(texts, i) && !ContainsIndex(labels, i) &&
        i != p.second)
      rest.push_back(i);
  if (texts.empty() && labels.empty() && rest.size() == 2)
    p.named = false, texts = {rest[0]}, labels = {rest[1]};
  else if (texts.empty() && labels.size() == 1 && rest.size() == 1)
    texts = rest;
  else if (labels.empty() && texts.size() == 1 && rest.size() == 1)
    labels = rest;
  if (texts.size() != 1) FailUnnamed("text", texts, written, where);
  if (labels.size() != 1) FailUnnamed("label", labels, written, where);
  p.text = texts[0], p.label = labels[0];
  std::vector<size_t> all{p.text, p.label};
  if (p.pairs()) all.push_back(p.second);
  for (const size_t column : p.more) all.push_back(column);
  std::ranges::sort(all);
  if (const auto twice = std::ranges::adjacent_find(all); twice != all.end())
    Fail("{}: --columns names '{}' twice", where, written[*twice]);
  return p;
}

Places TextPlacesByName(const Names& written, const std::string& where) {
  const Names columns = ColumnNames(written);
  std::vector<size_t> texts = Candidates(columns, kTexts, kOtherTexts);
  const std::string second = FirstOf(kSeconds, columns);
  Places p{.named = true};
  if (!second.empty()) p.second = IndexOf(columns, second);
  if (const Places pair = PairOf(columns); second.empty() && pair.pairs())
    texts = {pair.text}, p.second = pair.second;
  if (texts.size() > 1) std::erase(texts, p.second);
  std::vector<size_t> rest;
  for (size_t i = 0; i < columns.size(); ++i)
    if (!IsOneOf(kNumbering, columns[i]) && !IsOneOf(kLabels, columns[i]) &&
        !IsOneOf(kOtherLabels, columns[i]) && i != p.second)
      rest.push_back(i);
  if (texts.empty() && rest.size() == 1) texts = rest;
  if (texts.size() != 1) FailUnnamed("text", texts, written, where);
  p.text = texts[0];
  return p;
}

bool NamesAText(const Names& columns) { return !FirstOf(kTexts, ColumnNames(columns)).empty(); }

Places PlacesByOrder(size_t columns) {
  return {.second = columns == 3 ? 1 : SIZE_MAX, .label = columns - 1};
}

FirstLine LookAt(const Names& fields, const Names& classes) {
  const Names names = ColumnNames(fields);
  bool text = false, label = false, numbered = true;
  for (size_t i = 0; i < names.size(); ++i) {
    if (Contains(classes, fields[i])) return FirstLine::kUnknown;
    if (names[i] == kLabels[0]) return FirstLine::kNames;
    const bool is_text =
        IsOneOf(kTexts, names[i]) || IsOneOf(kOtherTexts, names[i]) || IsOneOf(kFiles, names[i]);
    text |= is_text;
    label |= !is_text && IsOneOf(kOtherLabels, names[i]);
    numbered &= names[i] == std::to_string(i);  // as pandas writes columns without names
  }
  return (text && label) || (numbered && names.size() > 1) ? FirstLine::kNames
                                                           : FirstLine::kUnknown;
}

bool NamesAny(std::span<const std::string> fields) {
  return std::ranges::any_of(ColumnNames(fields), [](const std::string& name) {
    return IsOneOf(kTexts, name) || IsOneOf(kOtherTexts, name) || IsOneOf(kSeconds, name) ||
           IsOneOf(kOtherLabels, name);
  });
}

size_t FileColumn(std::span<const std::string> fields) {
  const Names names = ColumnNames(fields);
  return static_cast<size_t>(
      std::ranges::find_if(names, [](const std::string& name) { return IsOneOf(kFiles, name); }) -
      names.begin());
}

bool AreIdentifiers(std::span<const std::string> fields) {
  return std::ranges::all_of(ColumnNames(fields), [](const std::string& name) {
    return !name.empty() && (name[0] < '0' || name[0] > '9') &&
           std::ranges::all_of(name, [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
                    c == '.';
           });
  });
}

}  // namespace graft
