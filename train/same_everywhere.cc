#include "train/same_everywhere.h"

#include "runtime/error.h"
#include "runtime/process_group.h"

namespace graft {

void CheckSameEverywhere(ProcessGroup& group, const std::string& mine) {
  const std::vector<std::string> all = group.Gather(mine);
  for (size_t rank = 1; rank < all.size(); ++rank)
    if (all[rank] != all[0])
      Fail(
          "process {} of {} would compute other numbers than the first: its model, its data, its "
          "checkpoint or its CPU's SIMD target differ; hint: the same files and the same graft on "
          "all machines, and --isa",
          rank + 1, all.size());
}

}  // namespace graft
