// What the nodes of a profiled session cost, as a table and as JSON.
#pragma once
#include <nlohmann/json.hpp>

#include "ops/peak.h"
#include "runtime/session.h"

namespace graft {

struct ProfiledNode {
  StepInfo info;
  const char* phase = "";  // forward, recompute, backward, update; once: when parameters change
  // At capacity: M x N x K of a product (times how many), otherwise of the first result.
  std::string shape;
  std::vector<double> ms;  // in each step
};

// Takes the time of every node after each step of a session whose profile is on.
class NodeTimes {
 public:
  // `graph` is what the session was made of. Both must outlive this.
  NodeTimes(const Session& session, const Graph& graph);
  void AddStep();
  std::vector<ProfiledNode> Nodes() const { return nodes_; }

 private:
  const Session& session_;
  std::vector<ProfiledNode> nodes_;
};

// Nodes of one kind (phase, operator, shape, kernel, layer without the number of its block) taken
// together, those that take longest first: their time in a step as the median over all steps, how
// far steps are from it (the median of the distances), and the rates beside the machine's.
std::string NodeTable(const std::vector<ProfiledNode>& nodes, const MachinePeak& peak, int64_t top);

nlohmann::json NodesJson(const std::vector<ProfiledNode>& nodes);

}  // namespace graft
