// Sharded safetensors: the files that an index names, read as one.
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/foreign_file.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// Refuses a shard that does not lie next to its index: that is an attempt to read other files.
void CheckShardName(const std::string& name, const std::string& index) {
  if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != name.npos ||
      name.find('\0') != name.npos)
    Fail("{}: shard '{}': expected the name of a file in the same directory", index, name);
}

std::vector<SafetensorsFile> OpenShards(const std::string& index_path) {
  const Json index = ReadJson(index_path);
  const Json& map = GetObject(index, "weight_map", index_path);
  std::map<std::string, size_t> shards;  // name -> place in files
  for (const auto& item : map.items()) {
    if (!item.value().is_string())
      Fail("{}: weight_map of '{}': expected a file name, found {}", index_path, item.key(),
           item.value().type_name());
    const std::string shard = item.value().get<std::string>();
    CheckShardName(shard, index_path);
    shards.emplace(shard, 0);
  }
  if (shards.empty()) Fail("{}: weight_map is empty", index_path);
  std::vector<SafetensorsFile> files;
  for (auto& [name, place] : shards) {
    place = files.size();
    files.push_back(SafetensorsFile::Open((fs::path(index_path).parent_path() / name).string()));
  }
  for (const auto& item : map.items()) {
    const SafetensorsFile& file = files[shards.at(item.value().get<std::string>())];
    if (!file.Find(item.key()))
      Fail("{}: tensor '{}' is not in {}, where the index says", index_path, item.key(),
           file.path());
  }
  for (const SafetensorsFile& file : files)
    for (const FileTensor& t : file.tensors())
      if (!map.contains(t.name))
        Fail("{}: tensor '{}' of {} is not in the index", index_path, t.name, file.path());
  return files;
}

}  // namespace

SafetensorsModel::SafetensorsModel(std::vector<SafetensorsFile> files) : files_(std::move(files)) {
  for (size_t f = 0; f < files_.size(); ++f)
    for (size_t t = 0; t < files_[f].tensors().size(); ++t) {
      const std::string& name = files_[f].tensors()[t].name;
      const auto [it, inserted] = index_.emplace(name, std::pair(f, t));
      if (!inserted)
        Fail("tensor '{}' is in {} and in {}", name, files_[it->second.first].path(),
             files_[f].path());
    }
}

SafetensorsModel SafetensorsModel::Open(const std::string& path) {
  std::string file = path;
  std::error_code ignored;  // opening the file says what is wrong
  if (fs::is_directory(path, ignored)) {
    RecordRead(path);
    file = (fs::path(path) / "model.safetensors").string();
    if (!fs::exists(file, ignored)) file += ".index.json";
    if (!fs::exists(file, ignored))
      RefuseDirectory(path, {"model.safetensors", "model.safetensors.index.json"});
  }
  if (file.ends_with(".index.json")) return SafetensorsModel(OpenShards(file));
  std::vector<SafetensorsFile> files;
  files.push_back(SafetensorsFile::Open(file));
  return SafetensorsModel(std::move(files));
}

std::vector<std::string> SafetensorsModel::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

const FileTensor* SafetensorsModel::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &files_[it->second.first].tensors()[it->second.second];
}

void SafetensorsModel::Load(std::string_view name, std::string as, ParamStore* store) const {
  const auto it = index_.find(name);
  if (it == index_.end())
    Fail("{}: no tensor is named '{}'{}", files_.front().path(), name, DidYouMean(name, names()));
  const SafetensorsFile& file = files_[it->second.first];
  file.Load(file.tensors()[it->second.second], std::move(as), store);
}

}  // namespace graft
