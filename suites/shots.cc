#include "suites/shots.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "data/splits.h"
#include "data/text_labels.h"
#include "runtime/error.h"
#include "runtime/io/listing.h"
#include "runtime/rng.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTrainList = "train_meta.list.num_shot_";

// The directory in which the image `name` is; "" if there is none.
std::string ImagesOf(const std::string& directory, const std::string& images,
                     const std::string& name) {
  std::error_code none;
  std::vector<std::string> places{directory + "/images", directory};
  if (!images.empty()) places = {images};
  for (const std::string& place : places)
    if (fs::exists(place + "/" + name, none)) return place;
  return "";
}

}  // namespace

std::vector<size_t> DrawShots(std::span<const int> labels, size_t shots, uint64_t seed,
                              size_t skip) {
  std::map<int, std::vector<size_t>> classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(i);
  const uint64_t key = MakeKey(seed, Purpose::kData, "shots");
  std::vector<size_t> drawn;
  for (const auto& [label, examples] : classes) {
    const std::vector<int32_t> order =
        Permutation(static_cast<int32_t>(examples.size()), {key, static_cast<uint64_t>(label), 0});
    for (size_t i = skip; i < std::min(skip + shots, order.size()); ++i)
      drawn.push_back(examples[order[i]]);
  }
  return drawn;
}

std::optional<PublishedShots> PublishedShots::Find(const std::string& directory) {
  for (const char* below : {"", "/annotations"}) {
    for (const DirectoryEntry& entry : ListIfReadable(directory + below))
      if (entry.name.starts_with(kTrainList)) {
        PublishedShots found;
        found.directory_ = directory, found.lists_ = directory + below;
        return found;
      }
  }
  return {};
}

Split PublishedShots::Read(const std::string& file, const char* name,
                           const std::string& images) const {
  const std::string path = lists_ + "/" + file;
  std::error_code none;
  if (!fs::exists(path, none)) {
    std::vector<std::string> there;
    for (const DirectoryEntry& entry : ListIfReadable(lists_))
      if (entry.name.find("_meta.list") != entry.name.npos) there.push_back(entry.name);
    Fail("{}: there is no such list; this few-shot task has {}", path, fmt::join(there, ", "));
  }
  Split split{name, {}};
  std::string place;
  const std::string text = ReadTextFile(path, kMaxListBytes);
  size_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view words = TrimBlanks(std::string_view(text).substr(begin, end - begin));
    begin = end + 1, ++line;
    if (words.empty()) continue;
    const size_t blank = words.find_last_of(" \t");
    int label = -1;
    const std::string_view number = blank == words.npos ? "" : words.substr(blank + 1);
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), label);
    if (error != std::errc() || stop != number.data() + number.size() || label < 0 ||
        label >= kMaxClasses)
      Fail("{}:{}: expected 'name label' with a label from 0 to {}, found '{}'", path, line,
           kMaxClasses - 1, words);
    const std::string image(TrimBlanks(words.substr(0, blank)));
    if (place.empty()) place = ImagesOf(directory_, images, image);
    if (place.empty() || !fs::exists(place + "/" + image, none))
      Fail("{}:{}: names the image {}, which is not in {}; hint: --images DIR", path, line, image,
           !place.empty()   ? place
           : images.empty() ? fmt::format("{0}/images or {0}", directory_)
                            : images);
    split.examples.push_back({place + "/" + image, label});
    CheckExampleCount(split.examples.size(), path);
  }
  if (split.examples.empty()) Fail("{}: expected lines of the form 'name label', found none", path);
  return split;
}

Split PublishedShots::Train(int64_t shots, int64_t seed, const std::string& images) const {
  return Read(fmt::format("{}{}.seed_{}", kTrainList, shots, seed), "train", images);
}
Split PublishedShots::Validation(const std::string& images) const {
  return Read("val_meta.list", "val", images);
}
Split PublishedShots::Test(const std::string& images) const {
  return Read("test_meta.list", "test", images);
}

}  // namespace graft
