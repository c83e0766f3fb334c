#include "tools/profiles/trace.h"

#include <algorithm>
#include <set>

#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "runtime/version.h"

namespace graft {
namespace {

constexpr int kProcess = 1, kStepTrack = 1, kFirstThread = 2;  // 0 stands for the idle task

Json NameEvent(const char* what, int track, const std::string& name) {
  return {
      {"ph", "M"}, {"name", what}, {"pid", kProcess}, {"tid", track}, {"args", {{"name", name}}}};
}

// The unit of the format is the microsecond.
Json Slice(const std::string& name, const char* category, int track, int64_t begin_ns,
           int64_t end_ns, Json args) {
  return {{"ph", "X"},
          {"name", name},
          {"cat", category},
          {"pid", kProcess},
          {"tid", track},
          {"ts", 1e-3 * static_cast<double>(begin_ns)},
          {"dur", 1e-3 * static_cast<double>(end_ns - begin_ns)},
          {"args", std::move(args)}};
}

// A call's work: the mean over the calls of a step, whose parts differ by an example at most.
Json CallSlice(const ProfiledNode& node, const CallEvent& event, int64_t start) {
  const double calls = static_cast<double>(node.info.calls) / static_cast<double>(node.ms.size());
  const std::string name =
      node.info.scope.empty() ? node.info.op : node.info.op + " " + node.info.scope;
  return Slice(name, node.phase, kFirstThread + event.worker, event.begin_ns - start,
               event.end_ns - start,
               {{"phase", node.phase},
                {"shape", node.shape},
                {"impl", node.info.impl},
                {"flops", node.of_step.flops / calls},
                {"bytes", node.of_step.bytes / calls}});
}

}  // namespace

std::string ChromeTrace(const ProfileWork& work, const Profile& p) {
  const int64_t start = p.step_ns.empty() ? 0 : p.step_ns.front().first;
  Json events = Json::array();
  events.push_back(NameEvent("process_name", kStepTrack, fmt::format("graft {}", p.architecture)));
  events.push_back(NameEvent("thread_name", kStepTrack, "steps"));
  std::set<int> workers;
  for (const CallEvent& e : p.events) workers.insert(e.worker);
  for (const int worker : workers)
    events.push_back(NameEvent("thread_name", kFirstThread + worker,
                               p.workers > 1 || Threads() == 1
                                   ? fmt::format("thread {}", worker)
                                   : fmt::format("{} threads in each kernel", Threads())));
  for (size_t i = 0; i < p.step_ns.size(); ++i)
    events.push_back(Slice(fmt::format("step {}", i), "step", kStepTrack,
                           p.step_ns[i].first - start, p.step_ns[i].second - start,
                           Json::object()));
  for (const CallEvent& e : p.events) events.push_back(CallSlice(p.nodes[e.step], e, start));
  const Json trace{{"displayTimeUnit", "ms"},
                   {"otherData",
                    {{"version", kVersion},
                     {"model", work.model},
                     {"method", work.method.empty() ? "inference" : work.method},
                     {"lost_calls", p.lost_events}}},
                   {"traceEvents", std::move(events)}};
  return ShowJson(trace) + "\n";
}

}  // namespace graft
