// The processes that train or search together must agree on what they compute.
#pragma once
#include <string>

namespace graft {

class ProcessGroup;

// Compares what the processes of a group say that decides their numbers: plan, examples, weights.
// Throws Error in all of them if one says another thing than the first.
void CheckSameEverywhere(ProcessGroup& group, const std::string& mine);

}  // namespace graft
