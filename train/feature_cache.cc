#include "train/feature_cache.h"

#include <cstring>
#include <filesystem>

#include "ops/isa.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/cache_folder.h"
#include "runtime/io/file_stamp.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTensor = "features";

size_t Bound() { return CacheBound("GRAFT_FEATURE_CACHE", kFeatureCacheBytes); }

fs::path Folder() {
  const std::string cache = CacheDirectory();
  return cache.empty() ? fs::path() : fs::path(cache) / "features";
}

void Add(Sha256& hash, const std::string& text) {
  const uint64_t size = text.size();
  hash.Update(std::as_bytes(std::span(&size, 1)));
  hash.Update(std::as_bytes(std::span(text)));
}

std::string HashOf(std::span<const float> values) { return Sha256Hex(std::as_bytes(values)); }

}  // namespace

std::string FeatureKey(const FeatureCut& cut, const ParamStore& params, const RunConfig& config,
                       const BatchSource& data) {
  const std::optional<FileStamp> program = StampOf("/proc/self/exe");
  if (Folder().empty() || Bound() == 0 || !program) return "";
  Sha256 hash;
  if (!data.HashInputs(hash)) return "";
  Add(hash, fmt::format("{} {} {} {} {}", program->path, program->size, program->modified_ns,
                        program->changed_ns, ActiveIsa()));
  Add(hash, config.preprocess);
  Add(hash, GraphHash(cut.frozen));
  for (const std::string& name : cut.frozen.ParamNames()) {
    Add(hash, name);
    hash.Update(params.Get(name).bytes());
  }
  return hash.Hex();
}

std::optional<std::vector<float>> ReadFeatures(const std::string& key, size_t examples,
                                               size_t size) {
  if (key.empty()) return std::nullopt;
  const fs::path path = Folder() / (key + ".safetensors");
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  try {
    const SafetensorsFile file = SafetensorsFile::Open(path);
    const FileTensor& t = file.Get(kTensor);
    const std::span<const std::byte> bytes = file.bytes(t);
    if (t.dtype != FileDType::kF32 || bytes.size() != examples * size * sizeof(float))
      return std::nullopt;
    std::vector<float> values(examples * size);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    const auto told = file.metadata().find("sha256");
    if (told == file.metadata().end() || told->second != HashOf(values)) return std::nullopt;
    fs::last_write_time(path, fs::file_time_type::clock::now(), error);
    return values;
  } catch (const Error&) {
    return std::nullopt;  // a damaged file is none
  }
}

void KeepFeatures(const std::string& key, const Features& features) {
  const size_t bytes = features.values.size() * sizeof(float);
  if (key.empty() || features.interrupted || bytes > Bound() / 4) return;
  try {
    fs::create_directories(Folder());
    KeepNewest(Folder(), Bound() - bytes);
    ParamStore store;
    const int64_t size = static_cast<int64_t>(features.size);
    store.Set(kTensor, {static_cast<int64_t>(features.values.size()) / size, size},
              features.values);
    const FilePlace place(Directory::Open(Folder()), key + ".safetensors", true);
    WriteSafetensors(place, store, {{"sha256", HashOf(features.values)}});
  } catch (const std::exception&) {
    // Read-only homes, full disks, another process that writes the same entry.
  }
}

}  // namespace graft
