// A profile as JSON: what --json prints, --out keeps and --compare reads.
#pragma once
#include "tools/profiles/measure.h"

namespace graft {

// What --json of a profile has; `threads_inside` is that of RatesOf.
nlohmann::json ProfileJson(const ProfileWork& work, const CommonOptions& common,
                           const LoadedModel& model, const Profile& profile,
                           const MachineFacts& machine);

// The threads that make a kernel call together: all of them, unless micro-batches run beside each
// other.
int ThreadsInside(const Profile& profile);

struct StoredKind {
  std::string phase, op, layer, shape, impl;
  std::vector<double> steps_ms;
};
// What a comparison needs of a file.
struct StoredProfile {
  std::string path, version;
  // Properties by name, as they are shown. Those of the CPU and of the work must all agree,
  // settings may differ.
  std::vector<std::pair<std::string, std::string>> cpu, work, settings;
  std::vector<std::string> disturbances;
  double planned_bytes = 0;
  std::vector<double> steps_ms;
  std::vector<StoredKind> kinds;
};
// Throws Error for a file that is no profile, is damaged, or is of another version of the form.
StoredProfile ReadProfile(const std::string& path);

}  // namespace graft
