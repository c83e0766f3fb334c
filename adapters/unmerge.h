// Undoing a merge to the last bit. Subtracting a delta would give rounded weights; so the tensors
// that a merge overwrites are kept in a file beside the fused model instead.
#pragma once
#include <string>

namespace graft {

// The file in which KeepBase keeps them: FUSED/base.safetensors in a directory, else
// FUSED.base.safetensors with FUSED's own ending taken off.
std::string KeptBasePath(const std::string& fused);

// Keeps every tensor of `base` that `fused`, in the same layout, does not hold byte for byte, and
// base's config.json, if there is one. `base` is a file or directory, not init:ARCH.
void KeepBase(const std::string& base, const std::string& fused);

// Writes the base again: its tensors byte for byte, under its names and in its order, its metadata
// and config.json; a directory if it was one. Throws Error, and writes nothing, if `fused` or what
// was kept is not as the merge left it.
void UndoFuse(const std::string& fused, const std::string& out);

}  // namespace graft
