// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes. The reader
// makes every check of the official one (header length, one JSON object, no duplicate name, known
// dtype, size = shape x dtype without overflow, offsets from 0 without hole or overlap up to the
// last byte), so a file that opens cannot lead outside itself. Memory grows with the header only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/io/directory.h"
#include "runtime/io/file_tensor.h"
#include "runtime/io/mapped_file.h"
#include "runtime/params.h"

namespace graft {

using StringMap = std::map<std::string, std::string>;

struct FileTensor {
  std::string name;
  FileDType dtype = FileDType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // in the file's data section
};

class SafetensorsFile {
 public:
  static SafetensorsFile Open(const std::string& path);
  // Makes the same checks of bytes in memory (fuzzing, tests), which live as long as `owner`.
  // `path` is for messages.
  static SafetensorsFile Parse(const std::string& path, std::span<const std::byte> bytes,
                               std::shared_ptr<const void> owner);

  const std::string& path() const { return path_; }
  const std::vector<FileTensor>& tensors() const { return tensors_; }  // in the order of the data
  const StringMap& metadata() const { return metadata_; }
  std::string_view header() const { return header_; }  // as it stands in the file
  const FileTensor* Find(std::string_view name) const;
  const FileTensor& Get(std::string_view name) const;  // Error with the nearest names
  std::span<const std::byte> bytes(const FileTensor& tensor) const {
    return data_.subspan(tensor.begin, tensor.end - tensor.begin);
  }

  // Puts a tensor into the store, as `as`: a view into the file if it is f32 and aligned,
  // otherwise a converted copy. Throws Error for a rank above 4 and for a dtype that does not
  // convert.
  void Load(const FileTensor& tensor, std::string as, ParamStore* store) const;
  // Does the same for bytes that stay bytes, always as a view. Throws Error if the tensor is not
  // U8.
  void LoadU8(const FileTensor& tensor, std::string as, ParamStore* store) const;
  ParamStore LoadAll() const;  // under their own names, all as f32

 private:
  std::string path_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> data_;
  std::string_view header_;
  std::vector<FileTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  StringMap metadata_;
};

// One safetensors file, or the shards that a model.safetensors.index.json names. Every shard is
// opened and checked at once. Throws Error for a shard outside the index's directory, for a missing
// shard or tensor, and for a tensor in another shard than the index says.
class SafetensorsModel {
 public:
  // `path` is a file, an index (*.index.json), or a directory with model.safetensors or its index.
  static SafetensorsModel Open(const std::string& path);

  const std::vector<SafetensorsFile>& files() const { return files_; }
  std::vector<std::string> names() const;  // sorted
  const StringMap& metadata() const { return files_.front().metadata(); }
  const FileTensor* Find(std::string_view name) const;
  void Load(std::string_view name, std::string as, ParamStore* store) const;

 private:
  explicit SafetensorsModel(std::vector<SafetensorsFile> files);

  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::pair<size_t, size_t>, std::less<>> index_;  // file, tensor in it
};

// Writes the tensors in the given order with the header padded to 8 bytes, so that equal arguments
// give equal bytes. The write is atomic (atomic_file.h): after any failure the old file is still
// there.
void WriteSafetensors(const FilePlace& place, std::span<const TensorToWrite> tensors,
                      const StringMap& metadata);
// Writes with the header of an earlier file, which gives the bytes of that file again, whoever
// wrote it. Throws Error if the header is not that of these tensors in this order.
void WriteSafetensorsAs(const FilePlace& place, std::span<const TensorToWrite> tensors,
                        std::string_view header);
// Writes the whole store, sorted by name.
void WriteSafetensors(const FilePlace& place, const ParamStore& store, const StringMap& metadata);

}  // namespace graft
