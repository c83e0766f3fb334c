// Records when kernels ran, call by call, for traces. A session whose profile is on writes into the
// log that lives meanwhile.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft {

struct CallEvent {
  uint32_t step = 0;  // index into Session::steps()
  int worker = 0;
  int64_t begin_ns = 0, end_ns = 0;  // of the steady clock
};

class CallLog {
 public:
  // Has room for `most` calls of each worker; later ones are only counted. At most one log lives at
  // a time; it begins before the runs that it is to see and outlives them.
  CallLog(int workers, size_t most);
  CallLog(const CallLog&) = delete;
  ~CallLog();

  // The log that lives, or null.
  static CallLog* Current() noexcept;
  // Calls of one worker must come one after the other.
  void Add(const CallEvent& event) noexcept;
  std::vector<CallEvent> events() const;  // worker by worker, in order of time
  size_t lost() const;

 private:
  struct Calls {
    std::vector<CallEvent> kept;
    size_t lost = 0;
  };
  std::vector<Calls> workers_;
  size_t most_;
};

}  // namespace graft
