// What the nodes of a profiled session cost, summed by kind, as a table and as JSON.
#pragma once
#include <nlohmann/json.hpp>
#include <span>

#include "ops/kernel_choice.h"
#include "runtime/session.h"
#include "tools/profiles/machine.h"

namespace graft {

struct ProfiledNode {
  StepInfo info;
  const char* phase = "";  // forward, recompute, backward, update; once: when parameters change
  // The shape at capacity: M x N x K of a product (times how many), otherwise that of the first
  // result.
  std::string shape;
  std::string why, refused;  // of the kernel, where there are several; else ""
  Cost of_step;              // of all calls of a step, at what they bind
  std::vector<double> ms;    // in each step
};

// Takes the time of every node after each step of a session whose profile is on.
class NodeTimes {
 public:
  // `graph` is what the session was made of, `parts` what the runs of a step bind. Session and
  // graph must outlive this object.
  NodeTimes(const Session& session, const Graph& graph, const Precision& precision,
            std::span<const Counts> parts);
  void AddStep();
  std::vector<ProfiledNode> Nodes() const { return nodes_; }

 private:
  const Session& session_;
  std::vector<ProfiledNode> nodes_;
};

// Nodes of one phase, operator, shape, kernel and layer (without the number of its block).
struct NodeKind {
  std::string phase, op, layer, shape, impl, why, refused;
  double flops = 0, bytes = 0;  // of all calls of a step
  double calls = 0;             // in a step
  std::vector<double> ms;       // in each step

  double median_ms() const;
};
// The kinds of nodes; those that take longest come first.
std::vector<NodeKind> KindsOf(const std::vector<ProfiledNode>& nodes);

// The rates of a kind beside those of the machine. The roof is the lower of the peak for the
// numbers that the kernel multiplies and of what the level feeds. The level is the smallest that
// holds what a call reads and writes.
struct NodeRates {
  double gflops = 0, gb_per_second = 0;
  double of_peak = 0, of_roof = 0;  // shares
  double intensity = 0;             // flops for a byte
  double roof_gflops = 0;
  const char* level = "";
};
// `threads_inside` is the number of threads that make a call together.
NodeRates RatesOf(const NodeKind& kind, const MachineFacts& machine, int threads_inside);

// The first `top` kinds: their time in a step as the median over all steps, how far steps are from
// it (the median of the distances), and their rates.
std::string NodeTable(const std::vector<NodeKind>& kinds, const MachineFacts& machine,
                      int threads_inside, int64_t top);

nlohmann::json NodesJson(const std::vector<ProfiledNode>& nodes);
nlohmann::json KindsJson(const std::vector<NodeKind>& kinds, const MachineFacts& machine,
                         int threads_inside);

}  // namespace graft
