#include "data/text.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <unordered_map>

#include "data/splits.h"
#include "data/text_rows.h"
#include "runtime/error.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kValidation = {"dev", "val", "valid", "validation"};
const std::vector<std::string> kUsualOrder = {"train", "dev", "val", "valid", "validation", "test"};

struct RawExample {
  std::string text, second, label;
  size_t line = 0;
};

struct RawSplit {
  std::string name, path;
  std::vector<RawExample> examples;
  bool pairs = false;
};

// Where a row has what; second is SIZE_MAX if there is no second text.
struct Places {
  size_t text = 0, second = SIZE_MAX, label = 1, columns = 2;
  std::string names[3];  // JSON keys of text, second and label; the second is "" if there is none
};

std::optional<RowFormat> FormatOf(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".tsv") return RowFormat::kTsv;
  if (extension == ".csv") return RowFormat::kCsv;
  if (extension == ".jsonl") return RowFormat::kJsonl;
  return std::nullopt;
}

// The first of the usual names that is a column, or the one that the caller asked for.
std::string ChooseColumn(const std::string& asked, const std::vector<std::string>& usual,
                         const std::vector<std::string>& columns, const std::string& where,
                         bool needed) {
  const std::string name = asked.empty() ? FirstOf(usual, columns) : asked;
  if (!name.empty() && Contains(columns, name)) return name;
  if (!asked.empty()) Fail("{}: there is no column '{}'{}", where, name, DidYouMean(name, columns));
  if (needed)
    Fail("{}: expected a column '{}', found {}; name the column to use", where, usual[0],
         fmt::join(columns, ", "));
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
      if (named || (Contains(fields, "label") && !Contains(classes_, "label"))) {
        places_ = PlacesOf(asked_, fields, where);
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
    split_.examples.push_back(std::move(e));
  }

 private:
  RawSplit& split_;
  const TextColumns& asked_;
  const std::vector<std::string>& classes_;
  Places places_;
  bool first_ = true;
};

void ReadJsonLines(RawSplit& split, const TextColumns& asked, const std::string& text) {
  std::optional<Places> places;
  ForEachLine(text, [&](std::string_view line, size_t number) {
    const std::string where = fmt::format("{}:{}", split.path, number);
    const Json object = ParseJson(line, where);
    if (!object.is_object()) Fail("{}: expected an object, found {}", where, object.type_name());
    if (!places) {
      std::vector<std::string> keys;
      for (const auto& item : object.items()) keys.push_back(item.key());
      places = PlacesOf(asked, keys, where);
      split.pairs = !places->names[1].empty();
    }
    const auto& [first, second, label] = places->names;
    RawExample e{GetString(object, first, where), "", "", number};
    if (split.pairs) e.second = GetString(object, second, where);
    if (object.contains(label) && object[label].is_number_integer())
      e.label = object[label].dump();
    else
      e.label = GetString(object, label, where);
    split.examples.push_back(std::move(e));
  });
}

RawSplit ReadSplit(const fs::path& path, const TextColumns& columns,
                   const std::vector<std::string>& classes) {
  RawSplit split;
  split.name = path.stem().string();
  split.path = path.string();
  const std::string text = ReadUtf8File(split.path);
  switch (*FormatOf(path)) {
    case RowFormat::kTsv:
      ForEachTsvRow(text, RowReader(split, columns, classes));
      break;
    case RowFormat::kCsv:
      ForEachCsvRow(text, split.path, RowReader(split, columns, classes));
      break;
    case RowFormat::kJsonl:
      ReadJsonLines(split, columns, text);
      break;
  }
  if (split.examples.empty()) Fail("{}: expected texts with labels, found none", split.path);
  return split;
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

// Classes of labels, by name first. Without names labels are numbers.
class LabelTable {
 public:
  explicit LabelTable(const std::vector<std::string>& names)
      : names_(names), limit_(names.empty() ? kMaxClasses : static_cast<int>(names.size())) {
    for (size_t i = 0; i < names.size(); ++i) numbers_.emplace(names[i], static_cast<int>(i));
  }

  int Find(const std::string& label, const std::string& path, size_t line) const {
    if (const auto found = numbers_.find(label); found != numbers_.end()) return found->second;
    if (const int number = NumberOf(label, limit_); number >= 0) return number;
    if (names_.empty() || LooksLikeNumber(label))
      Fail("{}:{}: expected a label from 0 to {}, found '{}'", path, line, limit_ - 1, label);
    Fail("{}:{}: unknown label '{}'{}", path, line, label, DidYouMean(label, names_));
  }

 private:
  const std::vector<std::string>& names_;
  std::unordered_map<std::string, int> numbers_;
  int limit_;
};

// Without labels.txt: numbers, or the names that the first split has.
std::vector<std::string> CollectNames(const std::vector<RawSplit>& splits) {
  const auto numbers = [](const RawSplit& split) {
    return std::all_of(split.examples.begin(), split.examples.end(),
                       [](const RawExample& e) { return LooksLikeNumber(e.label); });
  };
  if (numbers(splits[0])) return {};
  std::set<std::string> names;
  for (const RawExample& e : splits[0].examples) names.insert(e.label);
  if (names.size() > static_cast<size_t>(kMaxClasses))
    Fail("{}: expected at most {} different labels, found {}", splits[0].path, kMaxClasses,
         names.size());
  return {names.begin(), names.end()};
}

std::vector<std::string> ReadLabelsFile(const std::string& path) {
  ReadUtf8File(path);  // checks the encoding
  std::vector<std::string> names = ReadClassNames(path);
  if (names.size() > static_cast<size_t>(kMaxClasses))
    Fail("{}: expected at most {} classes, found {}", path, kMaxClasses, names.size());
  std::unordered_map<std::string_view, size_t> lines;
  for (size_t i = 0; i < names.size(); ++i)
    if (const auto [other, is_new] = lines.emplace(names[i], i + 1); !is_new)
      Fail("{}:{}: the class '{}' is in line {} too", path, i + 1, names[i], other->second);
  return names;
}

// Paths of the split files in their usual order, then by name.
std::vector<fs::path> FindSplits(const std::string& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored))
    Fail("{}: the data set's directory does not exist", directory);
  if (!fs::is_directory(directory, ignored))
    Fail("{}: expected the directory of a data set, found a file", directory);
  std::vector<fs::path> paths;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(directory))
      if (FormatOf(entry.path()) && entry.is_regular_file()) paths.push_back(entry.path());
  } catch (const fs::filesystem_error& error) {
    Fail("{}: cannot read the data set: {}: {}", directory, error.path1().string(),
         error.code().message());
  }
  const auto rank = [](const fs::path& path) {
    return std::find(kUsualOrder.begin(), kUsualOrder.end(), path.stem().string()) -
           kUsualOrder.begin();
  };
  std::sort(paths.begin(), paths.end(), [&](const fs::path& a, const fs::path& b) {
    return std::pair(rank(a), a.string()) < std::pair(rank(b), b.string());
  });
  for (size_t i = 1; i < paths.size(); ++i)
    if (paths[i].stem() == paths[i - 1].stem())
      Fail("{}: two files of the split '{}': {} and {}", directory, paths[i].stem().string(),
           paths[i - 1].filename().string(), paths[i].filename().string());
  return paths;
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
    Fail("columns '{}': expected TEXT,LABEL or TEXT,SECOND,LABEL", names);
  return {parts[0], parts.size() == 3 ? parts[1] : "", parts.back()};
}

bool HoldsTexts(const std::string& directory) {
  bool table = false, folder = false;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const fs::path& path = it->path();
    if (path.filename().string().starts_with('.')) continue;
    folder |= fs::is_directory(path);
    if (!FormatOf(path)) continue;
    if (std::ranges::find(kUsualOrder, path.stem().string()) != kUsualOrder.end()) return true;
    table = true;
  }
  return table && !folder;
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
  std::vector<RawSplit> raw;
  for (const fs::path& path : paths) {
    raw.push_back(ReadSplit(path, columns, class_names_));
    if (raw.back().pairs != raw[0].pairs)
      Fail("{}: expected {} as in {}, found {}", raw.back().path,
           raw[0].pairs ? "pairs of texts" : "single texts", raw[0].path,
           raw[0].pairs ? "single texts" : "pairs");
  }
  pairs_ = raw[0].pairs;
  if (class_names_.empty()) class_names_ = CollectNames(raw);
  num_classes_ = static_cast<int>(class_names_.size());
  const LabelTable labels(class_names_);
  for (RawSplit& split : raw) {
    TextSplit done{split.name, {}};
    done.examples.reserve(split.examples.size());
    for (RawExample& e : split.examples) {
      const int label = labels.Find(e.label, split.path, e.line);
      num_classes_ = std::max(num_classes_, label + 1);
      done.examples.push_back({std::move(e.text), std::move(e.second), label});
    }
    splits_.push_back(std::move(done));
  }
}

std::vector<std::string> TextDataset::split_names() const {
  std::vector<std::string> names;
  for (const TextSplit& split : splits_) names.push_back(split.name);
  return names;
}

bool TextDataset::has_split(std::string_view name) const { return Contains(split_names(), name); }

TextSplit TextDataset::Load(std::string_view name, size_t limit) const {
  const auto found = std::find_if(splits_.begin(), splits_.end(),
                                  [&](const TextSplit& split) { return split.name == name; });
  if (found == splits_.end()) NoSuchSplit(directory_, name, split_names());
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
  std::set<std::pair<std::string_view, std::string_view>> in_b;
  for (const TextExample& e : b.examples) in_b.insert({e.text, e.second});
  std::vector<TextExample> both;
  for (const TextExample& e : a.examples)
    if (in_b.count({e.text, e.second})) both.push_back(e);
  return both;
}

}  // namespace graft
