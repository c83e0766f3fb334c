// GLoRA (Chavan et al. 2023, arXiv 2306.07967) with one choice for all layers, in the form of the
// authors' code: weight and bias are expressions of the frozen ones,
//
//   y = x (W + W * A + B)' + b + b * D + E + W C
//
//   A, B [out,in]: lora (down up), vector (a column [out,1] spread), constant, none
//   C [in,1]:      lora, vector, none;     D, E [out]: vector, constant, none
//
// Products are elementwise but W C. `up` ~ xavier, all else 0. q, k and v share what a layer of 3D
// outputs would have. What is equal and cheaper than an expression of W is built so:
//
//   A vector, constant:  y += a * (x W')        B lora:      y += (x up') down'
//   B vector:            y += sum(x) b'         B constant:  y += b sum(x)
//
// Only A lora needs the gradient of a whole weight.
#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"

namespace graft {
namespace {

// Rows [begin, begin + rows) of a layer with `all` outputs, by whose name parameters go.
struct GloraPart {
  std::string scope;
  int64_t begin, rows, all, in;
};

GloraPart PartOf(const Graph& g, ValueId product) {
  const Node& n = g.node(g.value(product).producer);
  const int64_t out = g.shape(product)[1].constant, in = g.shape(n.in[0])[1].constant;
  constexpr std::array kThree{"attn.q", "attn.k", "attn.v"};
  for (size_t i = 0; i < kThree.size(); ++i)
    if (n.scope.ends_with(kThree[i]))
      return {n.scope.substr(0, n.scope.size() - 1) + "qkv", static_cast<int64_t>(i) * out, out,
              3 * out, in};
  return {n.scope, 0, out, out, in};
}

class GloraLayer {
 public:
  GloraLayer(const MethodArgs& a, ValueId product)
      : a_(a), g_(a.g), p_(PartOf(a.g, product)), r_(a.Int("r", 1, 65536)), product_(product) {}

  void Rewrite() {
    const std::string before = g_.scope;
    const NodeId id = g_.value(product_).producer;
    const Node n = g_.node(id);
    g_.scope = n.scope;
    const std::vector<NodeId> users = g_.users(product_);
    const ValueId bias = BiasNode();
    const std::string a = Form("a", true, true);
    if (a == "lora") {
      const ValueId w = Add(g_, n.in[1], Mul(g_, n.in[1], LowRank("a")));
      g_.SetName(w, n.scope + ".weight");  // what it is called once it is a parameter again
      g_.SetInput(id, 1, w);
    }
    ValueId y = product_;
    if (a == "vector") y = Add(g_, y, Mul(g_, y, AsRow(Column("a"))));
    if (a == "constant") y = Add(g_, y, Mul(g_, y, Number("a_down")));
    y = WithB(y, n.in[0]);
    if (y != product_) g_.ReplaceUsesIn(product_, y, users);
    SetBias(bias, y, n.in[1]);
    g_.scope = before;
  }

  int64_t Count() const {  // of the whole layer
    const auto size = [&](const char* option, int64_t lora, int64_t vector) {
      const std::string& form = a_.Text(option);
      return form == "lora" ? lora : form == "vector" ? vector : form == "constant" ? 1 : 0;
    };
    const int64_t pair = r_ * (p_.all + p_.in);
    return size("a", pair, p_.all) + size("b", pair, p_.all) + size("c", r_ * (p_.in + 1), p_.in) +
           size("d", 0, p_.all) + size("e", 0, p_.all);
  }
  const std::string& scope() const { return p_.scope; }

 private:
  std::string Form(const char* option, bool lora, bool constant) const {
    std::vector<std::string> choices{"vector", "none"};
    if (lora) choices.emplace_back("lora");
    if (constant) choices.emplace_back("constant");
    return a_.Choice(option, choices);
  }
  ValueId Param(const std::string& name, const Extents& shape, const Init& init = Zeros()) {
    return NewParam(a_, p_.scope + ".glora_" + name, shape, init);
  }
  ValueId Mine(ValueId x) {  // of the rows of the whole layer
    return p_.rows == p_.all ? x : SliceRows(g_, x, p_.begin, p_.rows);
  }
  ValueId Number(const std::string& name) { return Param(name, {1}); }
  ValueId Column(const std::string& name) { return Mine(Param(name + "_down", {p_.all, 1})); }
  ValueId AsRow(ValueId column) { return SumRows(g_, Transpose(g_, column)); }  // [out,1] -> [out]
  ValueId LowRank(const std::string& name) {
    const ValueId down = Mine(Param(name + "_down", {p_.all, r_}));
    return Matmul(g_, down, Param(name + "_up", {r_, p_.in}, XavierUniform()));
  }

  ValueId WithB(ValueId y, ValueId x) {
    const std::string b = Form("b", true, true);
    if (b == "lora") {
      const ValueId up = Param("b_up", {r_, p_.in}, XavierUniform());
      const ValueId down = Mine(Param("b_down", {p_.all, r_}));
      return Add(g_, y, Matmul(g_, Matmul(g_, x, up, false, true), down, false, true));
    }
    if (b == "vector") return Add(g_, y, Matmul(g_, SumCols(g_, x), Column("b"), false, true));
    if (b == "constant") return Add(g_, y, Mul(g_, SumCols(g_, x), Number("b_down")));
    return y;
  }

  // The sum of the product (behind its branches) and the layer's bias; invalid if it has none.
  ValueId BiasNode() const {
    const Node& n = g_.node(g_.value(product_).producer);
    ValueId v = product_;
    for (bool found = true; found;) {
      found = false;
      for (NodeId user : g_.users(v)) {
        const Node& sum = g_.node(user);
        if (sum.op != &kAdd || sum.in[0] != v || sum.scope != n.scope) continue;
        if (g_.value(sum.in[1]).name == n.scope + ".bias") return sum.out[0];
        v = sum.out[0], found = true;
        break;
      }
    }
    return {};
  }

  // b -> b + ((b * D + E) + W C); without a bias the rest alone, added to y.
  void SetBias(ValueId sum, ValueId y, ValueId w) {
    const NodeId id = sum.valid() ? g_.value(sum).producer : NodeId{};
    const ValueId b = sum.valid() ? g_.node(id).in[1] : ValueId{};
    ValueId rest;
    const auto add = [&](ValueId v) { rest = rest.valid() ? Add(g_, rest, v) : v; };
    const std::string d = Form("d", false, true), e = Form("e", false, true),
                      c = Form("c", true, false);
    if (d != "none" && b.valid())
      add(Mul(g_, b, d == "vector" ? Mine(Param("d", {p_.all})) : Number("d")));
    if (e == "vector") add(Mine(Param("e", {p_.all})));
    if (e == "constant") add(b.valid() || rest.valid() ? Number("e") : Spread(Number("e"), w));
    if (c != "none") add(AsRow(Matmul(g_, w, Shift(c))));
    if (!rest.valid()) return;
    if (!b.valid()) {
      const std::vector<NodeId> users = g_.users(y);
      g_.ReplaceUsesIn(y, Add(g_, y, rest), users);
      return;
    }
    const ValueId now = Add(g_, b, rest);
    g_.SetName(now, g_.value(b).name);
    g_.SetInput(id, 1, now);
  }
  // A number as [out], the size of a column of w.
  ValueId Spread(ValueId number, ValueId w) {
    return g_.Add1(kBroadcastLike, {number, AsRow(SumCols(g_, w))});
  }
  ValueId Shift(const std::string& form) {  // C [in,1]
    if (form == "vector") return Param("c_down", {p_.in, 1});
    const ValueId down = Param("c_down", {p_.in, r_});
    return Matmul(g_, down, Param("c_up", {r_, 1}, XavierUniform()));
  }

  const MethodArgs& a_;
  Graph& g_;
  const GloraPart p_;
  const int64_t r_;
  const ValueId product_;
};

PassReport ApplyGlora(const MethodArgs& a) {
  PassReport report = StartReport(a, "glora");
  for (ValueId product : BlockLayers(a.g, a.List("targets"))) {
    GloraLayer(a, product).Rewrite();
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

int64_t CountGlora(const MethodArgs& a) {
  std::map<std::string, int64_t> counts;
  for (ValueId product : BlockLayers(a.g, a.List("targets"))) {
    const GloraLayer layer(a, product);
    counts[layer.scope()] = layer.Count();
  }
  int64_t sum = 0;
  for (const auto& [scope, count] : counts) sum += count;
  return sum;
}

}  // namespace

const MethodRecord kGloraMethod{
    .name = "glora",
    .summary = "weights and biases as expressions of the frozen ones (Chavan et al. 2023)",
    .equation = "y = x (W + W * A + B)' + b + b * D + E + W C",
    .formula = "a layer: 2r (out + in) + r (in + 1) + 2 out, by default",
    .source = "Chavan et al. 2023, arXiv 2306.07967",
    .options =
        +[] {
          return std::vector<MethodOption>{{"r", "4", "rank"},
                                           {"a", "lora", "lora, vector, constant, none"},
                                           {"b", "lora", "lora, vector, constant, none"},
                                           {"c", "lora", "lora, vector, none"},
                                           {"d", "vector", "vector, constant, none"},
                                           {"e", "vector", "vector, constant, none"},
                                           {"targets", "*", "layers of blocks"}};
        },
    .apply = ApplyGlora,
    .count = CountGlora,
    .folds = Folds::kYes,
    .why = "its expressions are weights and biases",
    .learning_rate = 1e-3};

}  // namespace graft
