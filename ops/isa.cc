#include "ops/isa.h"

#include "ops/targets.h"
// The Highway target list must be cut down before its first header.
#include <hwy/highway.h>
#include <hwy/nanobenchmark.h>
#include <hwy/targets.h>

#include "ops/onednn_gemm.h"
#include "runtime/error.h"

// Highway's library measures the clock as soon as it is loaded, for benchmarks that nobody here
// asks for: a fourth of the time in which the command starts. The program's own function goes
// before the library's of this name.
uint64_t hwy::platform::TimerResolution() { return 1; }

namespace graft {
namespace {

struct Level {
  const char* name;
  int64_t target;  // Highway's bit; a smaller bit is a better target
};
constexpr Level kLevels[] = {{"avx512", HWY_AVX3}, {"avx2", HWY_AVX2}, {"sse4", HWY_SSE4}};

const Level& FindLevel(const std::string& name) {
  std::vector<std::string> names;
  for (const Level& level : kLevels) {
    names.emplace_back(level.name);
    if (level.name != name) continue;
    if (!(hwy::SupportedTargets() & level.target))
      FailUsage("--isa {}: this CPU has {} at most", name, ActiveIsa());
    return level;
  }
  FailUsage("--isa '{}'{}", name, DidYouMean(name, names));
}

}  // namespace

void LimitIsa(const std::string& name) {
  const Level& level = FindLevel(name);
  // hwy::DisableTargets would not do: in Highway 1.0.3 the next SupportedTargets() undoes it.
  hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~(level.target - 1));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  CapOnednnIsa(name);
}

void CheckIsa(const std::string& name) { FindLevel(name); }

std::string ActiveIsa() {
  const int64_t supported = hwy::SupportedTargets();
  for (const Level& level : kLevels)
    if (supported & level.target) return level.name;
  return "scalar";
}

}  // namespace graft
