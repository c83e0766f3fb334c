#include "adapters/unmerge.h"

#include <algorithm>
#include <filesystem>

#include "adapters/fused_model.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/sha256.h"

namespace graft {
namespace {

// A JSON list in the order of the base's data: for each tensor its name, and its name in the fused
// model or null if it is kept here.
constexpr const char* kNames = "graft.base_tensors";
constexpr const char* kHash = "graft.base_tensors_sha256";
constexpr const char* kMetadata = "graft.base_metadata";
constexpr const char* kHeader = "graft.base_header";  // absent if the base was in shards
constexpr const char* kConfig = "graft.base_config";  // text of config.json; absent for a file
// Text of preprocessor_config.json, if the base had one: that of the fused model is the run's.
constexpr const char* kProcessor = "graft.base_preprocessor";

TensorToWrite View(const SafetensorsFile& file, const FileTensor& t) {
  return {t.name, t.dtype, t.shape, file.bytes(t)};
}

std::vector<TensorToWrite> AllTensors(const SafetensorsModel& model) {
  std::vector<TensorToWrite> tensors;
  for (const SafetensorsFile& file : model.files())
    for (const FileTensor& t : file.tensors()) tensors.push_back(View(file, t));
  return tensors;
}

using ByName = std::map<std::string, TensorToWrite>;

ByName Indexed(const SafetensorsModel& model) {
  ByName tensors;
  for (TensorToWrite& t : AllTensors(model)) tensors.emplace(t.name, t);
  return tensors;
}

// The hash of names, types, shapes and bytes.
std::string HashOf(const std::vector<TensorToWrite>& tensors) {
  Sha256 hash;
  for (const TensorToWrite& t : tensors) {
    const std::string head = fmt::format("{}\n{}\n[{}]\n{}\n", t.name, ToString(t.dtype),
                                         fmt::join(t.shape, ","), t.bytes.size());
    hash.Update(std::as_bytes(std::span(head)));
    hash.Update(t.bytes);
  }
  return hash.Hex();
}

bool Same(const TensorToWrite& a, const TensorToWrite& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::ranges::equal(a.bytes, b.bytes);
}

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Finds a tensor of a model by its content: a base without a head has other names than the fused
// model, which got one ("bert.embeddings..." for "embeddings...").
class ByContent {
 public:
  explicit ByContent(const SafetensorsModel& model) : names_(Indexed(model)) {
    for (const auto& [name, t] : names_) contents_.emplace(Text(t.bytes), &t);
  }
  // Returns null if there is none; if several have this content, the one of this name is preferred.
  const TensorToWrite* Find(const TensorToWrite& t) const {
    if (const auto it = names_.find(t.name); it != names_.end() && Same(it->second, t))
      return &it->second;
    const auto [first, last] = contents_.equal_range(Text(t.bytes));
    for (auto it = first; it != last; ++it)
      if (Same(*it->second, t)) return it->second;
    return nullptr;
  }

 private:
  ByName names_;
  std::multimap<std::string_view, const TensorToWrite*> contents_;
};

const std::string& KeptEntry(const SafetensorsFile& kept, const char* key) {
  const auto it = kept.metadata().find(key);
  if (it == kept.metadata().end())
    Fail("{}: no '{}' in its metadata; not written by graft fuse --keep-base", kept.path(), key);
  return it->second;
}

// Writes the bytes of the base's file, or one file in place of its shards.
void WriteBase(const SafetensorsFile& kept, const std::vector<TensorToWrite>& tensors,
               const std::string& out) {
  if (const auto header = kept.metadata().find(kHeader); header != kept.metadata().end())
    return WriteSafetensorsAs(out, tensors, header->second);
  const Json json = ParseJson(KeptEntry(kept, kMetadata), kept.path());
  StringMap metadata;
  for (const auto& [key, value] : json.items())
    if (value.is_string()) metadata[key] = value.get<std::string>();
  WriteSafetensors(out, tensors, metadata);
}

}  // namespace

std::string KeptBasePath(const std::string& fused) {
  if (std::filesystem::is_directory(fused)) return fused + "/base.safetensors";
  constexpr std::string_view kEnding = ".safetensors";
  const std::string stem =
      fused.ends_with(kEnding) ? fused.substr(0, fused.size() - kEnding.size()) : fused;
  return stem + ".base.safetensors";
}

void KeepBase(const std::string& base, const std::string& fused) {
  const SafetensorsModel original = SafetensorsModel::Open(base);
  const SafetensorsModel merged = SafetensorsModel::Open(fused);
  const ByContent now(merged);
  const std::vector<TensorToWrite> all = AllTensors(original);
  std::vector<TensorToWrite> kept;
  Json names = Json::array();
  for (const TensorToWrite& t : all) {
    const TensorToWrite* there = now.Find(t);
    names.push_back({t.name, there ? Json(there->name) : Json()});
    if (!there) kept.push_back(t);
  }
  StringMap metadata{{kNames, DumpJson(names)},
                     {kHash, HashOf(all)},
                     {kMetadata, DumpJson(Json(original.metadata()))}};
  if (original.files().size() == 1) metadata[kHeader] = original.files().front().header();
  if (const std::string config = base + "/config.json"; std::filesystem::exists(config))
    metadata[kConfig] = ReadFile(config, JsonLimits{}.bytes);
  if (const std::string file = base + "/preprocessor_config.json"; std::filesystem::exists(file))
    metadata[kProcessor] = ReadFile(file, JsonLimits{}.bytes);
  WriteSafetensors(KeptBasePath(fused), kept, metadata);
}

void UndoFuse(const std::string& fused, const std::string& out) {
  const std::string path = KeptBasePath(fused);
  if (!std::filesystem::exists(path))
    Fail("{}: the bytes of its base were not kept (no {}); hint: graft fuse --keep-base", fused,
         path);
  const SafetensorsFile file = SafetensorsFile::Open(path);
  const SafetensorsModel merged = SafetensorsModel::Open(fused);
  const ByName now = Indexed(merged);
  std::vector<TensorToWrite> tensors;
  for (const Json& entry : ParseJson(KeptEntry(file, kNames), path)) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
        !(entry[1].is_string() || entry[1].is_null()))
      Fail("{}: '{}' is no list of pairs of names", path, kNames);
    const std::string name = entry[0].get<std::string>();
    if (entry[1].is_null()) {
      tensors.push_back(View(file, file.Get(name)));
      continue;
    }
    const auto it = now.find(entry[1].get<std::string>());
    if (it == now.end()) Fail("{}: no tensor '{}'", fused, entry[1].get<std::string>());
    tensors.push_back(it->second);
    tensors.back().name = name;
  }
  if (HashOf(tensors) != KeptEntry(file, kHash))
    Fail("{}: it or {} has changed since the merge; nothing was written", fused, path);
  const auto config = file.metadata().find(kConfig);
  if (config == file.metadata().end()) return WriteBase(file, tensors, out);
  FreshDirectory directory(out);
  WriteFileAtomically(directory.path() + "/config.json", config->second);
  WriteBase(file, tensors, directory.path() + "/model.safetensors");
  if (const auto it = file.metadata().find(kProcessor); it != file.metadata().end())
    WriteFileAtomically(directory.path() + "/preprocessor_config.json", it->second);
  CopyTokenizer(fused, directory.path());
  directory.Keep();
}

}  // namespace graft
