#include "runtime/join.h"

#include <cstring>

#include "runtime/passes.h"
#include "runtime/verify.h"

namespace graft {
namespace {

bool Same(const ParamStore::Entry& a, const ParamStore::Entry& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         (a.data == b.data || std::memcmp(a.data, b.data, a.bytes().size()) == 0);
}

class Joiner {
 public:
  explicit Joiner(const ParamStore& base) : base_(base) {}

  void Add(const JoinMember& m) {
    const Graph& from = *m.graph;
    GRAFT_CHECK(
        from.Leaves(Role::kState).empty() && from.updates.empty() && from.Trainable().empty(),
        "'{}' is no graph for inference", m.name);
    out_.own.emplace_back();
    std::vector<ValueId> to(from.num_values());
    for (ValueId v : from.Leaves(Role::kInput)) to[v.i] = Input(m, from.value(v));
    for (ValueId v : from.Leaves(Role::kParam)) to[v.i] = Param(m, from.value(v));
    for (NodeId id : from.TopoOrder()) {
      const Node& n = from.node(id);
      std::vector<ValueId> in;
      for (ValueId v : n.in) in.push_back(to[v.i]);
      out_.graph.scope = n.scope;
      const ValueList made = out_.graph.Add(*n.op, std::move(in), n.attrs, n.built_at);
      for (size_t i = 0; i < made.size(); ++i) {
        out_.graph.SetName(made[i], from.value(n.out[i]).name);
        to[n.out[i].i] = made[i];
      }
    }
    out_.graph.scope.clear();
    for (const GraphOutput& o : from.outputs)
      out_.graph.AddOutput(o.name + "/" + m.name, to[o.value.i]);
    last_output_.push_back(out_.graph.outputs.size());
  }

  Joined Finish() {
    ShareEqualNodes(out_.graph);
    Verify(out_.graph);
    CountNodes();
    return std::move(out_);
  }

 private:
  ValueId Input(const JoinMember& m, const Value& input) {
    ValueId& leaf = leaves_[input.name];
    if (!leaf.valid()) leaf = out_.graph.AddInput(input.name, input.type);
    if (const TensorType& found = out_.graph.type(leaf); !(found == input.type))
      Fail("input '{}': '{}' wants {}, those before it {}", input.name, m.name,
           ToString(input.type), ToString(found));
    return leaf;
  }

  ValueId Param(const JoinMember& m, const Value& param) {
    const std::string name = StoredName(m, param.name);
    ValueId& leaf = leaves_[name];
    if (!leaf.valid()) leaf = out_.graph.AddParam(name, param.type.shape, false, param.type.dtype);
    return leaf;
  }

  // Puts the parameter into the store, unless it is already there under the returned name.
  std::string StoredName(const JoinMember& m, const std::string& name) {
    const ParamStore::Entry& wanted = m.params->Get(name);
    if (const ParamStore::Entry* entry = base_.Find(name); entry && Same(*entry, wanted)) {
      if (!out_.params.Has(name)) out_.params.SetShared(name, base_, name);
      return name;
    }
    std::vector<std::string>& variants = variants_[name];
    for (const std::string& variant : variants)
      if (Same(out_.params.Get(variant), wanted)) return variant;
    variants.push_back(m.name + "/" + name);
    out_.params.SetShared(variants.back(), *m.params, name);
    out_.own.back().values += wanted.shape.size();
    return variants.back();
  }

  void CountNodes() {
    const Graph& g = out_.graph;
    std::vector<size_t> readers(g.num_nodes()), member(g.num_nodes());
    for (size_t i = 0; i < last_output_.size(); ++i) {
      std::vector<bool> seen(g.num_nodes());
      std::vector<ValueId> stack;
      for (size_t k = i ? last_output_[i - 1] : 0; k < last_output_[i]; ++k)
        stack.push_back(g.outputs[k].value);
      while (!stack.empty()) {
        const NodeId id = g.value(stack.back()).producer;
        stack.pop_back();
        if (!id.valid() || seen[id.i]) continue;
        seen[id.i] = true;
        ++readers[id.i], member[id.i] = i;
        for (ValueId v : g.node(id).in) stack.push_back(v);
      }
    }
    for (size_t n = 0; n < readers.size(); ++n) {
      if (readers[n] == 1) ++out_.own[member[n]].nodes;
      out_.shared_nodes += readers[n] > 1;
    }
  }

  const ParamStore& base_;
  std::map<std::string, ValueId> leaves_;  // inputs and parameters of the joined graph
  std::map<std::string, std::vector<std::string>> variants_;  // name -> those unlike the base's
  std::vector<size_t> last_output_;                           // by member: end of its outputs
  Joined out_;
};

}  // namespace

Joined JoinGraphs(const ParamStore& base, std::span<const JoinMember> members) {
  Joiner joiner(base);
  for (const JoinMember& m : members) joiner.Add(m);
  return joiner.Finish();
}

}  // namespace graft
