#include "tools/lib/in_group.h"

#include "runtime/error.h"
#include "runtime/process_group.h"

namespace graft {

void RunInGroup(const std::function<void(ProcessGroup*)>& run) {
  const std::unique_ptr<ProcessGroup> group = OpenProcessGroup();
  if (!group) return run(nullptr);
  try {
    group->Together([&] { run(group.get()); });
  } catch (const Error&) {
    if (group->IsFirst()) throw;
  }
}

CommonOptions TellingFirst(const CommonOptions& common, const ProcessGroup* group) {
  CommonOptions mine = common;
  if (group && !group->IsFirst()) mine.quiet = true, mine.json = false;
  return mine;
}

CommonOptions SharingCores(const CommonOptions& common, ProcessGroup* group) {
  CommonOptions mine = common;
  if (group && mine.threads == 0) mine.threads = ThreadsInGroup(*group);
  return mine;
}

}  // namespace graft
