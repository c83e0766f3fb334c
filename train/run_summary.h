// summary.json of a run: what a comparison of runs wants to know, without the model.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "train/run_dir.h"

namespace graft {

struct RunSummary {
  int64_t steps = 0, trainable_parameters = 0, stored_parameters = 0;
  size_t planned_bytes = 0, peak_memory_bytes = 0;
  double examples_per_second = 0;
  bool validated = false, stopped_early = false;
  std::string command = {};   // in the words of a shell; "" is not known
  std::string products = {};  // the precision that they are in
};

// What computes here: "avx512, 2 threads, HOST".
std::string MachineText();

// `earlier` is the summary.json of earlier sessions, or null. The larger peak counts, and the
// command is that of the session that began the run; machine and version are those of this one.
nlohmann::json SummaryJson(const RunConfig& config, const Progress& progress,
                           const RunSummary& summary, const nlohmann::json& earlier);

// The value of --best-metric for a score that is better when it is larger; the function is its own
// inverse.
double MetricOfScore(const std::string& metric, double score);

// What summary.json holds; null if there is none, or if it is no object.
nlohmann::json ReadSummary(const std::string& run);

// Whether early stopping ended the run.
bool StoppedEarly(const std::string& run);

// Gives a run that goes on another number of epochs. Throws Error (kUsage) where the result would
// not be that of a run that had them from the beginning: with any schedule but a constant one, or
// with fewer epochs than are done.
void ChangeEpochs(RunDir& dir, int64_t epochs);

// Whether the state is that of a run with nothing left to do.
bool IsFinished(const RunConfig& config, const Progress& progress);

}  // namespace graft
