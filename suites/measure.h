// Measures a finished run on the splits that a suite asks for.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "train/evaluator.h"

namespace graft {

// One thing to measure, once, when a run is finished.
struct Measurement {
  std::string name;            // "test", or the domain
  std::string data, split;     // `data`: a directory
  std::string sha256;          // HashOfData of it
  std::vector<int> mask = {};  // class n of the data is class mask[n] of the model; empty: n
  int64_t limit = 0;           // the first examples only; 0 = all
  std::string columns = {};    // of texts, as ParseTextColumns
};

struct MeasureOptions {
  std::string memory_budget;
  bool skip_bad = false;
  PassOptions passes;  // of the run, whose precision is measured
  WorkHook on_work;
  std::function<bool()> stop;  // true: an Error of kind kInterrupted
};

// Reads numbers from 0 to classes - 1, one in each line, all different. Throws Error naming file
// and line.
std::vector<int> ReadClassMask(const std::string& path);

// Returns {n, accuracy, mean_class_accuracy, macro_f1, matthews, loss, seconds} for each
// measurement, and f1 with two classes. With a mask the loss is that of the classes in the mask
// alone. The checkpoint is `last`. For measurements behind the first (domains), `drop` is how far
// the accuracy is below that of the first (`source_accuracy` of `source_n`), and `relative_drop`
// the same as a share of the first. With a mask, the first accuracy is that among its examples of
// these classes, where there are any.
std::vector<nlohmann::json> Measure(const std::string& run,
                                    const std::vector<Measurement>& measurements,
                                    const MeasureOptions& options);

}  // namespace graft
