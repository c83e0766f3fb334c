#include "peft/surgery.h"

#include "ops/row_sets.h"

namespace graft {
namespace {

class Cloner {
 public:
  Cloner(Graph& g, const std::map<ValueId, ValueId>& others, CloneAs as)
      : g_(g), made_(others), as_(as) {}

  ValueId Clone(ValueId v) {
    if (const auto it = made_.find(v); it != made_.end()) return it->second;
    const NodeId id = g_.value(v).producer;
    if (!id.valid()) return made_[v] = v;
    const Node n = g_.node(id);  // a copy: Add moves the nodes
    if (n.op == &kDropout && as_ == CloneAs::kParameters) return made_[v] = Clone(n.in[0]);
    std::vector<ValueId> in;
    for (ValueId operand : n.in) in.push_back(Clone(operand));
    if (in == n.in) return made_[v] = v;
    if (n.op == &kDropout) in[1] = rows_.OffsetsOf(in[0]);
    g_.scope = n.scope;
    const ValueList out = g_.Add(*n.op, std::move(in), n.attrs, n.built_at);
    for (size_t i = 0; i < out.size(); ++i) {
      made_[n.out[i]] = out[i];
      if (as_ == CloneAs::kRows) g_.SetName(out[i], g_.value(n.out[i]).name);
    }
    return made_[v];
  }

 private:
  Graph& g_;
  std::map<ValueId, ValueId> made_;
  RowSets rows_{g_};
  const CloneAs as_;
};

}  // namespace

ValueId CloneWith(Graph& g, ValueId v, const std::map<ValueId, ValueId>& others, CloneAs as) {
  const std::string scope = g.scope;
  const ValueId clone = Cloner(g, others, as).Clone(v);
  g.scope = scope;
  return clone;
}

void AddKeys(Graph& g, NodeId attention, ValueId keys, ValueId values) {
  const Node n = g.node(attention);
  const UserList users = g.users(n.out[0]);
  const std::string name = g.value(n.out[0]).name, scope = g.scope;
  g.scope = n.scope;
  AttentionAttrs attrs = n.attrs.As<AttentionAttrs>();
  ValueList in = n.in;
  if (attrs.prefix) {
    const size_t at = in.size() - 2;
    in[at] = ConcatRows(g, keys, in[at]), in[at + 1] = ConcatRows(g, values, in[at + 1]);
  } else {
    in.push_back(keys), in.push_back(values);
  }
  attrs.prefix = true;
  const ValueId context = g.Add(kAttention, std::move(in), attrs, n.built_at)[0];
  g.SetName(n.out[0], "");
  g.SetName(context, name);
  g.ReplaceUsesIn(n.out[0], context, users);
  g.scope = scope;
}

void ReplaceLogits(Graph& g, const std::function<ValueId(ValueId)>& made) {
  const ValueId logits = g.output("logits");
  const UserList users = g.users(logits);
  const std::string before = g.scope;
  if (const NodeId id = g.value(logits).producer; id.valid()) g.scope = g.node(id).scope;
  const ValueId now = made(logits);
  g.ReplaceUsesIn(logits, now, users);
  g.ReplaceResult(logits, now);
  g.scope = before;
}

ValueId DropBranch(const MethodArgs& a, ValueId x, const std::string& stream, double p) {
  if (p <= 0) return x;
  return RowSets(a.g).Drop(x, {p, false, static_cast<int64_t>(a.seed), stream});
}

ValueId LongerOffsets(Graph& g, ValueId offsets, int64_t count) {
  const NodeId id = g.value(offsets).producer;
  if (id.valid() && g.node(id).op == &kOffsets)
    return Offsets(g, g.node(id).attrs.As<OffsetsAttrs>().length + count);
  if (id.valid() && g.node(id).op == &kShiftOffsets) {
    const Node n = g.node(id);
    return ShiftOffsets(g, n.in[0], n.attrs.As<ShiftAttrs>().by + count);
  }
  return ShiftOffsets(g, offsets, count);
}

ValueId InsertDropped(const MethodArgs& a, ValueId x, ValueId tokens, ValueId offsets,
                      int64_t position, const std::string& stream, double p) {
  Graph& g = a.g;
  if (p <= 0) return InsertTokens(g, x, tokens, offsets, position);
  // Only the tokens go through the mask, [0; tokens; 0]; the other rows, [x; 0; x], do not.
  const ValueId alone = InsertTokens(g, Scale(g, x, 0), tokens, offsets, position);
  const ValueId room = InsertTokens(g, x, Scale(g, tokens, 0), offsets, position);
  return Add(g, room, DropBranch(a, alone, stream, p));
}

}  // namespace graft
