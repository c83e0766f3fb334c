#include "models/files/tensor_file.h"

#include <filesystem>

#include "runtime/io/npz.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

class SafetensorsSource : public TensorFile {
 public:
  explicit SafetensorsSource(const std::string& path) : model_(SafetensorsModel::Open(path)) {}
  std::vector<std::string> names() const override { return model_.names(); }
  const std::vector<int64_t>* Shape(std::string_view name) const override {
    const FileTensor* tensor = model_.Find(name);
    return tensor ? &tensor->shape : nullptr;
  }
  void Load(std::string_view name, std::string as, ParamStore* store) const override {
    // Integers would convert, but are no weights: quantised ones need their scales.
    for (const SafetensorsFile& file : model_.files())
      if (const FileTensor* t = file.Find(name); t && !IsFloatingPoint(t->dtype))
        Fail("{}: '{}' is {}, expected F32, F16, BF16 or F64", file.path(), name,
             ToString(t->dtype));
    model_.Load(name, std::move(as), store);
  }
  const StringMap& metadata() const override { return model_.metadata(); }
  std::optional<TensorToWrite> Raw(std::string_view name) const override {
    for (const SafetensorsFile& file : model_.files())
      if (const FileTensor* t = file.Find(name))
        return TensorToWrite{t->name, t->dtype, t->shape, file.bytes(*t)};
    return {};
  }

 private:
  SafetensorsModel model_;
};

class NpzSource : public TensorFile {
 public:
  explicit NpzSource(const std::string& path) : file_(NpzFile::Open(path)) {
    for (const NpzFile::Array& a : file_.arrays())
      if (IsMetadata(a)) {
        const NpyArray text = file_.Read(a);
        std::string& value = metadata_[a.name];
        for (const float byte : text.values) value += static_cast<char>(static_cast<uint8_t>(byte));
      }
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const NpzFile::Array& a : file_.arrays())
      if (!IsMetadata(a)) names.push_back(a.name);
    return names;
  }
  const std::vector<int64_t>* Shape(std::string_view name) const override {
    const NpzFile::Array* array = file_.Find(name);
    return array ? &array->shape : nullptr;
  }
  void Load(std::string_view name, std::string as, ParamStore* store) const override {
    const NpzFile::Array* array = file_.Find(name);
    GRAFT_CHECK(array, "no array '{}'", name);
    if (array->shape.size() > 4)
      Fail("{}: '{}' has {} dimensions, at most 4 are supported", file_.path(), name,
           array->shape.size());
    const NpyArray read = file_.Read(*array);
    Extents shape;
    for (int64_t d : read.shape) shape.d[static_cast<size_t>(shape.rank++)] = d;
    store->Set(std::move(as), shape, read.values);
  }
  const StringMap& metadata() const override { return metadata_; }
  std::optional<TensorToWrite> Raw(std::string_view) const override { return {}; }

 private:
  // A text as SaveModel writes it.
  static bool IsMetadata(const NpzFile::Array& a) {
    constexpr int64_t kMostBytes = 1 << 20;
    return a.name.starts_with("graft.") && a.dtype == FileDType::kU8 && a.shape.size() == 1 &&
           a.shape[0] <= kMostBytes;
  }

  NpzFile file_;
  StringMap metadata_;
};

// Reading a pickle can run code of its author, so it is never read.
[[noreturn]] void RefusePickle(const std::string& file, const std::string& folder) {
  Fail(
      "{}: a PyTorch pickle, which is not read because it can run code; hint: convert it where you "
      "trust it: python -c \"import torch, safetensors.torch as s; "
      "s.save_file({{k: v.contiguous() for k, v in torch.load('{}', weights_only=True).items()}}, "
      "'{}', metadata={{'format': 'pt'}})\"",
      file, file, (fs::path(folder) / "model.safetensors").string());
}

void CheckNoPickle(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    auto has = [&](const char* name) { return fs::exists(fs::path(path) / name, ignored); };
    if (has("model.safetensors") || has("model.safetensors.index.json")) return;
    for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
      if (has(name)) RefusePickle((fs::path(path) / "pytorch_model.bin").string(), path);
    return;
  }
  for (const char* end : {".bin", ".pt", ".pth", ".ckpt", ".pkl"})
    if (path.ends_with(end) && fs::exists(path, ignored))
      RefusePickle(path, fs::path(path).parent_path().string());
}

}  // namespace

std::shared_ptr<const TensorFile> OpenTensorFile(const std::string& path) {
  CheckNoPickle(path);
  if (path.ends_with(".npz")) return std::make_shared<NpzSource>(path);
  return std::make_shared<SafetensorsSource>(path);
}

}  // namespace graft
