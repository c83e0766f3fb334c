// Makes one graph of many over one base: the adapters of a model serve beside each other, and what
// they have in common is stored once and computed once.
//
//   const Joined joined = JoinGraphs(base, members);   // members "cats", "dogs", each a graph over
//   Session session(joined.graph, joined.params, ...); // base + what is its own
//   session.Output("logits/cats"), session.Output("logits/dogs")
#pragma once
#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct JoinMember {
  std::string name;  // unique among the members
  const Graph* graph = nullptr;
  const ParamStore* params = nullptr;
};

struct Joined {
  struct Own {
    size_t nodes = 0;    // those that no other member's outputs need
    int64_t values = 0;  // numbers in the parameters that it brought
  };
  Graph graph;        // the outputs of each member, as "OUTPUT/MEMBER"
  ParamStore params;  // the base's under their names, a member's own as "MEMBER/PARAMETER"
  std::vector<Own> own;
  size_t shared_nodes = 0;  // those that at least two members need
};

// A parameter is the base's, or that of an earlier member, if name, shape and bytes are equal; so
// it does not matter whether an adapter's file repeats weights that it has not changed. Stores
// share buffers, and nothing is copied. Equal nodes become one (ShareEqualNodes), so that
// everything before the first parameter that differs is computed once. REQUIRES: the graphs are for
// inference: nothing trains, and there are neither states nor updates. Throws Error for inputs that
// have the same name and different types.
Joined JoinGraphs(const ParamStore& base, std::span<const JoinMember> members);

}  // namespace graft
