#include "models/files/tensor_file.h"

#include <filesystem>

#include "runtime/io/foreign_file.h"
#include "runtime/io/mapped_file.h"
#include "runtime/io/npz.h"

namespace graft {
namespace {

// Integers could be converted, but are no weights: quantised ones need their scales, and numpy has
// no type for BF16 but U16.
void RefuseNumbersThatAreNoWeights(FileDType dtype, const std::string& path,
                                   std::string_view name) {
  if (!IsFloatingPoint(dtype))
    Fail("{}: '{}' is {}, expected F32, F16, BF16 or F64", path, name, ToString(dtype));
}

class SafetensorsSource : public TensorFile {
 public:
  explicit SafetensorsSource(const std::string& path) : model_(SafetensorsModel::Open(path)) {}
  std::vector<std::string> names() const override { return model_.names(); }
  const std::vector<int64_t>* Shape(std::string_view name) const override {
    const FileTensor* tensor = model_.Find(name);
    return tensor ? &tensor->shape : nullptr;
  }
  void Load(std::string_view name, std::string as, ParamStore* store) const override {
    for (const SafetensorsFile& file : model_.files())
      if (const FileTensor* t = file.Find(name))
        RefuseNumbersThatAreNoWeights(t->dtype, file.path(), name);
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
    RefuseNumbersThatAreNoWeights(array->dtype, file_.path(), name);
    const NpyArray read = file_.Read(*array);
    Extents shape;
    for (int64_t d : read.shape) shape.d[shape.rank++] = d;
    store->Set(std::move(as), shape, read.values);
  }
  const StringMap& metadata() const override { return metadata_; }
  std::optional<TensorToWrite> Raw(std::string_view) const override { return {}; }

 private:
  // Whether an array is a text of metadata as SaveModel writes it.
  static bool IsMetadata(const NpzFile::Array& a) {
    constexpr int64_t kMostBytes = 1 << 20;
    return a.name.starts_with("graft.") && a.dtype == FileDType::kU8 && a.shape.size() == 1 &&
           a.shape[0] <= kMostBytes;
  }

  NpzFile file_;
  StringMap metadata_;
};

}  // namespace

std::shared_ptr<const TensorFile> OpenTensorFile(const std::string& path) {
  RefuseForeignPrefix(path);
  std::error_code ignored;
  const bool arrays = std::filesystem::is_regular_file(path, ignored) &&
                      IsZipOfArrays(MappedFile::Open(path)->bytes());
  if (arrays || path.ends_with(".npz")) return std::make_shared<NpzSource>(path);
  return std::make_shared<SafetensorsSource>(path);
}

}  // namespace graft
