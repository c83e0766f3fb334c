#include "tools/lib/data_report.h"

#include "tools/lib/output.h"

namespace graft {

nlohmann::json SkippedJson(std::span<const Skipped> skipped) {
  nlohmann::json list = nlohmann::json::array();
  for (const Skipped& one : skipped) list.push_back({{"path", one.path}, {"reason", one.reason}});
  return list;
}

void SaySkipped(const CommonOptions& options, std::span<const Skipped> skipped) {
  for (const Skipped& one : skipped) Say(options, "note: left out: " + one.reason);
}

}  // namespace graft
