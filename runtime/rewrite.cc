#include "runtime/rewrite.h"

#include <algorithm>

#include "runtime/verify.h"

namespace graft {

void EraseIfUnused(Graph& g, ValueId v, std::vector<NodeId>& erased) {
  const NodeId id = g.value(v).producer;
  if (!id.valid()) return;
  for (ValueId result : g.node(id).out)
    if (!g.users(result).empty() || g.IsOutput(result)) return;
  const ValueList in = g.node(id).in;
  g.EraseNode(id);
  erased.push_back(id);
  for (ValueId operand : in) EraseIfUnused(g, operand, erased);
}
namespace {

using Bindings = std::map<std::string, ValueId>;

// Collects in `inside` the interior nodes (all but the root's) so that the caller can check users.
bool MatchAt(const Graph& g, const Pat& p, ValueId v, bool root, Bindings& at,
             std::vector<ValueId>& interior);

bool MatchOperands(const Graph& g, const Pat& p, const ValueList& in, Bindings& at,
                   std::vector<ValueId>& interior) {
  for (size_t i = 0; i < p.in.size(); ++i)
    if (!MatchAt(g, p.in[i], in[i], false, at, interior)) return false;
  return true;
}

bool MatchAt(const Graph& g, const Pat& p, ValueId v, bool root, Bindings& at,
             std::vector<ValueId>& interior) {
  // A predicate may rely on the operator of its pattern, so the operator is checked first.
  const NodeId id = g.value(v).producer;
  if (p.op && (!id.valid() || g.node(id).op != p.op || g.node(id).out[0] != v)) return false;
  if (p.where && !p.where(g, v)) return false;
  const Bindings before = at;
  const size_t interior_before = interior.size();
  auto fail = [&] {
    at = before;
    interior.resize(interior_before);
    return false;
  };
  if (!p.name.empty()) {
    auto [it, fresh] = at.emplace(p.name, v);
    if (!fresh && it->second != v) return fail();
  }
  if (!p.alternatives.empty()) {
    for (const Pat& alternative : p.alternatives)
      if (MatchAt(g, alternative, v, root, at, interior)) return true;
    return fail();
  }
  if (!p.op) return true;
  const Node& n = g.node(id);
  if (n.in.size() != p.in.size() || (p.attrs && !(n.attrs == *p.attrs))) return fail();
  if (!root) interior.push_back(v);
  const Bindings bound = at;
  const size_t bound_interior = interior.size();
  if (MatchOperands(g, p, n.in, at, interior)) return true;
  if (p.op->commutative && n.in.size() == 2) {
    at = bound;
    interior.resize(bound_interior);
    if (MatchOperands(g, p, {n.in[1], n.in[0]}, at, interior)) return true;
  }
  return fail();
}

// Interior values may be used only by nodes of the match. Otherwise the rewrite would compute them
// twice, or take away what other nodes read.
bool InteriorIsPrivate(const Graph& g, ValueId root, const std::vector<ValueId>& interior) {
  std::vector<NodeId> nodes{g.value(root).producer};
  for (ValueId v : interior) nodes.push_back(g.value(v).producer);
  for (ValueId v : interior) {
    if (v == root) return false;
    for (ValueId result : g.node(g.value(v).producer).out) {
      if (g.IsOutput(result)) return false;
      for (NodeId user : g.users(result))
        if (std::find(nodes.begin(), nodes.end(), user) == nodes.end()) return false;
    }
  }
  return true;
}

// Gives the name of an edge to the value that takes its place, so that methods that come later find
// it.
void MoveName(Graph& g, ValueId from, ValueId to) {
  const std::string name = g.value(from).name;
  if (name.empty() || !g.value(to).name.empty() || !g.value(from).producer.valid() ||
      !g.value(to).producer.valid())
    return;
  g.SetName(from, "");
  g.SetName(to, name);
}

// Applies the first rule that matches at v, and returns its index, or -1.
int ApplyOne(Graph& g, std::span<const Rule> rules, ValueId v, const std::string& pass,
             PassReport& report) {
  const NodeId made_by = g.value(v).producer;
  const OpDef* op = made_by.valid() ? g.node(made_by).op : nullptr;
  for (size_t r = 0; r < rules.size(); ++r) {
    if (rules[r].pattern.op && rules[r].pattern.op != op) continue;
    const std::optional<Match> match = MatchPattern(g, rules[r].pattern, v);
    if (!match) continue;
    // The users are listed before build, as those that the rule makes keep reading the old value.
    const UserList users = g.users(v);
    const NodeId producer = g.value(v).producer;
    ValueId replacement;
    std::string scope = g.scope;
    try {
      g.scope = producer.valid() ? g.node(producer).scope : "";
      const Phase phase = g.phase;
      if (producer.valid()) g.phase = g.node(producer).phase;
      replacement = rules[r].build(g, *match);
      g.phase = phase;
      g.scope = scope;
    } catch (const Error& e) {
      throw Error(
          fmt::format("pass '{}', rule '{}', at %{}: {}", pass, rules[r].name, v.i, e.what()),
          e.kind);
    }
    if (!replacement.valid()) continue;
    if (!(g.type(replacement) == g.type(v)))
      Fail("pass '{}', rule '{}', at %{}: replaces {} by {}", pass, rules[r].name, v.i,
           ToString(g.type(v)), ToString(g.type(replacement)));
    if (replacement != v) {
      g.ReplaceUsesIn(v, replacement, users);
      g.ReplaceResult(v, replacement);
      MoveName(g, v, replacement);
    }
    ++report.rewrites;
    return static_cast<int>(r);
  }
  return -1;
}

// The number of nodes that count. It is kept up to date by what a rewrite adds and erases, as
// counting anew after each would take time with the square of their number.
class Measure {
 public:
  Measure(const Graph& g, const CountsNode& counts) : g_(g), counts_(counts) { Add(); }

  size_t value() const { return counts_ ? value_ : g_.live_nodes(); }
  void Add() {
    if (!counts_) return;
    for (; counted_.size() < g_.num_nodes();) {
      const NodeId id{static_cast<uint32_t>(counted_.size())};
      const bool alive = g_.node(id).op != nullptr;
      counted_.push_back(alive && counts_(g_, id));
      value_ += counted_.back(), live_ += alive;
    }
  }
  void Remove(std::span<const NodeId> erased) {
    if (!counts_) return;
    for (NodeId id : erased) value_ -= counted_[id.i];
    live_ -= erased.size();
    GRAFT_CHECK(live_ == g_.live_nodes(), "a rule that erases nodes itself cannot be measured");
  }

 private:
  const Graph& g_;
  const CountsNode& counts_;
  std::vector<bool> counted_;  // by node
  size_t value_ = 0, live_ = 0;
};

}  // namespace

Pat Any(std::string name) {
  Pat p;
  p.name = std::move(name);
  return p;
}

Pat Op(const OpDef& op, std::vector<Pat> in, std::optional<Attrs> attrs) {
  Pat p;
  p.op = &op;
  p.in = std::move(in);
  p.attrs = std::move(attrs);
  return p;
}

Pat OneOf(std::vector<Pat> alternatives) {
  Pat p;
  p.alternatives = std::move(alternatives);
  return p;
}

ValueId Match::operator[](const std::string& name) const {
  const auto it = at.find(name);
  GRAFT_CHECK(it != at.end(), "the pattern binds no '{}'", name);
  return it->second;
}

const Node& Match::node(const Graph& g, const std::string& name) const {
  return g.node(g.value((*this)[name]).producer);
}

std::optional<Match> MatchPattern(const Graph& g, const Pat& pattern, ValueId root) {
  Match match{root, {}};
  std::vector<ValueId> interior;
  if (!MatchAt(g, pattern, root, true, match.at, interior)) return {};
  if (!InteriorIsPrivate(g, root, interior)) return {};
  return match;
}

PassReport Rewrite(Graph& g, std::string pass, std::span<const Rule> rules) {
  PassReport report{std::move(pass), 0, g.live_nodes(), 0, 0};
  for (NodeId id : g.TopoOrder()) {
    for (size_t k = 0; k < g.node(id).out.size(); ++k)  // none of an erased node
      if (ApplyOne(g, rules, g.node(id).out[k], report.name, report) >= 0) break;
  }
  g.EraseDead();
  VerifyStep(g);
  report.nodes_after = g.live_nodes();
  return report;
}

PassReport RewriteToFixpoint(Graph& g, std::string pass, std::span<const Rule> rules,
                             const CountsNode& counts) {
  PassReport report{std::move(pass), 0, g.live_nodes(), 0, 0};
  Measure measure(g, counts);
  size_t before = measure.value();
  for (bool changed = true; changed;) {
    changed = false;
    for (NodeId id : g.TopoOrder()) {
      for (size_t k = 0; k < g.node(id).out.size(); ++k) {  // none of an erased node
        const ValueId v = g.node(id).out[k];
        const int rule = ApplyOne(g, rules, v, report.name, report);
        if (rule < 0) continue;
        changed = true;
        measure.Add();
        std::vector<NodeId> erased;
        EraseIfUnused(g, v, erased);
        measure.Remove(erased);
        const size_t after = measure.value();
        if (after >= before)
          Fail("pass '{}': rule '{}' does not lower the measure ({} -> {}); it would loop",
               report.name, rules[rule].name, before, after);
        before = after;
        break;
      }
    }
  }
  g.EraseDead();
  VerifyStep(g);
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace graft
