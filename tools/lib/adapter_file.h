// Our adapter files: the tensors that a run trained, and in the metadata everything that is needed
// to put them on the same base again. See docs/file_formats.md.
#pragma once
#include "models/model.h"
#include "runtime/io/safetensors.h"
#include "tools/lib/run_dir.h"

namespace graft {

struct AdapterFile {
  std::string path;          // of the file
  ModelConfig architecture;  // of the base, with the adapter's head
  // method, labels, preprocess, pool, max_length, base_sha256, seed; the rest is as in RunConfig().
  RunConfig config;

  // `path` is the file or the directory that graft export has made around it. Throws Error if it is
  // no adapter of ours.
  static AdapterFile Open(const std::string& path);
  // Puts the tensors into the store, where names and shapes must be already; returns their names.
  std::vector<std::string> LoadInto(ParamStore& params) const;
};

// Whether this is an adapter of ours, or the directory of one.
bool LooksLikeAdapter(const std::string& path);

// Class names from metadata: a JSON list of strings, not empty.
std::vector<std::string> ParseLabels(const std::string& text, const std::string& where);
// Most tokens of a text, from metadata; `otherwise` if it does not say.
int64_t MaxLengthOf(const StringMap& metadata, int64_t otherwise, const std::string& where);

// The named tensors of `params`, with `metadata` of ModelMetadata().
void WriteAdapter(const std::string& path, const ParamStore& params, std::vector<std::string> names,
                  StringMap metadata, int64_t seed);

}  // namespace graft
