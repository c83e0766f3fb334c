// Options with several values each, such as "lr=1e-3|5e-3,r=4|8", and the run that a combination of
// values makes.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "train/run_config.h"

namespace graft {

struct GridAxis {
  std::string name;                 // a training option (lr, weight_decay) or one of a method
  std::vector<std::string> values;  // at least two, all different
  bool operator==(const GridAxis&) const = default;
};
// One value for each axis, in the order of the axes.
using Choice = std::vector<std::pair<std::string, std::string>>;

// Parses "NAME=V|V,NAME=V|V"; names may be written with - or _. Messages begin with `flag`. Throws
// Error (kUsage) for an option that is named twice, has a single value or has one twice, and for
// more than kMostChoices combinations.
std::vector<GridAxis> ParseGrid(const std::string& text, const std::string& flag);
inline constexpr size_t kMostChoices = 10'000;

// The training options that a grid may have: fields of RunConfig.
const std::vector<std::string>& GridOptions();

// The axes that have a place in this method: all training options, and options of its terms.
std::vector<GridAxis> AxesFor(const std::vector<GridAxis>& axes, const Method& method);
// Throws Error (kUsage) for an axis that has a place in none of the methods.
void CheckAxes(const std::vector<GridAxis>& axes, const std::vector<std::string>& methods,
               const std::string& flag);
// All combinations; the last axis changes first. Without axes there is one, which is empty.
std::vector<Choice> Combinations(const std::vector<GridAxis>& axes);

// Puts the values of a choice into a run: into a field, or into every term of its method that has
// the option. Throws Error (kUsage) for a value that the option does not take.
void Apply(const Choice& choice, const std::string& flag, RunConfig* config);

}  // namespace graft
