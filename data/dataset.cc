#include "data/dataset.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <unordered_set>

#include "data/splits.h"
#include "data/text.h"
#include "data/text_rows.h"
#include "runtime/error.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kListNames = {"train800", "val200", "train800val200", "test"};
const std::vector<std::string> kSplitFolders = {"train", "val", "valid", "validation", "test"};
const std::vector<std::string> kExtensions = {".jpg", ".jpeg", ".png", ".ppm",
                                              ".pgm", ".pbm",  ".pnm"};
const std::vector<std::string> kOtherExtensions = {".webp", ".bmp",  ".gif", ".tif", ".tiff",
                                                   ".heic", ".avif", ".jp2", ".jxl"};

std::string_view Trim(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  const size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// "path label" split at the last blank; both empty if there is none.
std::pair<std::string_view, std::string_view> SplitLine(std::string_view line) {
  line = Trim(line);
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

int ParseLabel(std::string_view text, const std::string& where, size_t classes) {
  if (!IsInteger(text))
    Fail("{}: expected the label as a number at the end of the line, found '{}'", where, text);
  int label = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), label);
  const int limit = classes ? static_cast<int>(classes) : kMaxClasses;
  if (error != std::errc{} || label < 0 || label >= limit)
    Fail("{}: expected a label from 0 to {}{}, found {}", where, limit - 1,
         classes ? " (classes.txt has as many lines)" : "", text);
  return label;
}

Split ReadList(const fs::path& directory, const std::string& name, size_t classes,
               size_t& examples) {
  const fs::path path = directory / (name + ".txt");
  Split split{name, {}};
  ForEachLine(ReadTextFile(path.string(), kMaxListBytes), [&](std::string_view line, size_t at) {
    if (Trim(line).empty()) return;
    const std::string where = fmt::format("{}:{}", path.string(), at);
    const auto [file, label] = SplitLine(line);
    if (file.empty()) Fail("{}: expected 'path label', found '{}'", where, line);
    CheckExampleCount(++examples, where);
    split.examples.push_back({(directory / file).string(), ParseLabel(label, where, classes)});
  });
  if (split.examples.empty())
    Fail("{}: expected lines of the form 'path label', found none", path.string());
  return split;
}

// Names of sub-folders, sorted by byte value; hidden ones are left out.
std::vector<std::string> SubFolders(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with('.')) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool HasExtension(const fs::path& path, const std::vector<std::string>& extensions) {
  std::string extension = path.extension().string();
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return Contains(extensions, extension);
}

std::vector<std::string> FilesBelow(const fs::path& directory,
                                    const std::vector<std::string>& extensions) {
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory))
    if (!entry.is_directory() && HasExtension(entry.path(), extensions))
      paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

Split ReadFolders(const fs::path& root, const std::string& name,
                  const std::vector<std::string>& classes) {
  Split split{name, {}};
  for (const std::string& folder : SubFolders(root)) {
    const auto found = std::find(classes.begin(), classes.end(), folder);
    if (found == classes.end())
      Fail("{}: the class '{}' is not among the {} class folders of the training split{}",
           (root / folder).string(), folder, classes.size(), DidYouMean(folder, classes));
    const std::vector<std::string> paths = FilesBelow(root / folder, kExtensions);
    if (paths.empty())
      Fail("{}: expected images ({}) in the class folder, found none", (root / folder).string(),
           "jpg, jpeg, png, ppm, pgm, pbm, pnm");
    for (const std::string& path : paths)
      split.examples.push_back({path, static_cast<int>(found - classes.begin())});
  }
  if (split.examples.empty()) Fail("{}: expected class folders, found none", root.string());
  return split;
}

}  // namespace

ImageDataset::ImageDataset(const std::string& directory) : directory_(directory) {
  std::error_code ignored;
  const fs::path root(directory);
  if (!fs::exists(root, ignored)) Fail("{}: the data set's directory does not exist", directory);
  if (!fs::is_directory(root, ignored))
    Fail("{}: expected the directory of a data set, found a file", directory);
  try {
    std::vector<std::string> lists, others;
    for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
      const fs::path& path = entry.path();
      const std::string stem = path.stem().string();
      if (path.extension() != ".txt" || stem == "classes" || !entry.is_regular_file()) continue;
      if (!Contains(kListNames, stem) && LooksLikeList(path)) others.push_back(stem);
    }
    for (const std::string& name : kListNames)
      if (fs::is_regular_file(root / (name + ".txt"))) lists.push_back(name);
    std::sort(others.begin(), others.end());
    lists.insert(lists.end(), others.begin(), others.end());
    if (lists.empty())
      OpenFolders();
    else
      OpenLists(lists);
  } catch (const fs::filesystem_error& error) {
    Fail("{}: cannot read the data set: {}: {}", directory, error.path1().string(),
         error.code().message());
  }
}

void ImageDataset::OpenLists(const std::vector<std::string>& files) {
  const fs::path root(directory_);
  const bool named = fs::is_regular_file(root / "classes.txt");
  if (named) class_names_ = ReadClassNames((root / "classes.txt").string());
  num_classes_ = static_cast<int>(class_names_.size());
  size_t examples = 0;
  for (const std::string& name : files) {
    splits_.push_back(ReadList(root, name, class_names_.size(), examples));
    for (const Example& example : splits_.back().examples)
      num_classes_ = std::max(num_classes_, example.label + 1);
  }
}

void ImageDataset::OpenFolders() {
  form_ = DatasetForm::kFolders;
  const fs::path root(directory_);
  const std::vector<std::string> folders = SubFolders(root);
  std::vector<std::string> names;
  for (const std::string& name : kSplitFolders)
    if (Contains(folders, name) && !SubFolders(root / name).empty()) names.push_back(name);
  if (folders.empty()) {
    if (const std::string texts = NearlyTexts(directory_); !texts.empty())
      Fail("{}: expected texts as .tsv, .csv or .jsonl (an object in each line)", texts);
    Fail(
        "{}: expected a data set: lists such as train800.txt with lines 'path label', or folders "
        "train/CLASS/*.png; found neither",
        directory_);
  }
  if (names.empty()) {
    class_names_ = folders;
    splits_.push_back(ReadFolders(root, "train", class_names_));
  } else {
    // Classes are those of the training split, so that a test split that lacks one keeps the
    // numbers.
    class_names_ = SubFolders(root / names.front());
    for (const std::string& name : names)
      splits_.push_back(ReadFolders(root / name, name, class_names_));
  }
  num_classes_ = static_cast<int>(class_names_.size());
  for (const std::string& folder : names.empty() ? folders : names)
    for (std::string& path : FilesBelow(root / folder, kOtherExtensions))
      left_out_.push_back(std::move(path));
}

std::vector<std::string> ImageDataset::split_names() const {
  std::vector<std::string> names;
  for (const Split& split : splits_) names.push_back(split.name);
  return names;
}

Split ImageDataset::Load(std::string_view name, size_t limit) const {
  const auto found = std::find_if(splits_.begin(), splits_.end(),
                                  [&](const Split& split) { return split.name == name; });
  if (found == splits_.end()) NoSuchSplit(directory_, name, split_names());
  const size_t size = found->examples.size();
  const size_t count = limit ? std::min(limit, size) : size;
  Split result{found->name, {}};
  for (size_t i = 0; i < count; ++i) {
    const size_t index = form_ == DatasetForm::kLists ? i : i * size / count;
    const Example& example = found->examples[index];
    std::error_code ignored;
    if (!fs::exists(example.path, ignored))
      Fail("{}: split '{}' names the image {}, which does not exist", directory_, name,
           example.path);
    result.examples.push_back(example);
  }
  return result;
}

std::string ImageDataset::DefaultTrainSplit() const {
  return FirstOf({"train800", "train"}, split_names());
}

std::string ImageDataset::DefaultValidationSplit() const {
  return FirstOf({"val200", "val", "valid", "validation"}, split_names());
}

std::string ImageDataset::DefaultTestSplit() const {
  return FirstOf({"test", "val200", "val", "valid", "validation"}, split_names());
}

std::vector<std::string> Overlap(const Split& a, const Split& b) {
  const auto normal = [](const Example& e) { return fs::path(e.path).lexically_normal().string(); };
  std::unordered_set<std::string> in_b;
  for (const Example& example : b.examples) in_b.insert(normal(example));
  std::vector<std::string> both;
  for (const Example& example : a.examples)
    if (in_b.erase(normal(example))) both.push_back(example.path);
  return both;
}

}  // namespace graft
