#include "tools/lib/profile_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

constexpr std::string_view kRecompute = ".recompute";  // the scope's end of what autograd repeats

// Forward is what the loss is made of.
class Phases {
 public:
  explicit Phases(const Graph& g) : g_(g) {
    const ValueId loss = g.FindLeaf("acc.loss");
    std::vector<ValueId> made;
    for (const Update& u : g.updates)
      if (u.target == loss) made.push_back(u.value);
    training_ = loss.valid();
    forward_ = NeededForAny(g, made);
  }

  const char* Of(const StepInfo& s) const {
    if (s.phase == Phase::kUpdate) return "update";
    if (s.once) return "once";
    if (s.scope.ends_with(kRecompute)) return "recompute";
    return !training_ || forward_[g_.node(s.node).out[0].i] ? "forward" : "backward";
  }

 private:
  const Graph& g_;
  bool training_ = false;
  std::vector<bool> forward_;
};

std::string ShapeOf(const Graph& g, const StepInfo& s, const Counts& capacity) {
  const Node& n = g.node(s.node);
  const Extents out = At(g.shape(n.out[0]), capacity);
  if (n.op == &kMatmul || n.op == &kLowMatmul || n.op == &kNf4Matmul) {
    const Extents a = At(g.shape(n.in[0]), capacity);
    const bool transposed = (n.op == &kMatmul && n.attrs.As<MatmulAttrs>().ta) ||
                            (n.op == &kLowMatmul && n.attrs.As<LowMatmulAttrs>().product.ta);
    return fmt::format("{}x{}x{}", out[0], out[1], a[transposed ? 0 : 1]);
  }
  std::string text;
  for (int i = 0; i < out.rank; ++i) text += fmt::format("{}{}", i ? "x" : "", out[i]);
  return text.empty() ? "1" : text;
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const size_t half = v.size() / 2;
  return v.empty() ? 0 : v.size() % 2 ? v[half] : (v[half - 1] + v[half]) / 2;
}

// The median of the distances from the median.
double Spread(const std::vector<double>& v) {
  const double median = Median(v);
  std::vector<double> apart;
  for (const double x : v) apart.push_back(std::abs(x - median));
  return Median(apart);
}

// "blocks.11.attn.q" -> "blocks.*.attn.q"
std::string Layer(std::string scope) {
  if (scope.ends_with(kRecompute)) scope.resize(scope.size() - kRecompute.size());
  if (!scope.starts_with("blocks.")) return scope;
  const size_t dot = scope.find('.', 7);
  return "blocks.*" + (dot == std::string::npos ? "" : scope.substr(dot));
}

// Of the numbers that the kernel multiplies.
double PeakFor(const MachinePeak& peak, const std::string& impl) {
  if (impl == "gemm_core:bf16" && peak.bf16_gflops > 0) return peak.bf16_gflops;
  if (impl == "gemm_core:int8" && peak.int8_gflops > 0) return peak.int8_gflops;
  return peak.gflops;
}

struct Group {
  const ProfiledNode* first = nullptr;
  std::string layer;
  double flops = 0, bytes = 0;  // of all calls
  int64_t calls = 0;
  std::vector<double> ms;  // in each step
};

std::vector<Group> GroupNodes(const std::vector<ProfiledNode>& nodes) {
  std::map<std::tuple<std::string, std::string, std::string, std::string, std::string>, Group> all;
  for (const ProfiledNode& n : nodes) {
    if (n.info.calls == 0 || n.ms.empty()) continue;
    const std::string layer = Layer(n.info.scope);
    Group& group = all[{n.phase, n.info.op, layer, n.shape, n.info.impl}];
    if (!group.first) group.first = &n, group.layer = layer, group.ms.resize(n.ms.size());
    group.flops += n.info.cost.flops * static_cast<double>(n.info.calls);
    group.bytes += n.info.cost.bytes * static_cast<double>(n.info.calls);
    group.calls += n.info.calls;
    for (size_t i = 0; i < n.ms.size(); ++i) group.ms[i] += n.ms[i];
  }
  std::vector<Group> sorted;
  for (auto& [key, group] : all) sorted.push_back(std::move(group));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Group& a, const Group& b) { return Median(a.ms) > Median(b.ms); });
  return sorted;
}

// Columns as wide as their widest cell; numbers to the right.
std::string Columns(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += i < left ? fmt::format("{:<{}}  ", row[i], widths[i])
                       : fmt::format("{:>{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += (text.empty() ? "" : "\n") + line;
  }
  return text;
}

}  // namespace

NodeTimes::NodeTimes(const Session& session, const Graph& graph) : session_(session) {
  const Phases phases(graph);
  for (const StepInfo& s : session.steps())
    nodes_.push_back({s, phases.Of(s), ShapeOf(graph, s, session.options().capacity), {}});
  for (ProfiledNode& n : nodes_) n.info.seconds = 0, n.info.calls = 0;
}

void NodeTimes::AddStep() {
  const std::vector<StepInfo> now = session_.steps();
  for (size_t i = 0; i < now.size(); ++i) {
    StepInfo& before = nodes_[i].info;
    nodes_[i].ms.push_back(1e3 * (now[i].seconds - before.seconds));
    before.seconds = now[i].seconds, before.calls = now[i].calls;
  }
}

std::string NodeTable(const std::vector<ProfiledNode>& nodes, const MachinePeak& peak,
                      int64_t top) {
  const std::vector<Group> groups = GroupNodes(nodes);
  double total = 0;
  std::map<std::string, double> phases;
  for (const Group& g : groups) total += Median(g.ms), phases[g.first->phase] += Median(g.ms);
  std::vector<std::vector<std::string>> rows{{"phase", "operator", "layer", "MxNxK", "kernel",
                                              "calls", "ms", "+-", "share", "GFLOP/s", "of peak",
                                              "GB/s", "of roof"}};
  bool above = false;
  for (size_t i = 0; i < groups.size() && i < static_cast<size_t>(top); ++i) {
    const Group& g = groups[i];
    const double steps = static_cast<double>(g.ms.size()), ms = Median(g.ms);
    const double flops = g.flops / steps, bytes = g.bytes / steps, seconds = 1e-3 * ms;
    // Attainable: the lower of the peak and what memory can feed.
    const double most = PeakFor(peak, g.first->info.impl);
    const double roof = std::max(flops / (most * 1e9), bytes / peak.bytes_per_second);
    const double of_peak = flops / seconds * 1e-9 / most, of_roof = roof / seconds;
    above = above || of_peak > 1 || of_roof > 1;
    rows.push_back(
        {g.first->phase, g.first->info.op, g.layer, g.first->shape, g.first->info.impl,
         fmt::format("{}", g.calls / static_cast<int64_t>(g.ms.size())), fmt::format("{:.2f}", ms),
         fmt::format("{:.2f}", Spread(g.ms)),
         fmt::format("{:.1f}%", 100 * ms / std::max(total, 1e-9)),
         fmt::format("{:.1f}", flops / seconds * 1e-9), fmt::format("{:.0f}%", 100 * of_peak),
         fmt::format("{:.1f}", bytes / seconds * 1e-9), fmt::format("{:.0f}%", 100 * of_roof)});
  }
  std::string text = Columns(rows, 5);
  std::string sums;
  for (const char* phase : {"forward", "recompute", "backward", "update", "once"})
    if (phases.contains(phase))
      sums += fmt::format("{}{} {:.1f} ms", sums.empty() ? "" : ", ", phase, phases[phase]);
  text +=
      fmt::format("\n{} (calls and ms are of one step; +-: median distance from the median)", sums);
  if (above)
    text +=
        "\nabove 100 %: the roof is that of main memory, and what stays in the caches is faster; "
        "or the machine was disturbed while its peak was measured";
  return text;
}

nlohmann::json NodesJson(const std::vector<ProfiledNode>& nodes) {
  nlohmann::json json = nlohmann::json::array();
  for (const ProfiledNode& n : nodes)
    json.push_back({{"op", n.info.op},
                    {"scope", n.info.scope},
                    {"phase", n.phase},
                    {"shape", n.shape},
                    {"impl", n.info.impl},
                    {"seconds", n.info.seconds},
                    {"calls", n.info.calls},
                    {"ms", Median(n.ms)},
                    {"ms_min", n.ms.empty() ? 0 : std::ranges::min(n.ms)},
                    {"ms_spread", Spread(n.ms)},
                    {"flops", n.info.cost.flops},
                    {"bytes", n.info.cost.bytes}});
  return json;
}

}  // namespace graft
