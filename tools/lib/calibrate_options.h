// --calibrate: static scales of int8 for commands that only infer.
#pragma once
#include "adapters/open_model.h"
#include "tools/lib/options.h"

namespace graft {

struct CalibrateOptions {
  std::string data, columns;
  size_t limit = 64;
};
void AddCalibrateOptions(CLI::App& command, CalibrateOptions& o);

// Throws Error (kUsage) where --calibrate does not go with the other options.
void CheckCalibrateOptions(const CalibrateOptions& o, const CommonOptions& common);

// The passes of `common`, with scales from the data if they are wanted and the precision is int8;
// the model's parameters then get the factors. `columns` are those of a run, used where none are
// given. Says which examples were looked at.
PassOptions CalibratedPasses(const CalibrateOptions& o, const std::string& columns,
                             OpenedModel& opened, const CommonOptions& common);

size_t CalibratedProducts(const PassOptions& passes);

}  // namespace graft
