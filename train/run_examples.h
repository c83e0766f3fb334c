// The examples of a run: it goes on with those that it began with, or not at all.
#pragma once
#include "train/batches.h"
#include "train/run_dir.h"

namespace graft {

// Records the examples of a run that begins, and refuses others of one that goes on: the order of
// an epoch is a function of their number, and what was learnt is of their contents. `validation`
// may be null.
void CheckExamples(const std::vector<std::string>& classes, const BatchSource* train,
                   const BatchSource* validation, RunDir* dir);

}  // namespace graft
