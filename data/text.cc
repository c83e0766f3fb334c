#include "data/text.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "data/class_notes.h"
#include "data/splits.h"
#include "data/text_files.h"
#include "data/text_targets.h"
#include "runtime/error.h"
#include "runtime/words.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using TextKey = std::pair<std::string_view, std::optional<std::string_view>>;

TextKey KeyOf(const TextExample& e) {
  return {e.text, e.second ? std::optional<std::string_view>(*e.second) : std::nullopt};
}

bool IsBlank(const TextExample& e) {
  return TrimBlanks(e.text).empty() && TrimBlanks(e.second.value_or("")).empty();
}

// Reads the label of every row by label(field, line, &example); rows without one become problems.
template <class Label>
TextSplit ReadLabels(RawTable& table, const Label& label) {
  TextSplit split{table.name, {}};
  const Places& p = table.places;
  split.examples.reserve(table.rows.size());
  for (RawRow& row : table.rows) {
    try {
      TextExample example{.text = "", .second = {}};
      label(row.fields[p.label], row.line, &example);
      if (p.pairs()) example.second = std::move(row.fields[p.second]);
      example.text = std::move(row.fields[p.text]);
      split.examples.push_back(std::move(example));
    } catch (const Error& e) {
      table.problems.Add(e.what());
    }
  }
  return split;
}

TextSplit Classify(RawTable& table, const LabelTable& labels) {
  return ReadLabels(table, [&](const std::string& field, size_t line, TextExample* example) {
    example->label = labels.Find(field, table.path, line);
  });
}

// Reads targets: numbers or several classes. Other columns than those of the first table are an
// error of this one.
TextSplit FindTargets(RawTable& table, LabelKind kind, const std::vector<std::string>& names) {
  if (!table.error.empty()) return {table.name, {}};
  try {
    CheckTargetCount(table.rows.size(), names.size(), table.path);
    const TargetTable targets(kind, table.label_names, names);
    return ReadLabels(table, [&](const std::string& field, size_t line, TextExample* example) {
      example->targets = targets.Find(field, table.path, line);
    });
  } catch (const Error& e) {
    table.error = e.what();
    return {table.name, {}};
  }
}

// Labels of one class must be in one column.
void RefuseSeveralColumns(const TextColumns& asked, const RawTable& table) {
  const size_t columns =
      AreNumbers(asked) ? LabelParts(asked.label).size() : table.label_names.size();
  if (columns > 1)
    FailUsage(
        "--columns: {} columns of labels; hint: --task regression for numbers, --task multi-label "
        "for columns of 0 and 1",
        columns);
}

// The names of a table's columns as ParseTextColumns takes them, or "".
std::string NamesOf(const RawTable& table) {
  std::vector<std::string> names{table.text_name,
                                 fmt::format("{}", fmt::join(table.label_names, "|"))};
  if (table.pairs()) names.insert(names.begin() + 1, table.second_name);
  const auto odd = [](const std::string& n) {  // also what would be a number of a column
    return n.find(',') != n.npos || n.find_first_not_of("0123456789") == n.npos;
  };
  return std::ranges::any_of(names, odd) ? "" : fmt::format("{}", fmt::join(names, ","));
}

// Says which columns are read where one that is not holds texts, too: it may be the second of
// pairs. Of images such a column says nothing that is learnt.
void NoteUnread(const RawTable& table, std::vector<std::string>* notes) {
  std::vector<std::string> unread;
  for (const UnreadColumn& c : table.unread)
    if (2 * c.texts > table.rows.size()) unread.push_back(c.name);
  if (unread.empty() || FileColumn(std::array{table.text_name}) == 0) return;
  const std::string labels = fmt::format("{}", fmt::join(table.label_names, "|"));
  notes->push_back(fmt::format(
      "{}: '{}'{} and the label '{}' are read; '{}' {} texts, too, and {} not{}", table.path,
      table.text_name, table.pairs() ? fmt::format(", '{}'", table.second_name) : "", labels,
      fmt::join(unread, "', '"), unread.size() > 1 ? "hold" : "holds",
      unread.size() > 1 ? "are" : "is",
      table.pairs()
          ? ""
          : fmt::format("; hint: --columns {} for pairs",
                        ShellWord(fmt::format("{},{},{}", table.text_name, unread[0], labels)))));
}

// Leaves out the tables that have the texts of the first good one and not its labels, as the test
// sets of competitions do.
void LeaveOutUnlabelled(std::vector<RawTable>* tables, std::map<std::string, std::string>* reasons,
                        std::vector<std::string>* notes) {
  const auto train = std::ranges::find(*tables, "", &RawTable::error);
  if (train == tables->end() || train->text_name.empty()) return;
  const std::string text = train->text_name;
  const std::vector<std::string> labels = train->label_names;
  std::erase_if(*tables, [&](const RawTable& table) {
    const auto has = [&](const std::string& name) {
      return std::ranges::any_of(table.first_line,
                                 [&](const auto& f) { return ColumnName(f) == ColumnName(name); });
    };
    if (table.error.empty() || !has(text) || std::ranges::any_of(labels, has)) return false;
    const std::string reason = fmt::format(
        "it has no column '{}'; graft predict reads texts without labels", fmt::join(labels, "|"));
    notes->push_back(fmt::format("{} is left out: {}", table.path, reason));
    reasons->emplace(table.name, fmt::format("{}: {}", table.path, reason));
    return true;
  });
}

// Notes texts that stand in a split with different labels.
std::string ConflictNote(const std::string& directory, const TextSplit& split,
                         const std::vector<std::string>& names) {
  std::map<TextKey, int> labels;
  size_t conflicts = 0;
  std::string first;
  const auto name = [&](int label) {
    const auto i = static_cast<size_t>(label);
    return i < names.size() ? names[i] : std::to_string(label);
  };
  for (const TextExample& e : split.examples) {
    if (IsBlank(e)) continue;
    const auto [seen, is_new] = labels.emplace(KeyOf(e), e.label);
    if (is_new || seen->second == e.label) continue;
    if (conflicts++ == 0)
      first = fmt::format("'{}' as '{}' and '{}'", FirstBytes(e.text, 60), name(seen->second),
                          name(e.label));
  }
  if (conflicts == 0) return "";
  return fmt::format("{}: split '{}' has {} text{} with two labels (the first is {})", directory,
                     split.name, conflicts, conflicts == 1 ? "" : "s", first);
}

// Notes examples without a text.
std::string BlankNote(const std::string& directory, const TextSplit& split) {
  const auto blank = std::ranges::count_if(split.examples, IsBlank);
  if (blank == 0) return "";
  return fmt::format("{}: split '{}' has {} example{} with an empty text", directory, split.name,
                     blank, blank == 1 ? "" : "s");
}

}  // namespace

TextColumns ParseTextColumns(const std::string& names) {
  if (names.empty()) return {};
  const std::vector<std::string> parts = SplitAt(names, ',');
  if (parts.size() < 2 || parts.size() > 3 || Contains(parts, ""))
    FailUsage("--columns '{}': expected TEXT,LABEL or TEXT,SECOND,LABEL", names);
  return {parts[0], parts.size() == 3 ? parts[1] : "", parts.back()};
}

TextDataset::TextDataset(const std::string& directory, const TextColumns& columns, bool skip_bad,
                         const LabelOptions& labels)
    : directory_(directory), kind_(labels.kind), skip_bad_(skip_bad) {
  const std::vector<fs::path> paths = FindSplits(directory);
  if (paths.empty())
    Fail(
        "{}: expected texts such as train.tsv with lines 'text<tab>label' (also .csv and .jsonl), "
        "found none",
        directory);
  const fs::path folder =
      fs::is_directory(directory) ? fs::path(directory) : paths[0].parent_path();
  const fs::path names = folder / "labels.txt";
  std::error_code ignored;
  const bool numbers = kind_ == LabelKind::kNumbers;
  if (!numbers) class_names_ = labels.classes;
  if (class_names_.empty() && !numbers && fs::exists(names, ignored))
    class_names_ = ReadLabelsFile(names.string());
  std::vector<RawTable> raw = ReadTables(paths, columns, class_names_, kind_);
  notes_ = DecideHeaders(raw, columns, class_names_, kind_);
  LeaveOutUnlabelled(&raw, &left_out_, &notes_);
  // A split that nobody asks for may be of another kind, such as a test set without labels. But the
  // first one must be good, as it tells the classes if labels.txt does not.
  const auto good = std::ranges::find(raw, "", &RawTable::error);
  if (good == raw.end() || (class_names_.empty() && good != raw.begin())) Fail("{}", raw[0].error);
  pairs_ = good->pairs(), read_columns_ = NamesOf(*good);
  NoteUnread(*good, &notes_);
  if (kind_ == LabelKind::kClass) RefuseSeveralColumns(columns, *good);
  if (kind_ != LabelKind::kClass)
    class_names_ = TargetNames(*good, kind_, class_names_);
  else if (class_names_.empty())
    class_names_ = ClassesOf(*good);
  num_classes_ = static_cast<int>(class_names_.size());
  size_t texts = 0;
  for (const RawTable& table : raw) texts += table.rows.size();
  const LabelTable classes(class_names_, texts);
  for (RawTable& table : raw) {
    if (table.error.empty() && table.pairs() != pairs_) {
      table.error = fmt::format("{}: expected {} as in {}, found {}", table.path,
                                pairs_ ? "pairs of texts" : "single texts", good->path,
                                pairs_ ? "single texts" : "pairs");
      table.rows.clear();
    }
    splits_.push_back(kind_ == LabelKind::kClass ? Classify(table, classes)
                                                 : FindTargets(table, kind_, class_names_));
    for (const TextExample& e : splits_.back().examples)
      num_classes_ = std::max(num_classes_, e.label + 1);
    errors_.push_back(std::move(table.error));
    problems_.push_back({std::move(table.problems.first), table.problems.count});
  }
}

std::vector<std::string> TextDataset::split_names() const {
  std::vector<std::string> names;
  for (const TextSplit& split : splits_) names.push_back(split.name);
  return names;
}

bool TextDataset::has_split(std::string_view name) const { return Contains(split_names(), name); }

size_t TextDataset::Find(std::string_view name) const {
  const auto found = std::ranges::find(splits_, name, &TextSplit::name);
  if (const auto out = left_out_.find(std::string(name)); out != left_out_.end())
    Fail("{}", out->second);
  if (found == splits_.end()) NoSuchSplit(directory_, name, split_names());
  return static_cast<size_t>(found - splits_.begin());
}

void TextDataset::RefuseErrors(size_t split) const {
  if (!errors_[split].empty()) Fail("{}", errors_[split]);
  const Problems& bad = problems_[split];
  if (bad.count == 1 && !skip_bad_) Fail("{}", bad.first[0]);
  if (bad.count > 1 && !skip_bad_)
    Fail("{}; {} rows of the file are wrong, which graft data check lists", bad.first[0],
         bad.count);
  if (splits_[split].examples.empty()) Fail("{}", bad.first[0]);
}

TextSplit TextDataset::Load(std::string_view name, size_t limit) const {
  const size_t at = Find(name);
  RefuseErrors(at);
  TextSplit split = splits_[at];
  if (limit > 0 && limit < split.examples.size()) split.examples.resize(limit);
  return split;
}

std::vector<std::string> TextDataset::FirstTexts(std::string_view name, size_t limit) const {
  std::vector<std::string> texts;
  for (const TextExample& e : splits_[Find(name)].examples) {
    if (texts.size() == limit) break;
    texts.push_back(e.text);
  }
  return texts;
}

TextDataset::Problems TextDataset::problems(std::string_view name) const {
  const size_t at = Find(name);
  return errors_[at].empty() ? problems_[at] : Problems{{errors_[at]}, 1};
}

std::vector<std::string> TextDataset::Notes(bool all) const {
  std::vector<std::string> notes = notes_;
  std::vector<ClassCounts> counts;
  for (const TextSplit& split : splits_)
    if (std::string note = BlankNote(directory_, split); !note.empty())
      notes.push_back(std::move(note));
  if (kind_ == LabelKind::kNumbers) return notes;
  for (size_t i = 0; i < splits_.size(); ++i) {
    if (splits_[i].examples.empty()) continue;
    counts.push_back({splits_[i].name, std::vector<size_t>(static_cast<size_t>(num_classes_))});
    for (const TextExample& e : splits_[i].examples) {
      if (kind_ == LabelKind::kClass) ++counts.back().per_class[e.label];
      for (size_t k = 0; k < e.targets.size(); ++k) counts.back().per_class[k] += e.targets[k] > 0;
    }
    if (std::string note = ConflictNote(directory_, splits_[i], class_names_); !note.empty())
      notes.push_back(std::move(note));
  }
  for (std::string& note : ClassNotes(directory_, class_names_, counts, all))
    notes.push_back(std::move(note));
  for (const std::string& pair : NearlyEqualNames(class_names_))
    notes.push_back(fmt::format("{}: the classes {} differ only in case", directory_, pair));
  return notes;
}

void TextDataset::HoldOut(const std::string& split, double share, uint64_t seed) {
  if (has_split(kHoldout)) Fail("{}: has a split '{}' of its own", directory_, kHoldout);
  const size_t at = Find(split);
  RefuseErrors(at);
  const std::vector<bool> held = DrawHoldout(GroupsOf(splits_[at].examples, kind_), share, seed);
  const auto count = static_cast<size_t>(std::ranges::count(held, true));
  RefuseEmptyParts(directory_, split, held.size() - count, count);
  TextSplit rest{split, {}}, part{kHoldout, {}};
  for (size_t i = 0; i < held.size(); ++i)
    (held[i] ? part : rest).examples.push_back(std::move(splits_[at].examples[i]));
  splits_[at] = std::move(rest);
  splits_.push_back(std::move(part));
  errors_.emplace_back();
  problems_.emplace_back();
}

std::string TextDataset::DefaultTrainSplit() const { return DefaultTrain(split_names()); }
std::string TextDataset::DefaultValidationSplit() const { return DefaultValidation(split_names()); }
std::string TextDataset::DefaultEvalSplit() const { return DefaultEval(split_names()); }

std::optional<std::vector<int>> LabelsToDivide(const std::vector<float>& targets, LabelKind kind) {
  if (kind != LabelKind::kClasses) return {};
  std::vector<int> labels;
  for (size_t k = 0; k < targets.size(); ++k)
    if (targets[k] > 0) labels.push_back(static_cast<int>(k));
  return labels;
}

std::vector<ToDivide> GroupsOf(const std::vector<TextExample>& examples, LabelKind kind) {
  std::map<TextKey, size_t> first;
  std::vector<ToDivide> divided;
  for (const TextExample& e : examples)
    divided.push_back({e.label, first.emplace(KeyOf(e), divided.size()).first->second,
                       LabelsToDivide(e.targets, kind)});
  return divided;
}

std::vector<TextExample> Overlap(const TextSplit& a, const TextSplit& b) {
  std::set<TextKey> in_b;
  for (const TextExample& e : b.examples) in_b.insert(KeyOf(e));
  std::vector<TextExample> both;
  for (const TextExample& e : a.examples)
    if (in_b.contains(KeyOf(e))) both.push_back(e);
  return both;
}

}  // namespace graft
