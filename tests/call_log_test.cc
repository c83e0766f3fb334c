// The log of kernel calls: room is bounded, and nothing beyond it is written.
#include "runtime/call_log.h"

#include <gtest/gtest.h>

namespace graft::call_log_test {
namespace {

TEST(CallLog, KeepsTheFirstCallsOfEachWorker) {
  EXPECT_EQ(CallLog::Current(), nullptr);
  {
    CallLog log(2, 3);
    ASSERT_EQ(CallLog::Current(), &log);
    for (uint32_t i = 0; i < 5; ++i) log.Add({i, 1, 10 * i, 10 * i + 1});
    log.Add({7, 0, 0, 1});
    log.Add({8, 2, 0, 1});  // of no worker that it knows
    const std::vector<CallEvent> events = log.events();
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(events[0].step, 7u);
    for (uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(events[1 + i].step, i);
      EXPECT_EQ(events[1 + i].worker, 1);
      EXPECT_EQ(events[1 + i].end_ns, 10 * i + 1);
    }
    EXPECT_EQ(log.lost(), 2u);
  }
  EXPECT_EQ(CallLog::Current(), nullptr);
}

}  // namespace
}  // namespace graft::call_log_test
