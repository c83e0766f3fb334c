#include "runtime/verify.h"

#include <algorithm>
#include <set>

#include "runtime/op.h"

namespace graft {
namespace {

std::string Place(const Graph& g, NodeId id) {
  const Node& n = g.node(id);
  return fmt::format("node {} ({}) in '{}'", id.i, n.op->name, n.scope);
}

// For each value, whether its list of users differs from the nodes that read it. All values are
// done in one walk, as a value may have thousands of users. The readers of value v, in order, are
// those from begin[v] on.
std::vector<bool> WrongUsers(const Graph& g) {
  std::vector<size_t> begin(g.num_values() + 1);
  const auto for_each_use = [&](const auto& f) {
    for (uint32_t i = 0; i < g.num_nodes(); ++i)
      for (ValueId v : g.node({i}).in)
        if (v.valid() && v.i < g.num_values()) f(NodeId{i}, v);
  };
  for_each_use([&](NodeId, ValueId v) { ++begin[v.i + 1]; });
  for (size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
  std::vector<NodeId> readers(begin.back()), users;
  std::vector<size_t> end(begin.begin(), begin.end() - 1);
  for_each_use([&](NodeId reader, ValueId v) { readers[end[v.i]++] = reader; });
  std::vector<bool> wrong(g.num_values());
  for (uint32_t i = 0; i < g.num_values(); ++i) {
    const std::span expected(readers.data() + begin[i], begin[i + 1] - begin[i]);
    users.assign(g.users({i}).begin(), g.users({i}).end());
    if (!std::ranges::is_sorted(users)) std::ranges::sort(users);
    wrong[i] = !std::ranges::equal(users, expected);
  }
  return wrong;
}

// `types` is scratch: to fill it anew for each node would take more time than all else.
void VerifyNode(const Graph& g, NodeId id, const std::vector<bool>& wrong_users,
                std::vector<TensorType>& types) {
  const Node& n = g.node(id);
  if (types.size() < n.in.size()) types.resize(n.in.size());
  size_t inputs = 0;
  for (ValueId v : n.in) {
    if (!v.valid() || v.i >= g.num_values()) Fail("{}: input {} does not exist", Place(g, id), v.i);
    if (!g.IsAlive(v)) Fail("{}: input %{} was erased", Place(g, id), v.i);
    if (wrong_users[v.i]) {
      const auto uses = std::count(n.in.begin(), n.in.end(), v);
      const auto listed = std::count(g.users(v).begin(), g.users(v).end(), id);
      if (uses != listed)
        Fail("{}: reads %{} {} times, the use list says {}", Place(g, id), v.i, uses, listed);
    }
    const NodeId producer = g.value(v).producer;
    if (producer.valid() && g.node(producer).phase > n.phase)
      Fail("{}: a main-phase node reads %{} of the update phase", Place(g, id), v.i);
    types[inputs++] = g.type(v);
  }
  for (ValueId v : n.out)
    if (g.value(v).producer != id) Fail("{}: result %{} names another producer", Place(g, id), v.i);
  std::vector<TensorType> results;
  try {
    results = n.op->infer(std::span(types).first(inputs), n.attrs);
  } catch (const Error& e) {
    Fail("{}: its inputs no longer fit: {}", Place(g, id), e.what());
  }
  if (results.size() != n.out.size())
    Fail("{}: expected {} results, found {}", Place(g, id), results.size(), n.out.size());
  for (size_t i = 0; i < results.size(); ++i)
    if (!(results[i] == g.type(n.out[i])))
      Fail("{}: result %{} should be {} but is {}", Place(g, id), n.out[i].i, ToString(results[i]),
           ToString(g.type(n.out[i])));
}

// Names are unique if each leaf is found by its own.
void VerifyLeaves(const Graph& g) {
  const auto is_leaf = [&](ValueId v) {
    return v.valid() && v.i < g.num_values() && g.value(v).role != Role::kIntermediate &&
           g.IsAlive(v);
  };
  for (uint32_t i = 0; i < g.num_values(); ++i) {
    const Value& v = g.value({i});
    if (v.role != Role::kIntermediate && v.producer.valid())
      Fail("leaf '{}' has a producer", v.name);
    if (v.trainable && v.role != Role::kParam) Fail("%{} is trainable but no parameter", i);
    if (v.trainable && v.type.dtype != DType::kF32)
      Fail("parameter '{}' is trainable but {}", v.name, ToString(v.type.dtype));
    for (NodeId user : g.users({i}))
      if (user.i >= g.num_nodes() || !g.node(user).op)
        Fail("%{} is listed as used by an erased node", i);
    if (v.role == Role::kIntermediate || !g.IsAlive({i})) continue;
    const ValueId found = g.FindLeaf(v.name);
    if (found == ValueId{i}) continue;
    if (is_leaf(found) && g.value(found).name == v.name) Fail("two leaves are named '{}'", v.name);
    Fail("leaf '{}' is not found by its name", v.name);
  }
}

// Checks the other direction of VerifyNode: no value says that it belongs to a node that does not
// know of it.
void VerifyValues(const Graph& g) {
  for (uint32_t i = 0; i < g.num_values(); ++i) {
    for (NodeId user : g.users({i}))
      if (const auto& in = g.node(user).in; std::find(in.begin(), in.end(), ValueId{i}) == in.end())
        Fail("%{} is listed as used by {}, which does not read it", i, Place(g, user));
    const NodeId maker = g.value({i}).producer;
    if (!maker.valid()) continue;
    const auto& out = g.node(maker).out;
    if (std::find(out.begin(), out.end(), ValueId{i}) == out.end())
      Fail("%{} names node {} as its producer, which does not make it", i, maker.i);
  }
}

bool Exists(const Graph& g, ValueId v) { return v.valid() && v.i < g.num_values() && g.IsAlive(v); }

void VerifyResults(const Graph& g) {
  std::set<std::string> names;
  for (const GraphOutput& o : g.outputs) {
    if (!Exists(g, o.value)) Fail("output '{}' was erased", o.name);
    if (!names.insert(o.name).second) Fail("two outputs are named '{}'", o.name);
    if (!g.IsOutput(o.value)) Fail("output '{}': %{} is not known as one", o.name, o.value.i);
  }
  std::vector<bool> targets(g.num_values());
  for (const Update& u : g.updates) {
    if (!Exists(g, u.target) || !Exists(g, u.value)) Fail("an update refers to an erased value");
    const Value& target = g.value(u.target);
    if (target.role != Role::kParam && target.role != Role::kState)
      Fail("update of %{}: only parameters and states can be updated", u.target.i);
    if (!(target.type == g.type(u.value)))
      Fail("update of '{}': {} given for {}", target.name, ToString(g.type(u.value)),
           ToString(target.type));
    if (targets[u.target.i]) Fail("'{}' is updated twice", target.name);
    targets[u.target.i] = true;
    if (!g.IsOutput(u.value)) Fail("update of '{}': %{} is not known", target.name, u.value.i);
  }
}

}  // namespace

void Verify(const Graph& g) {
  VerifyLeaves(g);
  const std::vector<bool> wrong_users = WrongUsers(g);
  std::vector<TensorType> types;
  for (uint32_t i = 0; i < g.num_nodes(); ++i)
    if (g.node({i}).op) VerifyNode(g, {i}, wrong_users, types);
  VerifyValues(g);
  VerifyResults(g);
  const size_t live = g.TopoOrder().size();  // throws on a cycle
  if (g.live_nodes() != live) Fail("{} nodes are counted, {} are alive", g.live_nodes(), live);
  if (const size_t results = g.outputs.size() + g.updates.size(); g.held_.size() != results)
    Fail("{} results are known, there are {}", g.held_.size(), results);
}

namespace {
thread_local int at_the_end = 0;
}  // namespace

VerifyAtTheEnd::VerifyAtTheEnd() { ++at_the_end; }
VerifyAtTheEnd::~VerifyAtTheEnd() { --at_the_end; }

void VerifyStep(const Graph& g) {
  if (at_the_end == 0) Verify(g);
}

void VerifyTrainableReachOutput(const Graph& g) {
  std::vector<bool> reached(g.num_values());
  std::vector<ValueId> stack;
  for (const GraphOutput& o : g.outputs) stack.push_back(o.value);
  while (!stack.empty()) {
    const ValueId v = stack.back();
    stack.pop_back();
    if (reached[v.i]) continue;
    reached[v.i] = true;
    if (g.value(v).producer.valid())
      for (ValueId in : g.node(g.value(v).producer).in) stack.push_back(in);
  }
  for (ValueId p : g.Trainable())
    if (!reached[p.i])
      Fail("trainable parameter '{}' reaches no output: training would leave it as it is",
           g.value(p).name);
}

}  // namespace graft
