#include "ops/bf16_values.h"

#include <algorithm>
#include <utility>

#include "ops/attention_record.h"
#include "ops/product.h"
#include "runtime/dependence.h"
#include "runtime/lifetimes.h"

namespace graft {
namespace {

// --- what the operators take and give ---

bool Reads16(const Node& n, size_t input) {
  if (n.op == &kLowMatmul) {
    const LowMatmulAttrs& low = n.attrs.As<LowMatmulAttrs>();
    return input == 0 || (input == 1 && low.product.ta) || (low.times && input == LowTimesAt(low));
  }
  if (n.op == &kLowAttention) return input < 3;
  if (n.op == &kLowAttentionGrad) {
    const AttentionInputs at(n.attrs.As<LowAttentionGradAttrs>(), true);
    return input < 3 || input == at.context || input == at.dcontext;
  }
  return n.op == &kToF32;
}

bool Writes16(const Node& n, size_t result) {
  if (n.op == &kLowMatmul) return true;
  if (n.op == &kLowAttention || n.op == &kLayerNorm) return result == 0;
  if (n.op == &kLowAttentionGrad) {
    const std::string& want = n.attrs.As<LowAttentionGradAttrs>().want;
    return result < 3 && want.find("qkv"[result]) != std::string::npos;
  }
  return false;
}

// The attributes of n when these of its results are bf16.
Attrs With16(const Node& n, const std::vector<bool>& low) {
  if (n.op == &kLowMatmul) {
    LowMatmulAttrs attrs = n.attrs.As<LowMatmulAttrs>();
    attrs.y16 = low[0], attrs.slope16 = low.size() > 1 && low[1];
    return Attrs(std::move(attrs));
  }
  if (n.op == &kLowAttention) {
    LowAttentionAttrs attrs = n.attrs.As<LowAttentionAttrs>();
    attrs.context16 = low[0];
    return Attrs(std::move(attrs));
  }
  if (n.op == &kLowAttentionGrad) {
    LowAttentionGradAttrs attrs = n.attrs.As<LowAttentionGradAttrs>();
    attrs.grads16.clear();
    for (size_t i = 0; i < 3; ++i)
      if (low[i]) attrs.grads16 += "qkv"[i];
    if (attrs.grads16.empty()) attrs.grads16 = "none";
    return Attrs(std::move(attrs));
  }
  return n.attrs;
}

// --- times ---

// Whether v is a product that can be multiplied on the way out.
bool TakesTimes(const Graph& g, ValueId v) {
  const NodeId maker = g.value(v).producer;
  if (!maker.valid() || g.node(maker).op != &kLowMatmul || g.IsOutput(v)) return false;
  const LowMatmulAttrs& low = g.node(maker).attrs.As<LowMatmulAttrs>();
  return g.users(v).size() == 1 && low.product.act == "none" && !low.product.residual &&
         !low.product.ta && !low.times;
}

bool IsSlope(const Graph& g, ValueId v) {
  const NodeId maker = g.value(v).producer;
  return maker.valid() && g.node(maker).op == &kLowMatmul && g.node(maker).out.size() == 2 &&
         g.node(maker).out[1] == v && !g.IsOutput(v);
}

// --- the pass ---

enum class Form : uint8_t {
  kF32,     // as it is
  kBf16,    // its maker gives bf16
  kWaits,   // bf16 is made of it and is all that is read on the way back
  kShared,  // bf16 is made of it for the products alone
};

class Bf16Values {
 public:
  explicit Bf16Values(Graph& g) : g_(g), order_(OrderNodes(g).nodes) {}

  PassReport Run() {
    PassReport report{"bf16_values", 0, g_.live_nodes(), 0, 0};
    FuseTimes();
    forward_ = Forward();
    constant_ = DependsOnlyOnParameters(g_);
    form_.resize(g_.num_values());
    for (NodeId id : order_)
      for (size_t k = 0; k < g_.node(id).out.size(); ++k) {
        const ValueId v = g_.node(id).out[k];
        form_[v.i] = FormOf(g_.node(id), k);
        report.rewrites += form_[v.i] != Form::kF32;
      }
    if (report.rewrites > 0) g_ = Rebuilt();
    report.nodes_after = g_.live_nodes();
    return report;
  }

 private:
  // mul(product, slope) becomes the product with `times`, in the place of the mul.
  void FuseTimes() {
    for (NodeId& id : order_) {
      const Node n = g_.node(id);  // a copy: Add moves the nodes
      if (n.op != &kMul || !TakesTimes(g_, n.in[0]) || !IsSlope(g_, n.in[1])) continue;
      if (g_.shape(n.in[0]) != g_.shape(n.in[1])) continue;
      const NodeId maker = g_.value(n.in[0]).producer;
      const Node product = g_.node(maker);
      LowMatmulAttrs low = product.attrs.As<LowMatmulAttrs>();
      low.times = true;
      ValueList in = product.in;
      // Until its maker gives bf16, this stands for it.
      g_.scope = product.scope;
      const ValueId slope = g_.Add1(kToBf16, {n.in[1]});
      const NodeId rounding = g_.value(slope).producer;
      in.insert(in.begin() + LowTimesAt(low), slope);
      const ValueId y = g_.Add1(kLowMatmul, std::move(in), low, product.built_at);
      g_.scope.clear();
      g_.SetName(y, g_.value(n.out[0]).name);
      g_.ReplaceUses(n.out[0], y);
      g_.EraseNode(id), g_.EraseNode(maker);
      id = g_.value(y).producer;
      std::ranges::replace(order_, maker, rounding);
    }
  }

  // Whether the loss is made of the value; all of them where nothing trains.
  std::vector<bool> Forward() const {
    std::vector<ValueId> made;
    for (const Update& u : g_.updates)
      if (g_.value(u.target).name == "acc.loss") made.push_back(u.value);
    if (made.empty()) return std::vector<bool>(g_.num_values(), true);
    return NeededForAny(g_, made);
  }
  bool IsForward(NodeId id) const { return forward_[g_.node(id).out[0].i]; }

  struct Readers {
    int able = 0, products = 0, early = 0, late = 0;  // who read bf16; who do not, by direction
    bool back = false;                                // whether any is on the way back
  };
  Readers ReadersOf(ValueId v) const {
    Readers r;
    for (NodeId id : g_.users(v)) {
      const Node& n = g_.node(id);
      r.back |= !IsForward(id);
      for (size_t i = 0; i < n.in.size(); ++i) {
        if (n.in[i] != v) continue;
        const bool able = Reads16(n, i) || n.op == &kToBf16;
        const bool product =
            able && n.op == &kLowMatmul && n.attrs.As<LowMatmulAttrs>().cell == "bf16";
        r.able += able, r.products += product;
        r.early += !able && IsForward(id), r.late += !able && !IsForward(id);
      }
    }
    return r;
  }

  Form FormOf(const Node& n, size_t result) const {
    const ValueId v = n.out[result];
    const TensorType& type = g_.type(v);
    if (type.dtype != DType::kF32 || type.shape.size() != 2 || g_.IsOutput(v)) return Form::kF32;
    if (n.phase != Phase::kMain || constant_[v.i] || g_.users(v).empty()) return Form::kF32;
    const Readers r = ReadersOf(v);
    const Dim& side = type.shape[1];
    const bool wide = side.fixed() && side.constant >= kLeastWaitingSide;
    const bool waits = forward_[v.i] && r.back && wide;
    if (Writes16(n, result) && r.early == 0 && (r.late == 0 || waits)) return Form::kBf16;
    if (waits) return Form::kWaits;
    return r.products >= 2 ? Form::kShared : Form::kF32;
  }

  // The graph again, in the same order.
  Graph Rebuilt() {
    Graph fresh;
    f32_.resize(g_.num_values()), bf16_.resize(g_.num_values()), widened_.resize(g_.num_values());
    for (uint32_t i = 0; i < g_.num_values(); ++i)
      if (g_.value({i}).role != Role::kIntermediate && g_.IsAlive({i}))
        f32_[i] = CopyLeaf(g_, {i}, fresh);
    for (NodeId id : order_) Rebuild(id, fresh);
    fresh.scope = g_.scope, fresh.phase = g_.phase;
    for (const GraphOutput& o : g_.outputs) fresh.AddOutput(o.name, f32_[o.value.i]);
    for (const Update& u : g_.updates) fresh.AddUpdate(f32_[u.target.i], f32_[u.value.i]);
    return fresh;
  }

  void Rebuild(NodeId id, Graph& fresh) {
    const Node& n = g_.node(id);
    fresh.scope = n.scope, fresh.phase = n.phase;
    if (n.op == &kToBf16 && bf16_[n.in[0].i].valid()) {  // it is there already
      bf16_[n.out[0].i] = bf16_[n.in[0].i];
      return;
    }
    std::vector<ValueId> in;
    for (size_t i = 0; i < n.in.size(); ++i) in.push_back(Input(n, i, IsForward(id), fresh));
    std::vector<bool> low;
    for (ValueId v : n.out) low.push_back(form_[v.i] == Form::kBf16);
    const bool any = std::ranges::find(low, true) != low.end();
    const OpDef& op = any && n.op == &kLayerNorm ? kLowLayerNorm : *n.op;
    const ValueList out = fresh.Add(op, std::move(in), any ? With16(n, low) : n.attrs, n.built_at);
    for (size_t k = 0; k < out.size(); ++k) {
      const ValueId v = n.out[k];
      fresh.SetName(out[k], g_.value(v).name);
      (fresh.type(out[k]).dtype == DType::kBf16 ? bf16_ : f32_)[v.i] = out[k];
      if (form_[v.i] == Form::kWaits || form_[v.i] == Form::kShared)
        bf16_[v.i] = fresh.Add1(kToBf16, {out[k]});
    }
  }

  // What the new node reads. The f32 of what waits is gone on the way back.
  ValueId Input(const Node& n, size_t i, bool forward, Graph& fresh) {
    const uint32_t v = n.in[i].i;
    if (bf16_[v].valid() && Reads16(n, i)) return bf16_[v];
    const bool gone = !f32_[v].valid() || (form_[v] == Form::kWaits && !widened_[v] && !forward);
    if (bf16_[v].valid() && gone) {
      f32_[v] = fresh.Add1(kToF32, {bf16_[v]});
      widened_[v] = true;
    }
    return f32_[v];
  }

  Graph& g_;
  std::vector<NodeId> order_;
  std::vector<bool> forward_, constant_;  // by value
  std::vector<Form> form_;                // by value
  std::vector<ValueId> f32_, bf16_;       // by value: what stands for it in the new graph
  std::vector<bool> widened_;             // by value: f32_ is made of bf16_
};

}  // namespace

Pass Bf16ValuesPass() {
  return {"bf16_values", [](Graph& g) { return Bf16Values(g).Run(); }};
}

}  // namespace graft
