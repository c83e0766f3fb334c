#include "data/dataset.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <unordered_map>
#include <unordered_set>

#include "data/class_notes.h"
#include "data/holdout.h"
#include "data/image_folders.h"
#include "data/image_places.h"
#include "data/splits.h"
#include "data/text_rows.h"
#include "runtime/error.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"
#include "runtime/words.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kListNames = {"train800", "val200", "train800val200", "test"};
// Splits "path label" at the last blank; both are empty if there is none.
std::pair<std::string_view, std::string_view> SplitLine(std::string_view line) {
  line = Trim(line, " \t");
  const size_t blank = line.find_last_of(" \t");
  if (blank == std::string_view::npos) return {};
  return {Trim(line.substr(0, blank)), line.substr(blank + 1)};
}

bool IsInteger(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Any .txt may lie in a data folder; only those that look like a list are splits.
bool LooksLikeList(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line(512, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(file.gcount());
  line.resize(std::min(line.find_first_of("\r\n"), line.size()));
  const auto [name, label] = SplitLine(line);
  return IsInteger(label) && !fs::path(name).extension().empty();
}

// The lists of a folder by their names: the usual ones first.
std::vector<std::string> ListsIn(const fs::path& root) {
  std::vector<std::string> lists, others;
  for (const DirectoryEntry& entry : ListDirectory(root.string())) {
    const fs::path path = root / entry.name;
    const std::string stem = path.stem().string();
    if (path.extension() != ".txt" || stem == "classes" || stem.starts_with('.') ||
        !entry.is_file())
      continue;
    if (!Contains(kListNames, stem) && LooksLikeList(path)) others.push_back(stem);
  }
  for (const std::string& name : kListNames)
    if (fs::is_regular_file(root / (name + ".txt"))) lists.push_back(name);
  std::sort(others.begin(), others.end());
  lists.insert(lists.end(), others.begin(), others.end());
  return lists;
}

int ParseLabel(std::string_view text, const std::string& where, size_t classes) {
  if (!IsInteger(text))
    Fail("{}: expected the label as a number at the end of the line, found '{}'", where, text);
  int label = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  const int limit = classes ? static_cast<int>(classes) : kMaxClasses;
  if (error != std::errc{} || label < 0 || label >= limit)
    Fail("{}: expected a label from 0 to {}{}, found {}{}", where, limit - 1,
         classes ? " (classes.txt has as many lines)" : "", text,
         label == limit && classes ? "; hint: labels count from 0" : "");
  return label;
}

Split ReadList(const fs::path& directory, const std::string& name, size_t classes,
               const OnProblem& problem, size_t& examples) {
  const fs::path path = directory / (name + ".txt");
  Split split{name, {}};
  ForEachLine(ReadTextFile(path.string(), kMaxListBytes), [&](std::string_view line, size_t at) {
    if (Trim(line).empty()) return;
    const std::string where = fmt::format("{}:{}", path.string(), at);
    CheckExampleCount(++examples, where);
    try {
      const auto [file, label] = SplitLine(line);
      if (file.empty()) Fail("{}: expected 'path label', found '{}'", where, line);
      split.examples.push_back({(directory / file).string(), ParseLabel(label, where, classes)});
    } catch (const Error& e) {
      problem(e.what());
    }
  });
  if (split.examples.empty())
    problem(fmt::format("{}: expected lines of the form 'path label', found none", path.string()));
  return split;
}

OnProblem ProblemsInto(std::vector<std::string>* problems) {
  return [problems](const std::string& message) {
    if (!problems) Fail("{}", message);
    problems->push_back(message);
  };
}

std::string NormalPath(const Example& e) { return fs::path(e.path).lexically_normal().string(); }

}  // namespace

ImageDataset::ImageDataset(const std::string& directory, std::vector<std::string>* problems)
    : directory_(directory) {
  std::error_code ignored;
  const fs::path root(directory);
  if (!fs::exists(root, ignored))
    Fail("{}: the data set does not exist{}", directory, DidYouMeanPath(directory));
  if (!fs::is_directory(root, ignored)) RefuseFile(directory);
  try {
    if (const std::vector<std::string> lists = ListsIn(root); !lists.empty()) {
      OpenLists(lists, problems);
      return;
    }
    form_ = DatasetForm::kFolders;
    ClassFolders read = ReadClassFolders(directory, ProblemsInto(problems));
    splits_ = std::move(read.splits), class_names_ = std::move(read.class_names);
    left_out_ = std::move(read.left_out), notes_ = std::move(read.notes);
    num_classes_ = static_cast<int>(class_names_.size());
  } catch (const fs::filesystem_error& error) {
    Fail("{}: cannot read the data set: {}: {}", directory, error.path1().string(),
         error.code().message());
  }
}

std::string ClassesOf(const std::string& directory) {
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored) || HoldsTexts(directory)) return directory;
  if (HoldsClassFolders(directory) || !ListsIn(directory).empty()) return directory;
  const std::string table = LabelsTable(directory);
  return table.empty() ? directory : table;
}

ImageDataset::ImageDataset(const TextDataset& tables)
    : directory_(tables.directory()),
      form_(DatasetForm::kTables),
      kind_(tables.kind()),
      notes_(tables.Notes(false)),
      num_classes_(tables.num_classes()) {
  class_names_ = tables.class_names(), read_columns_ = tables.read_columns();
  for (const std::string& name : tables.split_names()) {
    try {
      Split split{name, {}};
      const ImagePlaces places = PlacesOfImages(tables, name);
      for (TextExample& e : tables.Load(name).examples)
        split.examples.push_back({places.Path(e.text), e.label, std::move(e.targets)});
      if (const std::string note = places.Note(); !note.empty())
        notes_.push_back(fmt::format("{}, split '{}': {}", directory_, name, note));
      splits_.push_back(std::move(split));
      const TextDataset::Problems bad = tables.problems(name);  // which its caller lets pass
      if (bad.count > 0)
        notes_.push_back(fmt::format("{} rows of split '{}' are left out (the first: {})",
                                     bad.count, name, bad.first[0]));
    } catch (const Error& e) {
      if (name == tables.DefaultTrainSplit()) throw;
      notes_.push_back(fmt::format("split '{}' is left out: {}", name, e.what()));
    }
  }
}

void ImageDataset::OpenLists(const std::vector<std::string>& files,
                             std::vector<std::string>* problems) {
  const fs::path root(directory_);
  const bool named = fs::is_regular_file(root / "classes.txt");
  if (named) class_names_ = ReadClassNames((root / "classes.txt").string());
  num_classes_ = static_cast<int>(class_names_.size());
  const OnProblem problem = ProblemsInto(problems);
  size_t examples = 0;
  for (const std::string& name : files) {
    splits_.push_back(ReadList(root, name, class_names_.size(), problem, examples));
    for (const Example& example : splits_.back().examples)
      num_classes_ = std::max(num_classes_, example.label + 1);
  }
}

std::vector<std::string> ImageDataset::split_names() const {
  std::vector<std::string> names;
  for (const Split& split : splits_) names.push_back(split.name);
  return names;
}

size_t ImageDataset::Find(std::string_view name) const {
  const auto found = std::ranges::find(splits_, name, &Split::name);
  if (found == splits_.end()) NoSuchSplit(directory_, name, split_names());
  return static_cast<size_t>(found - splits_.begin());
}

Split ImageDataset::Load(std::string_view name, size_t limit) const {
  const Split& split = splits_[Find(name)];
  const size_t size = split.examples.size();
  const size_t count = limit ? std::min(limit, size) : size;
  Split result{split.name, {}};
  for (size_t i = 0; i < count; ++i) {
    const size_t index = form_ == DatasetForm::kFolders ? i * size / count : i;
    const Example& example = split.examples[index];
    std::error_code ignored;
    if (!missing_allowed_ && !fs::exists(example.path, ignored))
      Fail("{}: split '{}' names the image {}, which does not exist{}", directory_, name,
           example.path, DidYouMeanPath(example.path));
    result.examples.push_back(example);
  }
  return result;
}

void ImageDataset::LeaveOut(std::string_view split, const std::set<std::string>& paths) {
  std::vector<Example>& examples = splits_[Find(split)].examples;
  std::erase_if(examples, [&](const Example& e) { return paths.contains(e.path); });
  if (examples.empty()) Fail("{}: split '{}': no image can be read", directory_, split);
}

std::vector<ToDivide> GroupsOf(const std::vector<Example>& examples, LabelKind kind) {
  std::unordered_map<std::string, size_t> first;
  std::vector<ToDivide> groups;
  for (const Example& e : examples)
    groups.push_back({e.label, first.emplace(NormalPath(e), groups.size()).first->second,
                      LabelsToDivide(e.targets, kind)});
  return groups;
}

void ImageDataset::HoldOut(const std::string& split, double share, uint64_t seed) {
  if (Contains(split_names(), kHoldout))
    Fail("{}: has a split '{}' of its own", directory_, kHoldout);
  std::vector<Example>& examples = splits_[Find(split)].examples;
  const std::vector<bool> held = DrawHoldout(GroupsOf(examples, kind_), share, seed);
  const auto count = static_cast<size_t>(std::ranges::count(held, true));
  RefuseEmptyParts(directory_, split, held.size() - count, count);
  std::vector<Example> rest, part;
  for (size_t i = 0; i < held.size(); ++i)
    (held[i] ? part : rest).push_back(std::move(examples[i]));
  examples = std::move(rest);
  splits_.push_back({kHoldout, std::move(part)});
}

std::vector<std::string> ImageDataset::Notes(bool all) const {
  std::vector<std::string> notes = notes_;
  if (!left_out_.empty())
    notes.push_back(fmt::format("{}: {} that {} not read {} left out (the first is {})", directory_,
                                left_out_.size() == 1
                                    ? "1 image of a format"
                                    : fmt::format("{} images of formats", left_out_.size()),
                                left_out_.size() == 1 ? "is" : "are",
                                left_out_.size() == 1 ? "is" : "are", left_out_.front()));
  if (form_ == DatasetForm::kTables) return notes;
  std::vector<ClassCounts> counts;
  std::unordered_map<std::string, const Example*> seen;
  std::string conflict;
  for (const Split& split : splits_) {
    counts.push_back({split.name, std::vector<size_t>(static_cast<size_t>(num_classes_))});
    for (const Example& e : split.examples) {
      ++counts.back().per_class[e.label];
      if (form_ == DatasetForm::kFolders) continue;
      const auto [other, is_new] = seen.emplace(NormalPath(e), &e);
      if (!is_new && other->second->label != e.label && conflict.empty())
        conflict = fmt::format("{}: {} is listed with the labels {} and {}", directory_, e.path,
                               other->second->label, e.label);
    }
  }
  if (!conflict.empty()) notes.push_back(conflict);
  for (std::string& note : ClassNotes(directory_, class_names_, counts, all))
    notes.push_back(std::move(note));
  for (const std::string& pair : NearlyEqualNames(class_names_))
    notes.push_back(fmt::format("{}: the classes {} differ only in case", directory_, pair));
  return notes;
}

std::string ImageDataset::DefaultTrainSplit() const { return DefaultTrain(split_names()); }
std::string ImageDataset::DefaultValidationSplit() const {
  return DefaultValidation(split_names());
}
std::string ImageDataset::DefaultEvalSplit() const { return DefaultEval(split_names()); }

std::vector<std::string> NamesBelowCommonFolder(std::span<const std::string> paths) {
  fs::path common;
  std::vector<fs::path> all;
  for (const std::string& name : paths) {
    all.push_back(fs::absolute(name).lexically_normal());
    const fs::path folder = all.back().parent_path();
    if (common.empty()) common = folder;
    const auto mine = std::ranges::mismatch(common, folder).in1;
    fs::path shared;
    for (auto part = common.begin(); part != mine; ++part) shared /= *part;
    common = shared;
  }
  std::vector<std::string> names;
  for (const fs::path& path : all) names.push_back(path.lexically_relative(common).string());
  return names;
}

std::vector<std::string> Overlap(const Split& a, const Split& b) {
  std::unordered_set<std::string> in_b;
  for (const Example& example : b.examples) in_b.insert(NormalPath(example));
  std::vector<std::string> both;
  for (const Example& example : a.examples)
    if (in_b.erase(NormalPath(example))) both.push_back(example.path);
  return both;
}

}  // namespace graft
