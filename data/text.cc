#include "data/text.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <unordered_map>

#include "data/splits.h"
#include "data/text_files.h"
#include "data/text_rows.h"
#include "runtime/error.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kValidation = {"dev", "val", "valid", "validation"};

struct RawExample {
  std::string text;
  std::optional<std::string> second;
  std::string label;
  size_t line = 0;
};

struct RawSplit {
  std::string name, path;
  std::vector<RawExample> examples;
  bool pairs = false;
  bool named = false;  // a header or keys name the columns
  size_t before = 0;   // examples of the splits before it
  std::string error;   // why there are no examples
};

// Where a row has what; second is SIZE_MAX if there is no second text.
struct Places {
  size_t text = 0, second = SIZE_MAX, label = 1, columns = 2;
  std::string names[3];  // JSON keys of text, second and label; the second is "" if there is none
};

// The first of the usual names that is a column, or the one that the caller asked for.
std::string ChooseColumn(const std::string& asked, const std::vector<std::string>& usual,
                         const std::vector<std::string>& columns, const std::string& where,
                         bool needed) {
  const std::string name = asked.empty() ? FirstOf(usual, columns) : asked;
  if (!name.empty() && Contains(columns, name)) return name;
  if (!asked.empty()) Fail("{}: there is no column '{}'{}", where, name, DidYouMean(name, columns));
  if (needed)
    Fail("{}: expected a column '{}', found {}; hint: name the columns with --columns", where,
         usual[0], fmt::join(columns, ", "));
  return "";
}

Places PlacesOf(const TextColumns& asked, const std::vector<std::string>& columns,
                const std::string& where) {
  for (size_t i = 0; i < columns.size(); ++i)
    if (std::count(columns.begin(), columns.begin() + static_cast<ptrdiff_t>(i), columns[i]))
      Fail("{}: two columns have the name '{}'", where, columns[i]);
  Places p;
  p.columns = columns.size();
  p.names[0] =
      ChooseColumn(asked.text, {"text", "sentence", "text1", "sentence1"}, columns, where, true);
  if (asked.text.empty() || !asked.second.empty())
    p.names[1] =
        ChooseColumn(asked.second, {"second", "text2", "sentence2"}, columns, where, false);
  p.names[2] = ChooseColumn(asked.label, {"label"}, columns, where, true);
  const auto place = [&](const std::string& name) {
    return static_cast<size_t>(std::find(columns.begin(), columns.end(), name) - columns.begin());
  };
  p.text = place(p.names[0]);
  if (!p.names[1].empty()) p.second = place(p.names[1]);
  p.label = place(p.names[2]);
  return p;
}

// Collects the rows of a TSV or CSV file.
class RowReader {
 public:
  RowReader(RawSplit& split, const TextColumns& asked, const std::vector<std::string>& classes)
      : split_(split), asked_(asked), classes_(classes) {}

  void operator()(std::vector<std::string>& fields, size_t line) {
    const std::string where = fmt::format("{}:{}", split_.path, line);
    if (first_) {
      first_ = false;
      const bool named = !(asked_.text + asked_.second + asked_.label).empty();
      if (named || IsHeader(fields)) {
        places_ = PlacesOf(asked_, fields, where);
        split_.named = true;
        split_.pairs = places_.second != SIZE_MAX;
        return;
      }
      if (fields.size() != 2 && fields.size() != 3)
        Fail(
            "{}: expected 2 or 3 columns (text, second text, label), found {}; with others, a "
            "header line has to name them",
            where, fields.size());
      split_.pairs = fields.size() == 3;
      places_ = {.text = 0,
                 .second = split_.pairs ? 1 : SIZE_MAX,
                 .label = fields.size() - 1,
                 .columns = fields.size(),
                 .names = {}};
    }
    if (fields.size() != places_.columns)
      Fail("{}: expected {} columns, found {}", where, places_.columns, fields.size());
    RawExample e;
    e.label = fields[places_.label];
    if (split_.pairs) e.second = std::move(fields[places_.second]);
    e.text = std::move(fields[places_.text]);
    e.line = line;
    CheckExampleCount(split_.before + split_.examples.size() + 1, where);
    split_.examples.push_back(std::move(e));
  }

 private:
  // In another case it is one as well, whose names PlacesOf does not know.
  bool IsHeader(const std::vector<std::string>& fields) const {
    return std::ranges::any_of(fields, [&](const std::string& field) {
      return ToLowerAscii(field) == "label" && !Contains(classes_, field);
    });
  }

  RawSplit& split_;
  const TextColumns& asked_;
  const std::vector<std::string>& classes_;
  Places places_;
  bool first_ = true;
};

// A class name or number.
std::string GetLabel(const Json& object, const std::string& key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null() || it->is_string()) return GetString(object, key, where);
  if (!it->is_number_integer())
    Fail("{}: '{}': expected a string or an integer, found {}", where, key, it->dump());
  return it->dump();
}

void ReadJsonLines(RawSplit& split, const TextColumns& asked, const std::string& text) {
  std::optional<Places> places;
  ForEachLine(text, [&](std::string_view line, size_t number) {
    const std::string where = fmt::format("{}:{}", split.path, number);
    const Json object = ParseJson(line, where, {.bytes = kMaxJsonLine});
    if (!object.is_object()) Fail("{}: expected an object, found {}", where, object.type_name());
    if (!places) {
      std::vector<std::string> keys;
      for (const auto& item : object.items()) keys.push_back(item.key());
      places = PlacesOf(asked, keys, where);
      split.named = true;
      split.pairs = !places->names[1].empty();
    }
    const auto& [first, second, label] = places->names;
    RawExample e{GetString(object, first, where), {}, "", number};
    if (split.pairs) e.second = GetString(object, second, where);
    e.label = GetLabel(object, label, where);
    CheckExampleCount(split.before + split.examples.size() + 1, where);
    split.examples.push_back(std::move(e));
  });
}

void ReadRows(const TextColumns& columns, const std::vector<std::string>& classes,
              uint64_t bytes_left, RawSplit& split) {
  std::error_code ignored;
  if (const uint64_t bytes = fs::file_size(split.path, ignored); !ignored && bytes > bytes_left)
    Fail("{}: {} bytes; expected at most {} in all tables of a data set", split.path, bytes,
         kMaxTableBytes);
  const std::string text = ReadUtf8File(split.path, bytes_left);
  switch (*FormatOf(split.path)) {
    case RowFormat::kTsv:
      ForEachTsvRow(text, split.path, RowReader(split, columns, classes));
      break;
    case RowFormat::kCsv:
      ForEachCsvRow(text, split.path, RowReader(split, columns, classes));
      break;
    case RowFormat::kJsonl:
      ReadJsonLines(split, columns, text);
      break;
  }
  if (split.examples.empty()) Fail("{}: expected texts with labels, found none", split.path);
}

RawSplit ReadSplit(const fs::path& path, size_t before, uint64_t bytes_left,
                   const TextColumns& columns, const std::vector<std::string>& classes) {
  RawSplit split;
  split.name = path.stem().string();
  split.path = path.string();
  split.before = before;
  try {
    ReadRows(columns, classes, bytes_left, split);
  } catch (const Error& e) {
    split.error = e.what();
  }
  return split;
}

// All of them, within the bounds of a data set.
std::vector<RawSplit> ReadSplits(const std::vector<fs::path>& paths, const TextColumns& columns,
                                 const std::vector<std::string>& classes) {
  std::vector<RawSplit> splits;
  size_t examples = 0;
  uint64_t bytes_left = kMaxTableBytes;
  for (const fs::path& path : paths) {
    splits.push_back(ReadSplit(path, examples, bytes_left, columns, classes));
    examples += splits.back().examples.size();
    std::error_code ignored;
    const uint64_t bytes = fs::file_size(path, ignored);
    if (!ignored && splits.back().error.empty()) bytes_left -= std::min(bytes_left, bytes);
  }
  return splits;
}

// -1 unless `text` is an integer from 0 to limit - 1.
int NumberOf(std::string_view text, int limit) {
  int number = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc{} && stop == text.data() + text.size();
  return whole && number >= 0 && number < limit ? number : -1;
}

bool LooksLikeNumber(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// Classes of labels, by name first. Without names labels are numbers, of which the largest tells
// how many classes there are: one beyond the number of texts is no class number.
class LabelTable {
 public:
  LabelTable(const std::vector<std::string>& names, size_t texts)
      : names_(names),
        limit_(static_cast<int>(names.empty() ? std::min(texts, static_cast<size_t>(kMaxClasses))
                                              : names.size())) {
    for (size_t i = 0; i < names.size(); ++i) numbers_.emplace(names[i], static_cast<int>(i));
  }

  // `may_name`: the row may be a header that was not taken for one.
  int Find(const std::string& label, const std::string& path, size_t line, bool may_name) const {
    if (const auto found = numbers_.find(label); found != numbers_.end()) return found->second;
    if (const int number = NumberOf(label, limit_); number >= 0) return number;
    if (names_.empty())
      Fail(
          "{}:{}: expected a class number below {}, the number of texts, found '{}'; hint: "
          "labels.txt names the classes, one in each line",
          path, line, limit_, label);
    if (LooksLikeNumber(label))
      Fail("{}:{}: expected a label from 0 to {}, found '{}'", path, line, limit_ - 1, label);
    const bool far = Nearest(label, names_).empty();
    Fail("{}:{}: unknown label '{}'{}{}", path, line, label, DidYouMean(label, names_),
         may_name && far ? "; hint: a header line names a column 'label'" : "");
  }

 private:
  const std::vector<std::string>& names_;
  std::unordered_map<std::string, int> numbers_;
  int limit_;
};

// Empty, with an error in `raw`, if one of the labels is none.
TextSplit Classify(RawSplit& raw, const LabelTable& labels) {
  TextSplit split{raw.name, {}};
  if (!raw.error.empty()) return split;
  split.examples.reserve(raw.examples.size());
  try {
    for (RawExample& e : raw.examples) {
      const int label =
          labels.Find(e.label, raw.path, e.line, !raw.named && &e == &raw.examples[0]);
      split.examples.push_back({std::move(e.text), std::move(e.second), label});
    }
  } catch (const Error& e) {
    raw.error = e.what();
    split.examples.clear();
  }
  return split;
}

// Without labels.txt: numbers, or the names that the first split has.
std::vector<std::string> CollectNames(const RawSplit& first) {
  if (std::ranges::all_of(first.examples,
                          [](const RawExample& e) { return LooksLikeNumber(e.label); }))
    return {};
  std::set<std::string> names;
  for (const RawExample& e : first.examples) names.insert(e.label);
  if (names.size() > static_cast<size_t>(kMaxClasses))
    Fail("{}: expected at most {} different labels, found {}", first.path, kMaxClasses,
         names.size());
  return {names.begin(), names.end()};
}

}  // namespace

TextColumns ParseTextColumns(const std::string& names) {
  if (names.empty()) return {};
  std::vector<std::string> parts(1);
  for (const char c : names)
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  if (parts.size() < 2 || parts.size() > 3 || Contains(parts, ""))
    Fail("--columns '{}': expected TEXT,LABEL or TEXT,SECOND,LABEL", names);
  return {parts[0], parts.size() == 3 ? parts[1] : "", parts.back()};
}

TextDataset::TextDataset(const std::string& directory, const TextColumns& columns)
    : directory_(directory) {
  const std::vector<fs::path> paths = FindSplits(directory);
  if (paths.empty())
    Fail(
        "{}: expected texts such as train.tsv with lines 'text<tab>label' (also .csv and .jsonl), "
        "found none",
        directory);
  const fs::path names = fs::path(directory) / "labels.txt";
  std::error_code ignored;
  if (fs::exists(names, ignored)) class_names_ = ReadLabelsFile(names.string());
  std::vector<RawSplit> raw = ReadSplits(paths, columns, class_names_);
  // A split that nobody asks for may be of another kind, such as a test set without labels. But the
  // first one tells the classes if labels.txt does not.
  const auto good = std::ranges::find(raw, "", &RawSplit::error);
  if (good == raw.end() || (class_names_.empty() && good != raw.begin())) Fail("{}", raw[0].error);
  pairs_ = good->pairs;
  if (class_names_.empty()) class_names_ = CollectNames(*good);
  num_classes_ = static_cast<int>(class_names_.size());
  size_t texts = 0;
  for (const RawSplit& split : raw) texts += split.examples.size();
  const LabelTable labels(class_names_, texts);
  for (RawSplit& split : raw) {
    if (split.error.empty() && split.pairs != pairs_)
      split.error = fmt::format("{}: expected {} as in {}, found {}", split.path,
                                pairs_ ? "pairs of texts" : "single texts", good->path,
                                pairs_ ? "single texts" : "pairs");
    splits_.push_back(Classify(split, labels));
    for (const TextExample& e : splits_.back().examples)
      num_classes_ = std::max(num_classes_, e.label + 1);
    errors_.push_back(std::move(split.error));
  }
}

std::vector<std::string> TextDataset::split_names() const {
  std::vector<std::string> names;
  for (const TextSplit& split : splits_) names.push_back(split.name);
  return names;
}

bool TextDataset::has_split(std::string_view name) const { return Contains(split_names(), name); }

TextSplit TextDataset::Load(std::string_view name, size_t limit) const {
  const auto found = std::ranges::find(splits_, name, &TextSplit::name);
  if (found == splits_.end()) NoSuchSplit(directory_, name, split_names());
  const auto at = static_cast<size_t>(found - splits_.begin());
  if (!errors_[at].empty()) Fail("{}", errors_[at]);
  TextSplit split = *found;
  if (limit > 0 && limit < split.examples.size()) split.examples.resize(limit);
  return split;
}

std::string TextDataset::DefaultTrainSplit() const { return FirstOf({"train"}, split_names()); }

std::string TextDataset::DefaultValidationSplit() const {
  return FirstOf(kValidation, split_names());
}

std::string TextDataset::DefaultTestSplit() const {
  return has_split("test") ? "test" : DefaultValidationSplit();
}

std::vector<TextExample> Overlap(const TextSplit& a, const TextSplit& b) {
  std::set<std::pair<std::string_view, std::optional<std::string_view>>> in_b;
  for (const TextExample& e : b.examples) in_b.insert({e.text, e.second});
  std::vector<TextExample> both;
  for (const TextExample& e : a.examples)
    if (in_b.count({e.text, e.second})) both.push_back(e);
  return both;
}

}  // namespace graft
