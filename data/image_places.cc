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
  const bool ended = std::ranges::all_of(names, HasImageExtension);
  const bool backslashes =
      std::ranges::any_of(names, [](const auto& n) { return n.find('\\') != n.npos; });
  const Names endings = ended ? Names{""} : ImageExtensions();
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

Names FirstTexts(const TextDataset& data, const std::string& split) {
  Names names;
  for (const TextExample& e : data.Load(split, kLooked).examples) names.push_back(e.text);
  return names;
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
  return FindPlaces(root.string(), split, FirstTexts(tables, split));
}

ImagePlaces PlacesOfImages(const std::string& table, Names names) {
  names.resize(std::min(names.size(), kLooked));
  const fs::path path(table);
  return FindPlaces(path.parent_path().string(), path.stem().string(), names);
}

bool NamesImages(const TextDataset& data) {
  size_t images = 0;
  if (data.pairs()) return false;
  for (const std::string& name : data.split_names()) {
    if (data.problems(name).count > 0) continue;
    const Names texts = FirstTexts(data, name);
    images += texts.size();
    if (std::ranges::all_of(texts, HasImageExtension)) continue;
    const ImagePlaces places = PlacesOfImages(data, name);
    if (places.found < texts.size()) return false;
  }
  return images > 0;
}

std::string LabelsTable(const std::string& directory) {
  for (const char* name : {"labels.csv", "labels.tsv", "labels.jsonl"}) {
    const std::string path = (fs::path(directory) / name).string();
    if (Exists(path)) return path;
  }
  return "";
}

}  // namespace graft
