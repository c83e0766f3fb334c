// Compares two profiles: what became slower or faster, and whether that is more than noise.
#pragma once
#include "tools/profiles/record.h"

namespace graft {

// The medians of two samples of times. `p` is that of a Mann-Whitney test over the steps; for kinds
// it is corrected for their number (Holm 1979). A difference is significant below kSignificant.
struct Change {
  std::string phase, op, layer, shape, impl;  // impl: "a -> b" where the kernel is another
  double before_ms = 0, after_ms = 0, p = 1;
  bool both = true;  // whether both sides have it; else there is nothing to test
  double share() const { return before_ms > 0 ? after_ms / before_ms - 1 : 0; }
};
inline constexpr double kSignificant = 0.01;

struct Comparison {
  Change total;
  double before_bytes = 0, after_bytes = 0;  // planned
  std::vector<Change> kinds;                 // the largest differences in ms first
  std::vector<std::string> notes;  // what is not the same, and what makes the figures unsure
};

// Throws Error for profiles of different CPUs or different work, whose times say nothing of each
// other. Everything else may differ, as that is what one compares: version of the program, threads,
// SIMD target, precision, passes, budget, micro-batch; the notes name it. If micro-batches differ,
// kinds are compared whatever their shapes.
Comparison CompareProfiles(const StoredProfile& before, const StoredProfile& after);

// Parses "5%" or "0.5 %" as 0.05 or 0.005. Throws Error (kUsage) for anything else, and below 0 or
// above 1000 percent.
double ParsePercent(const std::string& text);

// Throws Error if the profiles have too few steps for any difference to be significant.
void CheckCanTell(const StoredProfile& before, const StoredProfile& after);
bool IsSlower(const Change& change, double limit);
std::string ComparisonText(const Comparison& c, double limit, int64_t top);
nlohmann::json ComparisonJson(const Comparison& c, double limit);

}  // namespace graft
