#include "tools/profiles/record.h"

#include <algorithm>

#include "ops/isa.h"
#include "ops/low_precision.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "runtime/version.h"
#include "tools/profiles/stats.h"

namespace graft {
namespace {

constexpr const char* kFormat = "graft profile 1";

int64_t ParameterCount(const LoadedModel& model) {
  int64_t count = 0;
  for (const std::string& name : model.params.names())
    if (!name.starts_with("opt.")) count += model.params.shape(name).size();
  return count;
}

Json CountersJson(const CounterValues& c) {
  if (!c.why_not.empty()) return {{"why_not", c.why_not}};
  return {{"instructions", c.instructions},
          {"cycles", c.cycles},
          {"cache_references", c.cache_references},
          {"cache_misses", c.cache_misses},
          {"dram_bytes", c.dram_bytes()}};
}

std::vector<double> Times(const Json& object, const std::string& where) {
  std::vector<double> times;
  for (const Json& x : GetArray(object, "steps_ms", where)) {
    if (!x.is_number() || !(x.get<double>() >= 0 && x.get<double>() < 1e12))
      Fail("{}: steps_ms: expected milliseconds, found {}", where, ShowJson(x));
    times.push_back(x.get<double>());
  }
  return times;
}

std::string Shown(const Json& value) {
  return value.is_string() ? value.get<std::string>() : ShowJson(value);
}

std::vector<std::pair<std::string, std::string>> Members(const Json& json, const char* key,
                                                         const std::string& where) {
  std::vector<std::pair<std::string, std::string>> members;
  for (const auto& [name, value] : GetObject(json, key, where).items())
    members.emplace_back(name, Shown(value));
  return members;
}

}  // namespace

int ThreadsInside(const Profile& p) { return p.workers > 1 ? 1 : Threads(); }

Json ProfileJson(const ProfileWork& work, const CommonOptions& common, const LoadedModel& model,
                 const Profile& p, const MachineFacts& machine) {
  const double median = Median(p.step_ms), gflops = p.cost.flops / median * 1e-6;
  const std::vector<NodeKind> kinds = KindsOf(p.nodes);
  Json json{{"step_ms", median},
            {"step_ms_min", std::ranges::min(p.step_ms)},
            {"step_ms_spread", Spread(p.step_ms)},
            {"steps_ms", p.step_ms},
            {"examples_per_second", 1e3 * static_cast<double>(work.batch) / median},
            {"gflops", gflops},
            {"share_of_peak", gflops / machine.peak.gflops},
            {"peak_gflops", machine.peak.gflops},
            {"peak_gflops_bf16", machine.peak.bf16_gflops},
            {"peak_gflops_int8", machine.peak.int8_gflops},
            {"peak_gb_per_second", machine.peak.bytes_per_second * 1e-9},
            {"planned_bytes", p.planned_bytes},
            {"needed_bytes", p.needed_bytes},
            {"peak_memory_bytes", p.peak_bytes},
            {"compile_ms", p.compile_ms},
            {"threads", Threads()},
            {"isa", ActiveIsa()},
            {"dtype", p.products},
            {"micro_batch", p.micro_batch},
            {"recomputed_nodes", p.recomputed},
            {"trainable_parameters", p.trainable},
            {"nodes", NodesJson(p.nodes)}};
  json["format"] = kFormat, json["version"] = kVersion;
  json["kinds"] = KindsJson(kinds, machine, ThreadsInside(p));
  json["machine"] = MachineJson(machine);
  json["counters"] = CountersJson(p.counters);
  json["cpu"] = {{"cpu", Cpu().model},
                 {"l1d_bytes", Cpu().l1d_bytes},
                 {"l2_bytes", Cpu().l2_bytes},
                 {"l3_bytes", Cpu().l3_bytes}};
  json["work"] = {{"architecture", p.architecture},
                  {"parameters", ParameterCount(model)},
                  {"method", work.method.empty() ? "inference" : work.method},
                  {"batch_size", work.batch},
                  {"length", p.length}};
  json["settings"] = {{"model", work.model},
                      {"threads", Threads()},
                      {"isa", ActiveIsa()},
                      {"dtype", ChooseDtype(common.dtype).dtype},
                      {"keep", common.keep},
                      {"memory_budget", common.memory_budget},
                      {"disabled_passes", common.disabled_passes},
                      {"micro_batch", p.micro_batch},
                      {"workers", p.workers},
                      {"steps", work.steps}};
  return json;
}

StoredProfile ReadProfile(const std::string& path) {
  const Json json = ReadJson(path);
  StoredProfile p;
  p.path = path;
  if (!json.is_object() || !json.contains("nodes") || !json.contains("step_ms"))
    Fail("{}: expected a profile, found other JSON; hint: graft profile --model M --out FILE",
         path);
  if (const auto format = FindString(json, "format", path); format != kFormat)
    Fail("{}: expected the form '{}', found {}; hint: profile again with this version", path,
         kFormat, format ? "'" + *format + "'" : "none");
  p.version = GetString(json, "version", path);
  p.cpu = Members(json, "cpu", path);
  p.work = Members(json, "work", path);
  p.settings = Members(json, "settings", path);
  p.disturbances = GetStrings(GetObject(json, "machine", path), "disturbances", path);
  p.planned_bytes = GetNumber(json, "planned_bytes", 0, 1e18, path);
  p.steps_ms = Times(json, path);
  if (p.steps_ms.empty()) Fail("{}: steps_ms: no step", path);
  for (const Json& kind : GetArray(json, "kinds", path)) {
    StoredKind k{GetString(kind, "phase", path), GetString(kind, "op", path),
                 GetString(kind, "layer", path), GetString(kind, "shape", path),
                 GetString(kind, "impl", path)};
    k.steps_ms = Times(kind, path);
    if (k.steps_ms.size() != p.steps_ms.size())
      Fail("{}: {} {}: {} times of {} steps", path, k.op, k.layer, k.steps_ms.size(),
           p.steps_ms.size());
    p.kinds.push_back(std::move(k));
  }
  return p;
}

}  // namespace graft
