// Several runs that differ only in their seed.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "train/run_config.h"

namespace graft {

// Throws Error, naming the first setting that differs, unless the run at `path` is what this
// command would begin.
void CheckSameRun(const RunConfig& there, const RunConfig& now, const std::string& path);

// Joins the summaries of several `graft train` to {run, method, runs, mean: {...}, spread: {...}}:
// the means and the standard deviations of the sample (n - 1; null for a single run) of the loss,
// the last and best validation metric, and the seconds.
nlohmann::json SeedsJson(const std::string& out, const nlohmann::json& runs);
// Writes this as a table.
std::string SeedsText(const nlohmann::json& json);

}  // namespace graft
