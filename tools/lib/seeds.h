// Several runs that differ in their seed alone.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "train/run_config.h"

namespace graft {

// Throws Error, naming the first setting that differs, unless the run at `path` is what this
// command would begin.
void CheckSameRun(const RunConfig& there, const RunConfig& now, const std::string& path);

// {run, method, runs, mean: {...}, spread: {...}} of the summaries of `graft train`: of loss, last
// and best validation metric and seconds the mean, and the sample's standard deviation (n - 1),
// null for a single run.
nlohmann::json SeedsJson(const std::string& out, const nlohmann::json& runs);
// A table of it.
std::string SeedsText(const nlohmann::json& json);

}  // namespace graft
