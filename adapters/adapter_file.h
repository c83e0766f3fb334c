// Our adapter files: the tensors that a run trained, and in the metadata everything that is needed
// to put them on the same base again. See docs/file_formats.md.
#pragma once
#include "adapters/facts.h"
#include "runtime/io/safetensors.h"

namespace graft {

struct AdapterFile {
  std::string path;          // of the file
  ModelConfig architecture;  // of the base, with the adapter's head
  AdapterFacts facts;        // without model and arch, which the user says

  // `path` is the file or the directory that graft export has made around it. Throws Error if it is
  // no adapter of ours.
  static AdapterFile Open(const std::string& path);
};
// Puts the tensors of an adapter file, or of a run's checkpoint, into the store, which must have
// their names and shapes already; returns the names.
std::vector<std::string> LoadAdapterTensors(const std::string& path, ParamStore& params);

// Loads one of these tensors, which must be of this shape and hold finite values.
void LoadTrained(const SafetensorsFile& file, const FileTensor& tensor, const Extents& want,
                 ParamStore& params);

// Whether this is an adapter of ours, or the directory of one.
bool LooksLikeAdapter(const std::string& path);

// Writes the named tensors of `params` with `metadata`, which is that of ModelMetadata().
void WriteAdapter(const std::string& path, const ParamStore& params, std::vector<std::string> names,
                  StringMap metadata, int64_t seed);

}  // namespace graft
