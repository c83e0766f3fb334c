#include "data/corpus.h"

#include <algorithm>
#include <filesystem>

#include "data/holdout.h"
#include "data/splits.h"
#include "data/text_rows.h"
#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The files in the order of their names, which decides the numbers of the texts.
std::vector<fs::path> TextFiles(const std::string& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored))
    Fail("{}: the corpus does not exist{}", directory, DidYouMeanPath(directory));
  if (!fs::is_directory(directory, ignored))
    Fail("{}: expected the directory of a corpus, found a file", directory);
  std::vector<fs::path> paths;
  for (const DirectoryEntry& entry : ListDirectory(directory)) {
    const fs::path file(entry.name);
    if (!entry.is_file() || IsHidden(entry.name)) continue;
    // The texts of a data set with classes stand in its tables, and what it has of .txt is none.
    const bool table = file.extension() == ".tsv" || file.extension() == ".csv" ||
                       file.extension() == ".jsonl";
    if (entry.name == "labels.txt" || entry.name == "classes.txt" ||
        (table && PurposeOf(file.stem().string()) != SplitPurpose::kOther))
      Fail(
          "{}: holds {}, as a data set with classes does; expected the directory of a corpus, "
          "whose .txt files are texts; hint: put the texts alone into .txt files of a directory",
          directory, entry.name);
    if (file.extension() == ".txt") paths.push_back(fs::path(directory) / file);
  }
  if (paths.empty()) Fail("{}: expected texts as .txt files, found none", directory);
  return paths;
}

// Appends lines or, if empty lines separate documents, these.
void AppendTexts(const std::string& text, const std::string& path,
                 std::vector<TextExample>* texts) {
  std::vector<std::pair<std::string_view, size_t>> lines;
  ForEachLine(text,
              [&](std::string_view line, size_t number) { lines.emplace_back(line, number); });
  const auto gap = [&](size_t i) { return lines[i].second > lines[i - 1].second + 1; };
  bool documents = false;
  for (size_t i = 1; i < lines.size(); ++i) documents |= gap(i);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (documents && i > 0 && !gap(i)) {
      texts->back().text.append("\n").append(lines[i].first);
    } else {
      CheckExampleCount(texts->size() + 1, path);
      texts->push_back({std::string(lines[i].first), {}, 0});
    }
  }
}

}  // namespace

Corpus::Corpus(const std::string& directory) : directory_(directory) {
  uint64_t bytes_left = kMaxTableBytes;
  for (const fs::path& path : TextFiles(directory)) {
    RecordRead(path);
    const std::string stem = path.stem().string();
    const SplitPurpose purpose = PurposeOf(stem);
    const bool held = purpose == SplitPurpose::kValidation || purpose == SplitPurpose::kTest;
    const std::string name = held ? stem : "train";
    auto split = std::ranges::find(splits_, name, &TextSplit::name);
    if (split == splits_.end()) split = splits_.insert(splits_.end(), TextSplit{name, {}});
    const std::string text = ReadUtf8File(path, bytes_left);
    bytes_left -= std::min<uint64_t>(bytes_left, text.size());
    AppendTexts(text, path, &split->examples);
  }
}

std::vector<std::string> Corpus::split_names() const {
  std::vector<std::string> names;
  for (const TextSplit& split : splits_) names.push_back(split.name);
  return names;
}

TextSplit Corpus::Load(std::string_view name, size_t limit) const {
  const auto split = std::ranges::find(splits_, name, &TextSplit::name);
  if (split == splits_.end()) NoSuchSplit(directory_, name, split_names());
  if (split->examples.empty()) Fail("{}: split '{}': expected texts, found none", directory_, name);
  TextSplit chosen = *split;
  if (limit > 0 && limit < chosen.examples.size()) chosen.examples.resize(limit);
  return chosen;
}

void Corpus::HoldOut(const std::string& split, double share, uint64_t seed) {
  Load(split, 1);  // is there
  const auto at = std::ranges::find(splits_, split, &TextSplit::name);
  TextSplit rest{split, {}}, part{kHoldout, {}};
  const std::vector<bool> held = DrawHoldout(GroupsOf(at->examples), share, seed);
  const auto count = static_cast<size_t>(std::ranges::count(held, true));
  RefuseEmptyParts(directory_, split, held.size() - count, count);
  for (size_t i = 0; i < held.size(); ++i)
    (held[i] ? part : rest).examples.push_back(std::move(at->examples[i]));
  *at = std::move(rest);
  splits_.push_back(std::move(part));
}

std::string Corpus::DefaultTrainSplit() const { return DefaultTrain(split_names()); }
std::string Corpus::DefaultValidationSplit() const { return DefaultValidation(split_names()); }
std::string Corpus::DefaultEvalSplit() const { return DefaultEval(split_names()); }

}  // namespace graft
