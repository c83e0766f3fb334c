#include "adapters/base_hash.h"

#include <filesystem>
#include <functional>

#include "runtime/io/atomic_file.h"
#include "runtime/io/file_stamp.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The file of the cache for this checkpoint; "" where there is no place for a cache.
std::string CacheFile(const FileStamp& stamp) {
  const std::string directory = CacheDirectory();
  if (directory.empty()) return "";
  return directory + "/sha256/" + Sha256Hex(std::as_bytes(std::span(stamp.path))) + ".json";
}

std::optional<std::string> Lookup(const FileStamp& stamp) {
  const std::string file = CacheFile(stamp);
  std::error_code error;
  if (file.empty() || !fs::is_regular_file(file, error)) return std::nullopt;
  try {
    const Json json = ReadJson(file, {.bytes = 1 << 16, .depth = 4});
    constexpr int64_t kAny = int64_t{1} << 62;
    const FileStamp kept{GetString(json, "path", file), GetInt(json, "size", 0, kAny, file),
                         GetInt(json, "modified_ns", -kAny, kAny, file),
                         GetInt(json, "changed_ns", -kAny, kAny, file)};
    std::optional<std::string> hash = GetString(json, "sha256", file);
    const bool hex =
        hash->size() == 64 && hash->find_first_not_of("0123456789abcdef") == std::string::npos;
    if (hex && kept == stamp) return hash;
  } catch (const Error&) {
    // A damaged entry is as good as none.
  }
  return std::nullopt;
}

void Keep(const FileStamp& stamp, const std::string& hash) {
  if (!stamp.Settled()) return;
  const std::string file = CacheFile(stamp);
  if (file.empty()) return;
  try {
    const fs::path entry(file);
    fs::create_directories(entry.parent_path());
    const FilePlace place(Directory::Open(entry.parent_path()), entry.filename(), true);
    WriteFileAtomically(place, DumpJson({{"path", stamp.path},
                                         {"size", stamp.size},
                                         {"modified_ns", stamp.modified_ns},
                                         {"changed_ns", stamp.changed_ns},
                                         {"sha256", hash}}) +
                                   "\n");
  } catch (const std::exception&) {
    // The cache stays as it is: in a read-only home, on a full disk, or where another process
    // writes the same entry.
  }
}

std::string FileHash(const std::string& path) {
  const std::optional<FileStamp> before = StampOf(path);
  if (before)
    if (std::optional<std::string> kept = Lookup(*before)) return *kept;
  const std::string hash = Sha256OfFile(path);
  if (before && StampOf(path) == before) Keep(*before, hash);
  return hash;
}

using HashOne = std::function<std::optional<std::string>(const std::string& path)>;

std::optional<std::string> Hash(const std::string& model, const HashOne& one) {
  std::vector<std::string> hashes;
  for (const std::string& path : BaseFiles(model)) {
    const std::optional<std::string> hash = one(path);
    if (!hash) return std::nullopt;
    hashes.push_back(*hash);
  }
  return JoinHashes(hashes, fs::is_directory(model));
}

}  // namespace

std::vector<std::string> BaseFiles(const std::string& model) {
  if (model.starts_with("init:")) return {};
  if (!fs::is_directory(model)) return {model};
  const SafetensorsModel whole = SafetensorsModel::Open(model);
  std::vector<std::string> paths;
  for (const SafetensorsFile& file : whole.files()) paths.push_back(file.path());
  // config.json belongs to the model, as it says what the tensors do not: heads, eps, activation,
  // pooling.
  if (const std::string config = model + "/config.json"; fs::exists(config))
    paths.push_back(config);
  return paths;
}

std::string JoinHashes(const std::vector<std::string>& hashes, bool directory) {
  if (!directory) return hashes.empty() ? "" : hashes.front();
  std::string all;
  for (const std::string& hash : hashes) all += hash;
  return Sha256Hex(std::as_bytes(std::span(all)));
}

std::string BaseHash(const std::string& model) { return *Hash(model, FileHash); }

std::optional<std::string> KnownBaseHash(const std::string& model) {
  return Hash(model, [](const std::string& path) -> std::optional<std::string> {
    const std::optional<FileStamp> stamp = StampOf(path);
    return stamp ? Lookup(*stamp) : std::nullopt;
  });
}

}  // namespace graft
