#include "data/text_files.h"

#include <algorithm>
#include <unordered_map>

#include "data/splits.h"
#include "data/text.h"
#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kUsualOrder = {"train", "dev", "val", "valid", "validation", "test"};

}  // namespace

std::optional<RowFormat> FormatOf(const fs::path& path) {
  const std::string extension = path.extension().string();
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

std::string NearlyTexts(const std::string& directory) {
  const std::vector<std::string> others{".tsv", ".csv", ".jsonl", ".json", ".parquet", ".arrow"};
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (Contains(kUsualOrder, it->path().stem().string()) && !FormatOf(it->path()) &&
        Contains(others, ToLowerAscii(it->path().extension().string())))
      return it->path().string();
  return "";
}

}  // namespace graft
