// --calibrate: what int8 learns from examples, for commands that only infer.
#pragma once
#include <optional>

#include "adapters/open_model.h"
#include "tools/lib/options.h"

namespace graft {

struct CalibrateOptions {
  std::string data, columns;
  std::optional<size_t> limit = {};  // 64
  bool static_scales = false;
};
void AddCalibrateOptions(CLI::App& command, CalibrateOptions& o);

// Throws Error (kUsage) where --calibrate does not go with the other options.
void CheckCalibrateOptions(const CalibrateOptions& o, const CommonOptions& common);

// The passes of `common`, with what the data tells if that is wanted and the precision is int8; the
// model's parameters then get what these need. `columns` are those of a run, used where none are
// given. Says which examples were looked at.
PassOptions CalibratedPasses(const CalibrateOptions& o, const std::string& columns,
                             OpenedModel& opened, const CommonOptions& common);

size_t CalibratedProducts(const PassOptions& passes);

}  // namespace graft
