// The import tables: file key <-> canonical parameter, as data. See docs/file_formats.md.
#pragma once
#include "models/files/tensor_file.h"
#include "models/model.h"

namespace graft {

// The naming that a file uses. timm fuses q, k and v into one qkv. Hugging Face keeps them apart,
// under the root "vit.", "deit.", "bert." or "dinov2." (a vision transformer with LayerScale), or
// without a root in a bare backbone. Jax is the .npz of the original ViT, with kernels [in,out].
enum class Layout { kTimm, kHuggingFace, kJax };

// How a file stores the canonical matrix [a,b] or vector [a]; there are H heads of d columns, C
// channels, and patches of P x P.
enum class Form {
  kSame,
  kLeadingOne,       // [1,a,b]
  kConvolution,      // [a,C,P,P] for [a,CPP]
  kKernel,           // [b,a]
  kKernelToHeads,    // [b,H,d] for [Hd,b]
  kKernelFromHeads,  // [H,d,a] for [a,Hd]
  kBiasOfHeads,      // [H,d] for [Hd]
  kConvolutionHwio,  // [P,P,C,a] for [a,CPP]
};

// One file tensor. `file` lists the names that it may have, the first of which is written, divided
// by '|'; "#" stands for the block number, "~" for the root. With several canonical parameters
// it holds them stacked along the first dimension (timm's qkv).
struct NameRule {
  const char* file;
  std::vector<const char*> canonical;
  Form form = Form::kSame;
  const char* only = "";    // holds for models that have this parameter
  const char* unless = "";  // holds for models that do not
  bool copy = false;     // of another rule's tensor (tied weights): equal, or the file is refused
  bool instead = false;  // of another rule's tensor: read and written where the file has it
};

// A rule applied to a concrete model.
struct FileKey {
  std::vector<std::string> names;
  std::vector<std::string> canonical;
  Form form = Form::kSame;
  bool copy = false, instead = false;
  Extents shape;  // of the canonical parameters, stacked
  // The name under which the file has the tensor, or "".
  std::string In(const TensorFile& file) const;
};
std::vector<FileKey> FileKeys(Layout layout, const std::string& root, const ModelConfig& config);
// The names in files of a canonical parameter, whatever the model's sizes are: by these it is found
// out what the model is.
std::vector<std::string> NamesOf(Layout layout, const std::string& root, const ModelConfig& config,
                                 const std::string& canonical, Form* form);

// The sizes that forms need beside the canonical shape.
struct FormSizes {
  int64_t heads = 1, channels = 3, patch = 1;
};
FormSizes SizesOf(const ModelConfig& config);
std::vector<int64_t> FileShape(Form form, const Extents& canonical, const FormSizes& sizes);
// Finds the canonical shape of a file's shape without knowing the sizes; both kinds of convolution
// give [D,C,P,P]. Empty if the rank does not fit.
std::vector<int64_t> CanonicalShape(Form form, const std::vector<int64_t>& file);

// Whether the numbers have another order in the file; then the functions below convert them,
// exactly.
bool Permutes(Form form);
std::vector<float> FromFile(Form form, const Extents& canonical, const FormSizes& sizes,
                            std::span<const float> values);
std::vector<float> ToFile(Form form, const Extents& canonical, const FormSizes& sizes,
                          std::span<const float> values);

}  // namespace graft
