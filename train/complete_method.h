// What the terms of a run's method refer to, made independent of where and when it was named: runs
// by absolute path and hash, words by their ids.
#pragma once
#include "train/run_config.h"

namespace graft {

// Completes the terms in place; `c` has the base (absolute) and the tokenizer. Throws Error for a
// run of another base, with other weights than before, or without what the term takes from it, and
// for a text without words. Notes which weights a run is taken with.
void CompleteMethod(const RunConfig& c, Method* method, std::vector<std::string>* notes);

// The hashes of the weights that the terms begin with, of forget(run=) and prompt(init=RUN): "" if
// there are none. Throws Error for a run that cannot be read.
std::string HashOfMethodRuns(const Method& method);

}  // namespace graft
