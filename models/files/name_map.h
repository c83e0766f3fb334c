// The import tables: file key <-> canonical parameter, as data. See docs/file_formats.md.
#pragma once
#include "models/files/tensor_file.h"
#include "models/model.h"

namespace graft {

// The naming that a file uses. timm: fused qkv. Hugging Face: split, under "vit.", "deit.",
// "bert.", "dinov2." (a vision transformer with LayerScale) or, for a bare backbone, without a
// root. Jax: the .npz of the original ViT, kernels [in,out].
enum class Layout { kTimm, kHuggingFace, kJax };

// How a file stores the canonical matrix [a,b] or vector [a]. H heads of d, C channels, P x P
// patches.
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

// A rule for a concrete model.
struct FileKey {
  std::vector<std::string> names;
  std::vector<std::string> canonical;
  Form form = Form::kSame;
  bool copy = false, instead = false;
  Extents shape;  // of the canonical parameters, stacked
  // The name under which the file has it, or "".
  std::string In(const TensorFile& file) const;
};
std::vector<FileKey> FileKeys(Layout layout, const std::string& root, const ModelConfig& config);
// Names in files of a canonical parameter, whatever the model's sizes: to find out what the model
// is.
std::vector<std::string> NamesOf(Layout layout, const std::string& root, const ModelConfig& config,
                                 const std::string& canonical, Form* form);

// Sizes that forms need beside the canonical shape.
struct FormSizes {
  int64_t heads = 1, channels = 3, patch = 1;
};
FormSizes SizesOf(const ModelConfig& config);
std::vector<int64_t> FileShape(Form form, const Extents& canonical, const FormSizes& sizes);
// The inverse, without sizes: [D,C,P,P] for both convolutions. Empty if the rank does not fit.
std::vector<int64_t> CanonicalShape(Form form, const std::vector<int64_t>& file);

// Whether the numbers stand in another order in the file; then these convert, exactly.
bool Permutes(Form form);
std::vector<float> FromFile(Form form, const Extents& canonical, const FormSizes& sizes,
                            std::span<const float> values);
std::vector<float> ToFile(Form form, const Extents& canonical, const FormSizes& sizes,
                          std::span<const float> values);

}  // namespace graft
