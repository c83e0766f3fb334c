#include "runtime/io/safetensors.h"

#include <algorithm>
#include <array>
#include <set>

#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/foreign_file.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors_header.h"

namespace graft {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit

// The length of the header, which is little-endian in the file whatever the machine is.
uint64_t ReadLength(std::span<const std::byte> bytes) {
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | static_cast<uint64_t>(bytes[i]);
  return length;
}

void CheckWritable(const std::string& path, std::span<const TensorToWrite> tensors) {
  std::set<std::string_view> names;
  for (const TensorToWrite& t : tensors) {
    GRAFT_CHECK(TensorBytes(t.dtype, t.shape) == std::ssize(t.bytes), "{}: '{}' has {} bytes", path,
                t.name, t.bytes.size());
    if (t.name == "__metadata__") Fail("{}: no tensor can be named '__metadata__'", path);
    if (!names.insert(t.name).second) Fail("{}: two tensors are named '{}'", path, t.name);
  }
}

std::string MakeHeader(const std::string& path, std::span<const TensorToWrite> tensors,
                       const StringMap& metadata) {
  std::string header = "{";
  const auto text = [](std::string_view s) { return DumpJson(Json(s)); };
  if (!metadata.empty()) header += "\"__metadata__\":" + DumpJson(Json(metadata));
  uint64_t offset = 0;
  for (const TensorToWrite& t : tensors) {
    if (header.size() > 1) header += ',';
    header +=
        fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", text(t.name),
                    ToString(t.dtype), fmt::join(t.shape, ","), offset, offset + t.bytes.size());
    offset += t.bytes.size();
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeader)
    Fail("{}: a header of {} bytes; the format allows {}", path, header.size(), kMaxHeader);
  return header;
}

}  // namespace

SafetensorsFile SafetensorsFile::Open(const std::string& path) {
  const auto file = MappedFile::Open(path);
  const std::span<const std::byte> bytes = file->bytes();
  const bool header =
      bytes.size() > 8 && ReadLength(bytes) <= bytes.size() - 8 && bytes[8] == std::byte{'{'};
  if (!header) RefuseForeignFile(path, bytes);
  return Parse(path, bytes, file);
}

SafetensorsFile SafetensorsFile::Parse(const std::string& path, std::span<const std::byte> bytes,
                                       std::shared_ptr<const void> owner) {
  if (bytes.size() < 8)
    Fail("{}: expected a safetensors file, found only {} bytes", path, bytes.size());
  const uint64_t length = ReadLength(bytes);
  if (length > kMaxHeader)
    Fail("{}: not a safetensors file: header of {} bytes, the format allows {}", path, length,
         kMaxHeader);
  if (length > bytes.size() - 8)
    Fail("{}: header of {} bytes in a file of {}; the file is cut short", path, length,
         bytes.size());
  SafetensorsFile file;
  file.path_ = path;
  file.owner_ = std::move(owner);
  file.data_ = bytes.subspan(8 + length);
  file.header_ = {reinterpret_cast<const char*>(bytes.data()) + 8, length};
  SafetensorsHeader header = ParseSafetensorsHeader(file.header_, file.data_.size(), path);
  file.tensors_ = std::move(header.tensors);
  file.metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < file.tensors_.size(); ++i) file.index_.emplace(file.tensors_[i].name, i);
  return file;
}

const FileTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const FileTensor& SafetensorsFile::Get(std::string_view name) const {
  if (const FileTensor* tensor = Find(name)) return *tensor;
  std::vector<std::string> names;
  for (const FileTensor& t : tensors_) names.push_back(t.name);
  Fail("{}: no tensor is named '{}'{}", path_, name, DidYouMean(name, names));
}

namespace {

Extents ExtentsOf(const FileTensor& tensor, const std::string& path) {
  Extents shape;
  if (tensor.shape.size() > shape.d.size())
    Fail("{}: tensor '{}': expected at most {} dimensions, found [{}]", path, tensor.name,
         shape.d.size(), fmt::join(tensor.shape, ","));
  for (const int64_t extent : tensor.shape) shape.d[shape.rank++] = extent;
  return shape;
}

}  // namespace

void SafetensorsFile::LoadU8(const FileTensor& tensor, std::string as, ParamStore* store) const {
  const Extents shape = ExtentsOf(tensor, path_);
  if (tensor.dtype != FileDType::kU8)
    Fail("{}: tensor '{}': expected U8, found {}", path_, tensor.name, ToString(tensor.dtype));
  store->SetViewU8(std::move(as), shape, owner_,
                   reinterpret_cast<const uint8_t*>(bytes(tensor).data()));
}

void SafetensorsFile::Load(const FileTensor& tensor, std::string as, ParamStore* store) const {
  const std::span<const std::byte> in = bytes(tensor);
  const Extents shape = ExtentsOf(tensor, path_);
  if (!ConvertsToFloat(tensor.dtype))
    Fail("{}: tensor '{}' is {}, which does not convert to F32", path_, tensor.name,
         ToString(tensor.dtype));
  const bool aligned = reinterpret_cast<uintptr_t>(in.data()) % alignof(float) == 0;
  if (tensor.dtype == FileDType::kF32 && aligned)
    return store->SetView(std::move(as), shape, owner_, reinterpret_cast<const float*>(in.data()));
  float* out = store->Allocate(as, shape);
  ToFloat(tensor.dtype, in, {out, static_cast<size_t>(shape.size())});
  store->Freeze(as);
}

ParamStore SafetensorsFile::LoadAll() const {
  ParamStore store;
  for (const FileTensor& tensor : tensors_) Load(tensor, tensor.name, &store);
  return store;
}

namespace {

void Write(const FilePlace& place, std::span<const TensorToWrite> tensors,
           std::string_view header) {
  std::array<std::byte, 8> length;
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(header.size() >> 8 * i);
  AtomicFile file(place);
  file.Write(length);
  file.Write(header);
  for (const TensorToWrite& t : tensors) file.Write(t.bytes);
  file.Commit();
}

}  // namespace

void WriteSafetensors(const FilePlace& place, std::span<const TensorToWrite> tensors,
                      const StringMap& metadata) {
  CheckWritable(place.path, tensors);
  Write(place, tensors, MakeHeader(place.path, tensors, metadata));
}

void WriteSafetensorsAs(const FilePlace& place, std::span<const TensorToWrite> tensors,
                        std::string_view header) {
  uint64_t size = 0;
  for (const TensorToWrite& t : tensors) size += t.bytes.size();
  const std::vector<FileTensor> told = ParseSafetensorsHeader(header, size, place.path).tensors;
  const auto same = [](const FileTensor& a, const TensorToWrite& b) {
    return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape;
  };
  if (!std::ranges::equal(told, tensors, same))
    Fail("{}: the header tells of other tensors; nothing was written", place.path);
  Write(place, tensors, header);
}

void WriteSafetensors(const FilePlace& place, const ParamStore& store, const StringMap& metadata) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, entry] : store.entries()) tensors.push_back(ToWrite(name, entry));
  WriteSafetensors(place, tensors, metadata);
}

}  // namespace graft
