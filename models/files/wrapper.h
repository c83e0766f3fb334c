// What programs put in front of all names of a checkpoint: "module." of data-parallel training,
// "_orig_mod." of torch.compile, "model.", "backbone.", "student." and others.
#pragma once
#include "models/files/tensor_file.h"

namespace graft {

// The wrapper of a file that has the tensors of a known model under one further name; "" if there
// is none. Throws Error if there are two models in the file, such as a teacher beside its student.
std::string WrapperOf(const TensorFile& file, const std::string& source);

// The file with the wrapper taken off its names; names without it stay as they are.
std::shared_ptr<const TensorFile> WithoutWrapper(std::shared_ptr<const TensorFile> file,
                                                 const std::string& wrapper);

}  // namespace graft
