#include "runtime/call_log.h"

#include "runtime/error.h"

namespace graft {
namespace {
CallLog* current = nullptr;
}  // namespace

CallLog::CallLog(int workers, size_t most) : workers_(static_cast<size_t>(workers)), most_(most) {
  GRAFT_CHECK(!current, "a second log of calls");
  for (Calls& calls : workers_) calls.kept.reserve(most);
  current = this;
}

CallLog::~CallLog() { current = nullptr; }

CallLog* CallLog::Current() noexcept { return current; }

void CallLog::Add(const CallEvent& event) noexcept {
  if (static_cast<size_t>(event.worker) >= workers_.size()) return;
  Calls& calls = workers_[event.worker];
  if (calls.kept.size() < most_)
    calls.kept.push_back(event);
  else
    ++calls.lost;
}

std::vector<CallEvent> CallLog::events() const {
  std::vector<CallEvent> all;
  for (const Calls& calls : workers_) all.insert(all.end(), calls.kept.begin(), calls.kept.end());
  return all;
}

size_t CallLog::lost() const {
  size_t lost = 0;
  for (const Calls& calls : workers_) lost += calls.lost;
  return lost;
}

}  // namespace graft
