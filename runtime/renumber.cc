// Graph::Renumber: new ids for everything that lives, with nothing copied and nothing inferred.
#include "runtime/graph.h"

namespace graft {

void Graph::Renumber(std::span<const NodeId> order) {
  std::vector<ValueId> to(values_.size());
  std::vector<Value> values;
  std::vector<UserList> users;
  values.reserve(values_.size()), users.reserve(values_.size());
  const auto move_value = [&](ValueId v) {
    to[v.i] = {static_cast<uint32_t>(values.size())};
    values.push_back(std::move(values_[v.i]));
    users.push_back(std::move(users_[v.i]));
    users.back().clear();
  };
  for (uint32_t i = 0; i < values_.size(); ++i)
    if (values_[i].role != Role::kIntermediate && IsAlive({i})) move_value({i});
  std::vector<Node> nodes;
  nodes.reserve(order.size());
  for (const NodeId old : order) {
    const NodeId id{static_cast<uint32_t>(nodes.size())};
    Node& n = nodes.emplace_back(std::move(nodes_[old.i]));
    for (ValueId& v : n.in) v = to[v.i], users[v.i].push_back(id);
    for (ValueId& v : n.out) {
      move_value(v);
      v = to[v.i];
      values[v.i].producer = id;
    }
  }
  GRAFT_CHECK(nodes.size() == live_nodes_, "{} of {} nodes", nodes.size(), live_nodes_);
  dead_leaf_.assign(values.size(), false);
  values_ = std::move(values), nodes_ = std::move(nodes), users_ = std::move(users);
  for (auto& [name, leaf] : leaves_) leaf = to[leaf.i];
  for (GraphOutput& o : outputs.items_) o.value = to[o.value.i];
  for (Update& u : updates.items_) u = {to[u.target.i], to[u.value.i]};
  HoldAgain();
}

}  // namespace graft
