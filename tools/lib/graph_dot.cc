#include "tools/lib/graph_dot.h"

#include "runtime/op.h"

namespace graft {
namespace {

class DotWriter {
 public:
  DotWriter(const Graph& g, const std::string& scope, const std::set<NodeId>& marked)
      : g_(g), scope_(scope), marked_(marked) {}

  std::string Write() {
    for (NodeId id : g_.TopoOrder())
      if (Inside(id)) AddNode(id);
    if (text_.empty() && !scope_.empty()) Fail("no node of the graph is in '{}'", scope_);
    return "digraph graft {\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\"];\n" +
           text_ + "}\n";
  }

 private:
  bool Inside(NodeId id) const {
    const std::string& of = g_.node(id).scope;
    return scope_.empty() || of == scope_ || of.starts_with(scope_ + ".");
  }
  const char* Mark(NodeId id) const {
    return marked_.contains(id) ? ", style=filled, fillcolor=palegreen, penwidth=2" : "";
  }
  void AddNode(NodeId id) {
    const Node& n = g_.node(id);
    text_ += fmt::format("  n{} [label=\"{}\\n{}\\n{}\"{}];\n", id.i, n.op->name, n.scope,
                         ToString(g_.type(n.out[0])), Mark(id));
    for (ValueId v : n.in) text_ += fmt::format("  {} -> n{};\n", Source(v), id.i);
  }
  // The name of what makes a value. Whatever is not in the picture appears once, as an ellipse.
  std::string Source(ValueId v) {
    const Value& value = g_.value(v);
    const NodeId from = value.producer;
    std::string name = from.valid() ? fmt::format("n{}", from.i) : fmt::format("v{}", v.i);
    if ((from.valid() && Inside(from)) || !outside_.insert(name).second) return name;
    const std::string label = value.name.empty() ? std::string(g_.node(from).op->name) : value.name;
    const char* color = value.role == Role::kInput ? ", style=filled, fillcolor=lightblue"
                        : from.valid()             ? Mark(from)
                        : value.trainable          ? ", style=filled, fillcolor=orange"
                                                   : ", style=filled, fillcolor=grey90";
    text_ += fmt::format("  {} [label=\"{}\\n{}\", shape=ellipse{}];\n", name, label,
                         ToString(value.type), color);
    return name;
  }

  const Graph& g_;
  const std::string& scope_;
  const std::set<NodeId>& marked_;
  std::set<std::string> outside_;
  std::string text_;
};

}  // namespace

std::string ToDot(const Graph& g, const std::string& scope, const std::set<NodeId>& marked) {
  return DotWriter(g, scope, marked).Write();
}

}  // namespace graft
