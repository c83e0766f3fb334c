#include "adapters/adapter_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "adapters/base_model.h"
#include "models/files/architecture.h"
#include "peft/method.h"
#include "runtime/io/files_read.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr const char* kSeed = "graft.seed";

bool IsRegular(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode);
}

std::string FileOf(const std::string& path) {
  struct stat s;
  const bool directory = stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
  return directory ? path + "/adapter.safetensors" : path;
}

const std::string& AdapterEntry(const SafetensorsFile& file, const char* key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end())
    Fail(
        "{}: no adapter of Graft (no '{}' in its metadata); hint: graft export --format graft "
        "writes one",
        file.path(), key);
  return it->second;
}

// The recipe is a list of {"method": name, "options": {...}}.
Method RecipeMethod(const std::string& text, const std::string& where) {
  const Json recipe = ParseJson(text, where);
  if (!recipe.is_array() || recipe.empty()) Fail("{}: expected a list of methods", where);
  Method method;
  for (const Json& term : recipe) {
    MethodTerm t{GetString(term, "method", where), {}};
    for (const auto& [key, value] : GetObject(term, "options", where).items()) {
      if (!value.is_string())
        Fail("{}: option '{}' is {}, expected text", where, key, value.dump());
      t.options[key] = value.get<std::string>();
    }
    method.push_back(std::move(t));
  }
  try {
    return ParseMethod(ToString(method));  // refuses unknown names and options
  } catch (const Error& e) {               // of a command line
    Fail("{}: {}", where, e.what());
  }
}

}  // namespace

bool LooksLikeAdapter(const std::string& path) {
  const std::string name = FileOf(path);
  if (!IsRegular(name) || !name.ends_with(".safetensors")) return false;
  return SafetensorsFile::Open(name).metadata().contains(kSeed);  // fused models have none
}

AdapterFile AdapterFile::Open(const std::string& path_or_directory) {
  const std::string path = FileOf(path_or_directory);
  if (path != path_or_directory && !IsRegular(path))
    Fail(
        "{}: no adapter: expected a run of graft train (config.json), a directory of graft export "
        "--format graft (adapter.safetensors) or one of Hugging Face peft (adapter_config.json), "
        "found none of these files",
        path_or_directory);
  if (path != path_or_directory) RecordRead(path_or_directory);
  const SafetensorsFile file = SafetensorsFile::Open(path);
  AdapterFile adapter;
  adapter.path = path;
  adapter.architecture =
      ParseModelConfig(AdapterEntry(file, "graft.config"), path + " (metadata graft.config)");
  AdapterFacts& c = adapter.facts;
  c.method =
      ToString(RecipeMethod(AdapterEntry(file, "graft.recipe"), path + " (metadata graft.recipe)"));
  c.labels = ParseLabels(AdapterEntry(file, "graft.labels"), path + " (metadata graft.labels)");
  c.task = TaskOfMetadata(file.metadata(), path);
  c.preprocess = AdapterEntry(file, "graft.preprocess");
  if (std::holds_alternative<VitConfig>(adapter.architecture))
    PreprocessOfMetadata(c.preprocess, path);
  c.preprocess_source = "the adapter";
  c.base_sha256 = AdapterEntry(file, "graft.base_sha256");
  c.seed = ParseWhole(AdapterEntry(file, kSeed), path, kSeed);
  c.max_length = MaxLengthOf(file.metadata(), c.max_length, path);
  TakeTexts(file.metadata(), &c, path);
  TakePrompt(file.metadata(), &c, path);
  const BertConfig* bert = std::get_if<BertConfig>(&adapter.architecture);
  if (bert && c.head.empty()) c.pool = bert->pool;
  return adapter;
}

std::vector<std::string> LoadAdapterTensors(const std::string& path, ParamStore& params) {
  std::vector<std::string> names;
  const SafetensorsFile file = SafetensorsFile::Open(path);
  for (const FileTensor& tensor : file.tensors()) {
    const ParamStore::Entry* have = params.Find(tensor.name);
    if (!have)
      Fail("{}: '{}' is no tensor of the model with this method{}", path, tensor.name,
           DidYouMean(tensor.name, params.names()));
    LoadTrained(file, tensor, have->shape, params);
    names.push_back(tensor.name);
  }
  return names;
}

void LoadTrained(const SafetensorsFile& file, const FileTensor& tensor, const Extents& want,
                 ParamStore& params) {
  const std::vector<int64_t> extents(want.d.begin(), want.d.begin() + want.rank);
  if (extents != tensor.shape)
    Fail("{}: '{}' is [{}], the model wants [{}]", file.path(), tensor.name,
         fmt::join(tensor.shape, ","), fmt::join(extents, ","));
  const FileDType t = tensor.dtype;
  if (t != FileDType::kF16 && t != FileDType::kBF16 && t != FileDType::kF32 && t != FileDType::kF64)
    Fail("{}: '{}' holds {}, expected floating-point numbers", file.path(), tensor.name,
         ToString(tensor.dtype));
  file.Load(tensor, tensor.name, &params);
  if (!std::ranges::all_of(params.values(tensor.name), [](float x) { return std::isfinite(x); }))
    Fail("{}: '{}' holds values that are not finite", file.path(), tensor.name);
}

void WriteAdapter(const std::string& path, const ParamStore& params, std::vector<std::string> names,
                  StringMap metadata, int64_t seed) {
  std::sort(names.begin(), names.end());
  metadata[kSeed] = std::to_string(seed);
  std::vector<TensorToWrite> tensors;
  for (const std::string& name : names) tensors.push_back(ToWrite(name, params.Get(name)));
  WriteSafetensors(path, tensors, metadata);
}

}  // namespace graft
