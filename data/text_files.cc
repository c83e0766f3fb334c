#include "data/text_files.h"

#include <algorithm>
#include <unordered_map>

#include "data/splits.h"
#include "data/text.h"
#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/listing.h"
#include "runtime/io/near_path.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

bool IsUsual(const fs::path& path) {
  return PurposeOf(path.stem().string()) != SplitPurpose::kOther;
}

}  // namespace

std::optional<RowFormat> FormatOf(const fs::path& path) {
  const std::string extension = ToLowerAscii(path.extension().string());
  if (extension == ".tsv") return RowFormat::kTsv;
  if (extension == ".csv") return RowFormat::kCsv;
  if (extension == ".jsonl") return RowFormat::kJsonl;
  return std::nullopt;
}

std::vector<std::string> ReadLabelsFile(const std::string& path) {
  ReadUtf8File(path, kMaxNamesBytes);  // checks the encoding
  std::vector<std::string> names = ReadClassNames(path);
  std::unordered_map<std::string_view, size_t> lines;
  for (size_t i = 0; i < names.size(); ++i)
    if (const auto [other, is_new] = lines.emplace(names[i], i + 1); !is_new)
      Fail("{}:{}: the class '{}' is in line {} too", path, i + 1, names[i], other->second);
  return names;
}

void RefuseFile(const std::string& path) {
  static const std::vector<std::pair<std::vector<std::string>, const char*>> kHints = {
      {{".json"}, "; hint: an object in each line: jq -c '.[]' FILE.json > FILE.jsonl"},
      {{".xlsx", ".xls", ".ods"}, "; hint: save the sheet as CSV"},
      {{".parquet", ".arrow", ".feather"}, "; hint: pandas writes it as .csv or .jsonl"},
      {{".txt"}, "; hint: rename a table to .csv or .tsv; plain texts are --objective's, a folder"},
      {{".safetensors", ".pth", ".pt", ".bin", ".npz"}, ", as of a model; hint: --model takes it"},
      {{".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}, "; hint: unpack it"}};
  const std::string ending = ToLowerAscii(fs::path(path).extension().string());
  const char* hint = "";
  for (const auto& [endings, helps] : kHints)
    if (Contains(endings, ending)) hint = helps;
  Fail("{}: expected the directory of a data set, or a table (.csv, .tsv, .jsonl); found a file{}",
       path, hint);
}

std::vector<fs::path> FindSplits(const std::string& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored))
    Fail("{}: the data set does not exist{}", directory, DidYouMeanPath(directory));
  if (!fs::is_directory(directory, ignored) && !FormatOf(directory)) RefuseFile(directory);
  if (!fs::is_directory(directory, ignored)) {
    RecordRead(directory);
    return {directory};
  }
  std::vector<fs::path> paths;
  for (const DirectoryEntry& entry : ListDirectory(directory))
    if (FormatOf(entry.name) && !IsHidden(entry.name) && entry.is_file())
      paths.push_back(fs::path(directory) / entry.name);
  const auto rank = [](const fs::path& path) {
    static const std::vector<std::string> kOrder = {"train", "dev",        "val",
                                                    "valid", "validation", "test"};
    const std::string stem = path.stem().string();
    return std::pair(PurposeOf(stem), std::ranges::find(kOrder, stem) - kOrder.begin());
  };
  std::sort(paths.begin(), paths.end(), [&](const fs::path& a, const fs::path& b) {
    return std::pair(rank(a), a.string()) < std::pair(rank(b), b.string());
  });
  for (const fs::path& path : paths) RecordRead(path);  // also those that this command leaves alone
  for (size_t i = 1; i < paths.size(); ++i)
    if (paths[i].stem() == paths[i - 1].stem())
      Fail("{}: two files of the split '{}': {} and {}", directory, paths[i].stem().string(),
           paths[i - 1].filename().string(), paths[i].filename().string());
  return paths;
}

bool HoldsTexts(const std::string& directory) {
  bool table = false, folder = false;
  std::error_code error;
  if (fs::is_regular_file(directory, error)) return FormatOf(directory).has_value();
  for (const DirectoryEntry& entry : ListIfReadable(directory)) {
    if (IsHidden(entry.name)) continue;
    folder |= entry.is_directory();
    if (!FormatOf(entry.name)) continue;
    if (IsUsual(entry.name)) return true;
    table = true;
  }
  return table && !folder;
}

std::string NearlyTexts(const std::string& directory) {
  const std::vector<std::string> others{".json", ".parquet", ".arrow", ".xlsx", ".xls", ".ods"};
  for (const auto& [name, kind, link] : ListIfReadable(directory))
    if (IsUsual(name) && !IsHidden(name) && !FormatOf(name) &&
        Contains(others, ToLowerAscii(fs::path(name).extension().string())))
      return (fs::path(directory) / name).string();
  return "";
}

}  // namespace graft
