#include "runtime/interpret.h"

namespace graft {

std::vector<std::vector<double>> RunReference(const OpDef& op, const Attrs& attrs,
                                              std::span<const std::vector<double>> in,
                                              std::span<const Extents> in_shape,
                                              std::span<const Extents> out_shape) {
  std::vector<std::vector<double>> out;
  for (const Extents& e : out_shape) out.emplace_back(static_cast<size_t>(e.size()));
  op.reference({in, out, in_shape, out_shape, attrs});
  return out;
}

namespace {

std::vector<double> LeafValues(const Graph& g, ValueId v, const InterpretOptions& options) {
  const Value& leaf = g.value(v);
  const size_t size = static_cast<size_t>(At(leaf.type.shape, options.counts).size());
  std::vector<double> values(size);
  if (const auto it = options.leaves.find(leaf.name); it != options.leaves.end()) {
    values = it->second;
  } else if (leaf.role == Role::kParam && options.params) {
    values = ToDoubles(options.params->Get(leaf.name));
  } else if (leaf.role != Role::kState) {
    Fail("interpreter: no value for '{}'", leaf.name);
  }
  if (values.size() != size)
    Fail("interpreter: '{}' has {} elements, expected {}", leaf.name, values.size(), size);
  return values;
}

}  // namespace

Values64 Interpret(const Graph& g, const InterpretOptions& options) {
  Values64 values(g.num_values());
  for (Role role : {Role::kInput, Role::kParam, Role::kState})
    for (ValueId v : g.Leaves(role)) values[v.i] = LeafValues(g, v, options);
  Phase phase = Phase::kMain;
  for (NodeId id : g.TopoOrder()) {  // main nodes come first
    const Node& n = g.node(id);
    if (n.phase != phase)
      for (const Update& u : g.updates)
        if (g.value(u.target).role == Role::kState) values[u.target.i] = values[u.value.i];
    phase = n.phase;
    std::vector<std::vector<double>> in;
    std::vector<Extents> in_shape, out_shape;
    for (ValueId v : n.in)
      in.push_back(values[v.i]), in_shape.push_back(At(g.shape(v), options.counts));
    for (ValueId v : n.out) out_shape.push_back(At(g.shape(v), options.counts));
    std::vector<std::vector<double>> out = RunReference(*n.op, n.attrs, in, in_shape, out_shape);
    for (size_t i = 0; i < n.out.size(); ++i) values[n.out[i].i] = std::move(out[i]);
  }
  return values;
}

}  // namespace graft
