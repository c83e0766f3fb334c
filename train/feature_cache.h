// Features of frozen layers that survive between runs: files in CacheDirectory()/features, at most
// kFeatureCacheBytes together, of which those used longest ago go first. GRAFT_FEATURE_CACHE=SIZE
// is another bound, and 0 keeps nothing. A cache that cannot be read or written is only slower: no
// function here fails because of it.
#pragma once
#include "train/features.h"

namespace graft {

inline constexpr size_t kFeatureCacheBytes = size_t{2} << 30;

// The name of the file: a hash of everything that decides the features, which are the optimised
// graph, the values of its parameters, the inputs of all examples, the SIMD target and the program
// itself (another build may round otherwise). "" where they are not to be kept, as the inputs of
// the examples may change unseen.
std::string FeatureKey(const FeatureCut& cut, const ParamStore& params, const RunConfig& config,
                       const BatchSource& data);

// Reads features of that many examples and that size, if they are there and whole.
std::optional<std::vector<float>> ReadFeatures(const std::string& key, size_t examples,
                                               size_t size);
// Keeps them, unless they are more than a quarter of the bound.
void KeepFeatures(const std::string& key, const Features& features);

}  // namespace graft
