#include "tools/lib/interrupts.h"

#include <atomic>
#include <csignal>
#include <cstdlib>

namespace graft {
namespace {
std::atomic<int> interrupts{0};
void OnSignal(int) {
  if (interrupts.fetch_add(1) > 0) std::_Exit(130);
}
}  // namespace

void CatchInterrupts() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
}

bool Interrupted() { return interrupts.load() > 0; }

}  // namespace graft
