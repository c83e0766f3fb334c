// What `graft predict` runs: one model, or several adapters of one base in one graph, whose common
// part is computed once and whose common weights are in memory once.
#pragma once
#include "adapters/method_graph.h"
#include "adapters/open_model.h"
#include "runtime/join.h"

namespace graft {

struct JointModel {
  struct Member {
    std::string name;    // the adapter as given (a second one of the same name: "NAME#2")
    std::string output;  // of its logits
    OpenedModel opened;  // without parameters: `params` below has those of all
    Joined::Own own;
  };
  std::vector<Member> members;  // at least one
  // The graph is to be run as it is. Each member's graph has gone through the passes of inference
  // by itself, so that a member has the very nodes, and gives the same bits, as alone. A pass over
  // the joined graph would leave out whatever changes a value that other members read.
  Graph graph;
  ParamStore params;
  size_t shared_nodes = 0;  // that at least two members need

  const OpenedModel& first() const { return members[0].opened; }  // all read the same input
};

// With at most one adapter the model is what OpenModel opens, with the output "logits". The base of
// several adapters is opened once. Throws Error, naming both adapters, if they want different
// inputs: another preprocessing, tokenizer or length.
JointModel OpenJointModel(const ModelChoice& choice, std::span<const std::string> adapters,
                          InputKind kind, const PassOptions& passes = {});

}  // namespace graft
