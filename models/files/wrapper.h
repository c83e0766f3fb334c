// What programs put in front of all names of a checkpoint: "module." of data-parallel training,
// "_orig_mod." of torch.compile, "model.", "backbone.", "student." and others.
#pragma once
#include "models/files/tensor_file.h"

namespace graft {

// The wrapper of a file whose tensors are those of a model that is known, under one further name;
// "" if there is none. Throws Error if two models are in the file (a teacher beside its student).
std::string WrapperOf(const TensorFile& file, const std::string& source);

// The file with names that lack the wrapper; others are as they are.
std::shared_ptr<const TensorFile> WithoutWrapper(std::shared_ptr<const TensorFile> file,
                                                 const std::string& wrapper);

}  // namespace graft
