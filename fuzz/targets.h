// The one list of fuzz targets. Each is fuzz/NAME_fuzz.cc with a LLVMFuzzerTestOneInput, which
// CMake renames to GraftFuzz_NAME for our driver; seeds are in fuzz/corpus/NAME, words in
// fuzz/dictionaries/NAME.dict.
#pragma once
#include <cstddef>
#include <cstdint>

#define GRAFT_FUZZ_TARGETS(X) \
  X(safetensors)              \
  X(npz) X(model) X(config) X(tokenizer) X(encode) X(image) X(graph) X(method) X(text)

#define GRAFT_FUZZ_DECLARE(name) extern "C" int GraftFuzz_##name(const uint8_t*, size_t);
GRAFT_FUZZ_TARGETS(GRAFT_FUZZ_DECLARE)
#undef GRAFT_FUZZ_DECLARE
