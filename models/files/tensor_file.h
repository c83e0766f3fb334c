// What loading a model wants of a file of tensors, whatever its format.
#pragma once
#include <memory>

#include "runtime/io/safetensors.h"

namespace graft {

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  virtual std::vector<std::string> names() const = 0;  // sorted
  // Null if there is no such tensor.
  virtual const std::vector<int64_t>* Shape(std::string_view name) const = 0;
  // Puts the tensor into the store as f32 in C order, as a view of the file where it can be one.
  virtual void Load(std::string_view name, std::string as, ParamStore* store) const = 0;
  virtual const StringMap& metadata() const = 0;
  // Its bytes as they are, to be written again; nothing if the format cannot give them.
  virtual std::optional<TensorToWrite> Raw(std::string_view name) const = 0;
};

// A safetensors file or index, a directory with one, or an .npz, by content whatever the name.
// Throws Error; for files of other kinds it says what they are, for PyTorch's pickles with the way
// to convert them.
std::shared_ptr<const TensorFile> OpenTensorFile(const std::string& path);

}  // namespace graft
