#include "ops/optimise.h"

#include "ops/nf4.h"
#include "runtime/lifetimes.h"

namespace graft {
namespace {

// How many rows of each sequence `rows` names, in the order of the sequences; 0 if that is not
// known. An input of a*s indices names a rows of each (docs/ir.md).
int64_t RowsOfEach(const Graph& g, ValueId rows, ValueId offsets) {
  const Dim& count = g.shape(rows)[0];
  if (g.value(rows).role == Role::kInput)
    return count == Dim::Sequences(count.sequences) ? count.sequences : 0;
  const NodeId maker = g.value(rows).producer;
  return maker.valid() && g.node(maker).op == &kFirstRows && g.node(maker).in[0] == offsets;
}

// If the same number of rows of each sequence is read of attention(q, k, v, offsets, ...), only the
// queries of these rows are computed.
ValueId SinkIntoAttention(Graph& g, NodeId id, ValueId rows) {
  const Node n = g.node(id);
  if (n.op != &kAttention) return {};
  const int64_t of_each = RowsOfEach(g, rows, n.in[3]);
  if (of_each == 0 || !g.users(n.out[1]).empty()) return {};
  ValueList in = n.in;
  in[0] = GatherRows(g, in[0], rows);
  in[3] = Offsets(g, of_each);
  return g.Add(*n.op, in, n.attrs, n.built_at)[0];
}

// Where sequences begin: each has `length` rows more than `base` says, or `length` in all without a
// base.
struct SequenceRows {
  ValueId base;
  int64_t length;
};
SequenceRows RowsOf(const Graph& g, ValueId offsets) {
  const NodeId id = g.value(offsets).producer;
  if (id.valid() && g.node(id).op == &kOffsets)
    return {{}, g.node(id).attrs.As<OffsetsAttrs>().length};
  if (id.valid() && g.node(id).op == &kShiftOffsets)
    return {g.node(id).in[0], g.node(id).attrs.As<ShiftAttrs>().by};
  return {offsets, 0};
}

// If one row of each sequence, such as the class token's, is read of drop_tokens(x, longer,
// position, count), it is that row of x's sequence if it stands in front of the tokens, and the one
// `count` rows later if it stands behind them.
ValueId SinkPastTokens(Graph& g, NodeId id, ValueId rows) {
  const Node n = g.node(id);
  const NodeId index = g.value(rows).producer;
  if (n.op != &kDropTokens) return {};
  if (!index.valid() || g.node(index).op != &kFirstRows) return {};
  const SequenceRows with = RowsOf(g, n.in[1]), without = RowsOf(g, g.node(index).in[0]);
  const auto [position, count] = n.attrs.As<TokensAttrs>();
  if (with.base != without.base || with.length - without.length != count) return {};
  const int64_t at = g.node(index).attrs.As<FirstRowsAttrs>().at;
  return GatherRows(g, n.in[0], FirstRows(g, n.in[1], at < position ? at : at + count));
}

PassReport Sink(Graph& g) {
  return SinkGather(g, kGatherRows, [](Graph& graph, NodeId id, ValueId rows) {
    const ValueId sunk = SinkIntoAttention(graph, id, rows);
    return sunk.valid() ? sunk : SinkPastTokens(graph, id, rows);
  });
}

const MatmulAttrs& Attributes(const Graph& g, ValueId matmul) {
  return g.node(g.value(matmul).producer).attrs.As<MatmulAttrs>();
}

bool Plain(const Graph& g, ValueId v) {  // nothing fused yet
  const MatmulAttrs& a = Attributes(g, v);
  return !a.bias && !a.residual && a.act == "none";
}
bool TakesBias(const Graph& g, ValueId v) {
  const MatmulAttrs& a = Attributes(g, v);
  return !a.bias && a.act == "none";
}
bool TakesResidual(const Graph& g, ValueId v) {
  const MatmulAttrs& a = Attributes(g, v);
  return !a.residual && a.act == "none";
}

// Matches a matmul of any number of operands that passes `which`, and binds it to y.
Pat Product(Predicate which) {
  std::vector<Pat> forms;
  for (int operands = 2; operands <= 4; ++operands) {
    std::vector<Pat> in;
    for (const char* name : {"a", "b", "c", "d"})
      if (static_cast<int>(in.size()) < operands) in.push_back(Any(name));
    forms.push_back(Op(kMatmul, std::move(in)).If(which));
  }
  return OneOf(std::move(forms)).As("y");
}

// The fused form of a product: it keeps the product's scope, whatever node it also takes in.
ValueList FusedResults(Graph& g, ValueId matmul, ValueList in, MatmulAttrs attrs) {
  const Node& n = g.node(g.value(matmul).producer);
  g.scope = n.scope;
  return g.Add(kMatmul, std::move(in), std::move(attrs), n.built_at);
}
ValueId Fused(Graph& g, ValueId matmul, ValueList in, MatmulAttrs attrs) {
  return FusedResults(g, matmul, std::move(in), std::move(attrs))[0];
}

// s (alpha a b) = (s alpha) a b
ValueId TakeScale(Graph& g, const Match& m) {
  MatmulAttrs attrs = Attributes(g, m["y"]);
  attrs.alpha *= g.node(g.value(m.root).producer).attrs.As<ScaleAttrs>().by;
  return Fused(g, m["y"], m.node(g, "y").in, attrs);
}

// a b [+ residual] + bias, bias a row vector
ValueId TakeBias(Graph& g, const Match& m) {
  const ValueId bias = m["bias"];
  if (g.shape(bias).size() != 1 || g.shape(bias)[0] != g.shape(m.root).back()) return {};
  MatmulAttrs attrs = Attributes(g, m["y"]);
  attrs.bias = true;
  ValueList in = m.node(g, "y").in;
  in.insert(in.begin() + 2, bias);
  return Fused(g, m["y"], in, attrs);
}

int64_t InnerSize(const Graph& g, ValueId matmul) {
  const Node& n = g.node(g.value(matmul).producer);
  return At(g.shape(n.in[0]), {})[n.attrs.As<MatmulAttrs>().ta ? 0 : 1];
}

// Takes a residual: (a b + bias) + residual, all of one shape. Of two products the one with the
// shorter inner dimension takes the other as its residual, and so adds a low-rank branch in place.
ValueId TakeResidual(Graph& g, const Match& m) {
  ValueId y = m["y"], residual = m["residual"];
  if (g.shape(residual) != g.shape(m.root)) return {};
  const NodeId other = g.value(residual).producer;
  if (other.valid() && g.node(other).op == &kMatmul && g.users(residual).size() == 1 &&
      TakesResidual(g, residual) && InnerSize(g, residual) < InnerSize(g, y))
    std::swap(y, residual);
  if (residual == y) return {};  // nothing else is made from y: only the sum reads it
  MatmulAttrs attrs = Attributes(g, y);
  attrs.residual = true;
  ValueList in = g.node(g.value(y).producer).in;
  in.push_back(residual);
  return Fused(g, y, in, attrs);
}

bool TakesActivation(const Graph& g, ValueId v) {
  const NodeId producer = g.value(v).producer;
  return producer.valid() && g.node(producer).op == &kMatmul && TakesResidual(g, v);
}

// Takes an activation: act(y) of y = a b + bias, if everything else that reads y is the backward
// pass, act_grad(y, dh) = act'(y) dh. One node then gives both act(y) and act'(y), which have
// nearly all their work in common. Without a backward pass the activation is computed in the memory
// of y, and a second result would only cost.
template <const OpDef& kAct, const OpDef& kGrad>
ValueId TakeActivation(Graph& g, const Match& m) {
  const ValueId y = m["y"];
  if (g.IsOutput(y)) return {};
  std::vector<NodeId> gradients(g.users(y).begin(), g.users(y).end());
  std::erase(gradients, g.value(m.root).producer);
  for (NodeId id : gradients)
    if (g.node(id).op != &kGrad || g.node(id).in[0] != y || g.node(id).in[1] == y) return {};
  if (gradients.empty()) return {};
  MatmulAttrs attrs = Attributes(g, y);
  attrs.act = kAct.name;
  const ValueList fused = FusedResults(g, y, g.node(g.value(y).producer).in, attrs);
  for (NodeId id : gradients) {
    const Node n = g.node(id);
    g.scope = n.scope;
    g.ReplaceUses(n.out[0], g.Add1(kMul, {n.in[1], fused[1]}, {}, n.built_at));
    g.EraseNode(id);
  }
  return fused[0];
}

PassReport MatmulEpilogue(Graph& g) {
  const Rule rules[] = {
      {"scale", Op(kScale, {Product(Plain)}), TakeScale},
      {"bias", Op(kAdd, {Product(TakesBias), Any("bias")}), TakeBias},
      {"gelu", Op(kGelu, {Any("y").If(TakesActivation)}), TakeActivation<kGelu, kGeluGrad>},
      {"gelu_tanh", Op(kGeluTanh, {Any("y").If(TakesActivation)}),
       TakeActivation<kGeluTanh, kGeluTanhGrad>},
      {"residual", Op(kAdd, {Product(TakesResidual), Any("residual")}), TakeResidual},
  };
  return RewriteToFixpoint(g, "matmul_epilogue", rules);
}

// Makes one node of matmul(a, nf4_dequantize(...)), whatever the matmul has taken in: bias,
// residual and activation come along. A weight is made in memory only where something else reads
// it.
PassReport FuseNf4(Graph& g) {
  PassReport report{"nf4_matmul", 0, g.live_nodes(), g.live_nodes(), 0};
  bool any = false;
  for (uint32_t i = 0; i < g.num_nodes(); ++i) any |= g.node({i}).op == &kNf4Dequantize;
  if (!any) return report;
  for (NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    if (n.op != &kMatmul || n.attrs.As<MatmulAttrs>().ta) continue;
    const NodeId maker = g.value(n.in[1]).producer;
    if (!maker.valid() || g.node(maker).op != &kNf4Dequantize) continue;
    g.scope = n.scope, g.phase = n.phase;
    const ValueList made = Nf4Matmul(g, n.in[0], n.in[1], std::span(n.in).subspan(2),
                                                n.attrs.As<MatmulAttrs>(), n.built_at);
    for (size_t i = 0; i < made.size(); ++i) {
      g.SetName(made[i], g.value(n.out[i]).name);
      g.ReplaceUses(n.out[i], made[i]);
    }
    g.EraseNode(id);
    ++report.rewrites;
  }
  g.scope.clear(), g.phase = Phase::kMain;
  g.EraseDead();
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace

std::vector<Pass> ForwardPasses() {
  return {{"sink_gather", Sink}, {"share_equal", ShareEqualNodes}};
}

std::vector<Pass> StepPasses() {
  return {{"matmul_epilogue", MatmulEpilogue},
          {"nf4_matmul", FuseNf4},
          {"share_equal", ShareEqualNodes},
          {"early_updates", UpdateEarly}};
}

}  // namespace graft
