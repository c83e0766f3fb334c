// A file of tensors as loading a model sees it, whatever its format.
#pragma once
#include <memory>

#include "runtime/io/safetensors.h"

namespace graft {

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  virtual std::vector<std::string> names() const = 0;  // sorted
  // Returns null if there is no such tensor.
  virtual const std::vector<int64_t>* Shape(std::string_view name) const = 0;
  // Puts the tensor into the store as f32 in C order, as a view of the file where it can be one.
  virtual void Load(std::string_view name, std::string as, ParamStore* store) const = 0;
  virtual const StringMap& metadata() const = 0;
  // The tensor's bytes as they are, to be written again; nothing if the format cannot give them.
  virtual std::optional<TensorToWrite> Raw(std::string_view name) const = 0;
};

// Opens a safetensors file or index, a directory with one, or an .npz; the content decides,
// whatever the name is. Throws Error, which names what a file of another kind is and, for PyTorch's
// pickles, how to convert them.
std::shared_ptr<const TensorFile> OpenTensorFile(const std::string& path);

}  // namespace graft
