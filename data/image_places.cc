#include "data/image_places.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "data/image_folders.h"
#include "data/splits.h"
#include "runtime/io/listing.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr size_t kLooked = 20, kMostFolders = 64;

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Folders below in the order in which images are looked for.
Names FoldersBelow(const std::string& root, const std::string& split) {
  Names folders;
  for (const DirectoryEntry& entry : ListIfReadable(root))
    if (!entry.name.starts_with('.') && entry.is_directory()) folders.push_back(entry.name);
  const auto rank = [&](const std::string& name) {
    const std::string lower = ToLowerAscii(name);
    return std::pair(lower == ToLowerAscii(split) ? 0 : lower == "images" ? 1 : 2, name);
  };
  std::ranges::sort(folders, {}, rank);
  folders.resize(std::min(folders.size(), kMostFolders));
  folders.insert(folders.begin(), "");
  return folders;
}

ImagePlaces FindPlaces(const std::string& root, const std::string& split, const Names& names) {
  const auto with_ending = static_cast<size_t>(std::ranges::count_if(names, HasImageExtension));
  const bool backslashes =
      std::ranges::any_of(names, [](const auto& n) { return n.find('\\') != n.npos; });
  Names endings{""};
  if (2 * with_ending < names.size())
    for (const std::string& ending : ImageExtensions()) endings.push_back(ending);
  ImagePlaces best{.root = root, .folder = "", .extension = "", .looked = names.size()};
  const auto measure = [&](ImagePlaces places) {
    places.found = static_cast<size_t>(
        std::ranges::count_if(names, [&](const auto& name) { return Exists(places.Path(name)); }));
    if (places.found > best.found) best = places;
  };
  for (const std::string& folder : FoldersBelow(root, split))
    for (const bool turned : {false, true})
      for (const std::string& ending : endings)
        if (best.found < names.size() && turned <= backslashes)
          measure({root, folder, ending, turned, names.size(), 0});
  return best;
}

}  // namespace

std::string ImagePlaces::Path(const std::string& name) const {
  std::string turned = name + extension;
  if (backslashes) std::ranges::replace(turned, '\\', '/');
  return (fs::path(root) / folder / turned).string();
}

std::string ImagePlaces::Note() const {
  Names how;
  if (!folder.empty()) how.push_back(fmt::format("in '{}/'", folder));
  if (!extension.empty()) how.push_back(fmt::format("with '{}' behind their names", extension));
  if (backslashes) how.push_back("by names in which '\\' ends a folder");
  return how.empty() ? "" : fmt::format("its images are found {}", fmt::join(how, ", "));
}

ImagePlaces PlacesOfImages(const TextDataset& tables, const std::string& split) {
  std::error_code ignored;
  const fs::path path(tables.directory());
  const fs::path root = fs::is_directory(path, ignored) ? path : path.parent_path();
  return FindPlaces(root.string(), split, tables.FirstTexts(split, kLooked));
}

ImagePlaces PlacesOfImages(const std::string& table, Names names) {
  names.resize(std::min(names.size(), kLooked));
  const fs::path path(table);
  return FindPlaces(path.parent_path().string(), path.stem().string(), names);
}

bool NamesImages(const TextDataset& data) {
  size_t texts = 0, images = 0;
  if (data.pairs()) return false;
  for (const std::string& name : data.split_names()) {
    const Names names = data.FirstTexts(name, kLooked);
    const auto ended = static_cast<size_t>(std::ranges::count_if(names, HasImageExtension));
    texts += names.size();
    images += ended == names.size() ? ended : std::max(ended, PlacesOfImages(data, name).found);
  }
  return 2 * images > texts;
}

std::string LabelsTable(const std::string& directory) {
  for (const char* name : {"labels.csv", "labels.tsv", "labels.jsonl"}) {
    const std::string path = (fs::path(directory) / name).string();
    if (Exists(path)) return path;
  }
  return "";
}

}  // namespace graft
