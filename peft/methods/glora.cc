// GLoRA (Chavan et al. 2023, arXiv 2306.07967) with one choice for all layers of a term, in the
// form of the authors' code: weight and bias are expressions of the frozen ones,
//
//   y = x (W + W * A + B)' + b + b * D + E + W C
//
//   A, B [out,in]: lora (down up), vector (a column [out,1] spread), constant, none
//   C [in,1]:      lora, vector, none;     D, E [out]: vector, constant, none
//
// lora_K is lora of rank K, whatever r is.
//
// Products are elementwise but W C. `up` ~ xavier, all else 0. q, k and v share what a layer of 3D
// outputs would have, unless qkv=apart gives each its own, as peft's form of the method does. What
// is equal and cheaper than an expression of W is built so:
//
//   A vector, constant:  y += a * (x W')        B lora:      y += (x up') down'
//   B vector:            y += sum(x) b'         B constant:  y += b sum(x)
//
// Only A lora needs the gradient of a whole weight.
#include <algorithm>

#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"

namespace graft {
namespace {

// The rows [begin, begin + rows) of a layer with `all` outputs, after which parameters are named.
struct GloraPart {
  std::string scope;
  int64_t begin, rows, all, in;
};

GloraPart PartOf(const MethodArgs& a, ValueId product) {
  const Graph& g = a.g;
  const bool joint = a.Choice("qkv", {"joint", "apart"}) == "joint";
  const Node& n = g.node(g.value(product).producer);
  const int64_t out = g.shape(product)[1].constant, in = g.shape(n.in[0])[1].constant;
  constexpr std::array kThree{"attn.q", "attn.k", "attn.v"};
  for (size_t i = 0; i < kThree.size(); ++i)
    if (joint && n.scope.ends_with(kThree[i]))
      return {n.scope.substr(0, n.scope.size() - 1) + "qkv", static_cast<int64_t>(i) * out, out,
              3 * out, in};
  return {n.scope, 0, out, out, in};
}

class GloraLayer {
 public:
  GloraLayer(const MethodArgs& a, ValueId product)
      : a_(a), g_(a.g), p_(PartOf(a, product)), product_(product) {}

  void Rewrite() {
    const std::string before = g_.scope;
    const NodeId id = g_.value(product_).producer;
    const Node n = g_.node(id);
    g_.scope = n.scope;
    const UserList users = g_.users(product_);
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
      return form == "vector" ? vector : form == "constant" ? 1 : Rank(option) * lora;
    };
    const int64_t pair = p_.all + p_.in;
    return size("a", pair, p_.all) + size("b", pair, p_.all) + size("c", p_.in + 1, p_.in) +
           size("d", 0, p_.all) + size("e", 0, p_.all);
  }
  const std::string& scope() const { return p_.scope; }

 private:
  // The rank of lora and lora_K; 0 for other forms.
  int64_t Rank(const char* option) const {
    const std::string& form = a_.Text(option);
    if (form == "lora") return a_.Int("r", 1, 65536);
    if (!form.starts_with("lora_")) return 0;
    const std::map<std::string, std::string> rank{{option, form.substr(5)}};
    return MethodArgs{a_.g, a_.params, rank, a_.seed}.Int(option, 1, 65536);
  }
  // The form of the option, with lora_K read as lora.
  std::string Form(const char* option, bool lora, bool constant) const {
    if (lora && Rank(option) > 0) return "lora";
    std::vector<std::string> choices{"vector", "none"};
    if (lora) choices.insert(choices.end(), {"lora", "lora_K"});
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
  ValueId LowRank(const char* name) {
    const int64_t r = Rank(name);
    const ValueId down = Mine(Param(fmt::format("{}_down", name), {p_.all, r}));
    return Matmul(g_, down, Param(fmt::format("{}_up", name), {r, p_.in}, XavierUniform()));
  }

  ValueId WithB(ValueId y, ValueId x) {
    const std::string b = Form("b", true, true);
    if (b == "lora") {
      const int64_t r = Rank("b");
      const ValueId up = Param("b_up", {r, p_.in}, XavierUniform());
      const ValueId down = Mine(Param("b_down", {p_.all, r}));
      return Add(g_, y, Matmul(g_, Matmul(g_, x, up, false, true), down, false, true));
    }
    if (b == "vector") return Add(g_, y, Matmul(g_, SumCols(g_, x), Column("b"), false, true));
    if (b == "constant") return Add(g_, y, Mul(g_, SumCols(g_, x), Number("b_down")));
    return y;
  }

  // The sum of the product (behind its branches) and the layer's bias; invalid if it has no bias.
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

  // Replaces b by b + ((b * D + E) + W C); without a bias the rest alone is added to y.
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
    if (c != "none") add(AsRow(Matmul(g_, w, Shift(c))));
    // A number is added to a vector, and not the other way round.
    if (e == "constant") add(b.valid() || rest.valid() ? Number("e") : Spread(Number("e"), w));
    if (!rest.valid()) return;
    if (!b.valid()) {
      const UserList users = g_.users(y);
      g_.ReplaceUsesIn(y, Add(g_, y, rest), users);
      return;
    }
    const ValueId now = Add(g_, b, rest);
    g_.SetName(now, g_.value(b).name);
    g_.SetInput(id, 1, now);
  }
  // A number spread to [out], the size of a column of w.
  ValueId Spread(ValueId number, ValueId w) {
    return g_.Add1(kBroadcastLike, {number, AsRow(SumCols(g_, w))});
  }
  ValueId Shift(const std::string& form) {  // C [in,1]
    if (form == "vector") return Param("c_down", {p_.in, 1});
    const int64_t r = Rank("c");
    const ValueId down = Param("c_down", {p_.in, r});
    return Matmul(g_, down, Param("c_up", {r, 1}, XavierUniform()));
  }

  const MethodArgs& a_;
  Graph& g_;
  const GloraPart p_;
  const ValueId product_;
};

std::vector<ValueId> GloraLayers(const MethodArgs& a) {
  std::vector<ValueId> layers = BlockLayers(a.g, a.List("targets"));
  const BlockFilter in_blocks(a);
  std::erase_if(layers,
                [&](ValueId v) { return !in_blocks(a.g.node(a.g.value(v).producer).scope); });
  return layers;
}

// Refuses several terms for the same layer; q, k and v of a block share parameters.
void CheckApart(const MethodArgs& a, const std::vector<ValueId>& layers) {
  for (ValueId product : layers) {
    const std::string& scope = PartOf(a, product).scope;
    for (const char* name : {"a_down", "b_down", "c_down", "d", "e"})
      CheckNotTwice(a.g, fmt::format("{}.glora_{}", scope, name), "glora");
  }
}

PassReport ApplyGlora(const MethodArgs& a) {
  PassReport report = StartReport(a, "glora");
  const std::vector<ValueId> layers = GloraLayers(a);
  CheckApart(a, layers);
  for (ValueId product : layers) {
    GloraLayer(a, product).Rewrite();
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

int64_t CountGlora(const MethodArgs& a) {
  std::map<std::string, int64_t> counts;
  for (ValueId product : GloraLayers(a)) {
    const GloraLayer layer(a, product);
    counts[layer.scope()] = layer.Count();
  }
  int64_t sum = 0;
  for (const auto& [scope, count] : counts) sum += count;
  return sum;
}

// The places of a term; q, k and v of a block are one, unless they are apart.
std::vector<MethodSite> GloraSites(const MethodArgs& a) {
  std::vector<MethodSite> sites;
  for (ValueId product : GloraLayers(a)) {
    const std::string& scope = a.g.node(a.g.value(product).producer).scope;
    const std::string name = PartOf(a, product).scope;
    const auto same = std::ranges::find(sites, name, &MethodSite::name);
    if (same == sites.end())
      sites.push_back({name, "targets", scope});
    else
      same->value += "|" + scope;
  }
  return sites;
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
          return std::vector<MethodOption>{
              {"r", "4", "rank"},
              {"a", "lora", "lora, lora_K (of rank K), vector, constant, none"},
              {"b", "lora", "lora, lora_K (of rank K), vector, constant, none"},
              {"c", "lora", "lora, lora_K, vector, none"},
              {"d", "vector", "vector, constant, none"},
              {"e", "vector", "vector, constant, none"},
              {"qkv", "joint",
               "joint: q, k and v of a block share what a layer of 3D outputs has; "
               "apart: each has its own"},
              {"targets", "*", "layers of blocks"},
              kBlocksOption};
        },
    .apply = ApplyGlora,
    .count = CountGlora,
    .folds = Folds::kYes,
    .why = "its expressions are weights and biases",
    .learning_rate = 1e-3,
    .repeats = true,
    .sites = GloraSites,
    .peft = "GLORA"};

}  // namespace graft
