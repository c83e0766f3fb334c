#include "peft/merge_rules.h"

#include "ops/ops.h"

namespace graft {
namespace {

ValueId LinearOf(Graph& g, ValueId x, ValueId w) { return Matmul(g, x, w, false, true); }
ValueId Affine(Graph& g, ValueId x, ValueId w, ValueId b) { return Add(g, LinearOf(g, x, w), b); }

// Names the value that takes the place of several as the model names one of them: so it is called
// once it is a parameter.
ValueId Named(Graph& g, const BaseNames& model, ValueId now, std::initializer_list<ValueId> of) {
  for (ValueId v : of)
    if (model.contains(g.value(v).name) && !model.contains(g.value(now).name))
      g.SetName(now, g.value(v).name);
  return now;
}
// W c, a vector [out].
ValueId Apply(Graph& g, ValueId w, ValueId c) {
  return SumRows(g, Transpose(g, SumCols(g, Mul(g, w, c))));
}
// diag(s) W, where s may be a number.
ValueId ScaledRows(Graph& g, ValueId w, ValueId s) {
  return g.shape(s)[0] == Dim(1) ? Mul(g, w, s) : Transpose(g, Mul(g, Transpose(g, w), s));
}
double By(const Graph& g, ValueId scaled) {
  return g.node(g.value(scaled).producer).attrs.As<ScaleAttrs>().by;
}

// Patterns over values that depend on an input (Data), and over those that depend on parameters
// only (Weight, Row).
struct Patterns {
  const Predicate& constant;
  const BaseNames& model;

  ValueId Name(Graph& g, ValueId now, std::initializer_list<ValueId> of) const {
    return Named(g, model, now, of);
  }
  ValueId Sum(Graph& g, ValueId a, ValueId b) const { return Name(g, Add(g, a, b), {a, b}); }

  Pat Data(const char* name) const {
    return Any(name).If([c = constant](const Graph& g, ValueId v) { return !c(g, v); });
  }
  Pat Weight(const char* name) const { return Any(name).If(constant); }
  Pat Row(const char* name) const {  // a vector that is spread over rows, or a number
    return Any(name).If(
        [c = constant](const Graph& g, ValueId v) { return g.shape(v).size() == 1 && c(g, v); });
  }
  // A weight that is not the model's own: a factor behind the model's own layers belongs to the
  // model, too.
  Pat OwnLayer(const char* x, const char* w) const {
    return Op(kMatmul, {Data(x), Any(w).If([c = constant, m = model](const Graph& g, ValueId v) {
                          return c(g, v) && !m.contains(g.value(v).name);
                        })},
              MatmulAttrs{.tb = true});
  }
  Pat Factor(const char* name) const {  // of a method
    return Any(name).If([c = constant, m = model](const Graph& g, ValueId v) {
      return g.shape(v).size() == 1 && c(g, v) && !m.contains(g.value(v).name);
    });
  }
  Pat Layer(const char* x, const char* w) const {
    return Op(kMatmul, {Data(x), Weight(w)}, MatmulAttrs{.tb = true});
  }
  Pat Layer(Pat x, const char* w) const {
    return Op(kMatmul, {std::move(x), Weight(w)}, MatmulAttrs{.tb = true});
  }
  Pat Biased(const char* x, const char* w, const char* b) const {
    return Op(kAdd, {Layer(x, w), Row(b)});
  }
  Pat Normed() const { return Op(kLayerNorm, {Data("x"), Row("gain"), Row("bias")}).As("y"); }
};

// Layers one behind the other.
void AddChains(const Patterns& p, std::vector<Rule>& rules) {
  rules.push_back({"linear after linear",  // (x A') B' -> x (B A)'
                   p.Layer(p.Layer("x", "a"), "b"), [p](Graph& g, const Match& m) {
                     return LinearOf(g, m["x"],
                                     p.Name(g, Matmul(g, m["b"], m["a"]), {m["b"], m["a"]}));
                   }});
  rules.push_back({"linear after affine",  // (x A' + c) B' -> x (B A)' + B c
                   p.Layer(p.Biased("x", "a", "c"), "b"), [p](Graph& g, const Match& m) {
                     return Affine(g, m["x"],
                                   p.Name(g, Matmul(g, m["b"], m["a"]), {m["b"], m["a"]}),
                                   p.Name(g, Apply(g, m["b"], m["c"]), {m["c"]}));
                   }});
  rules.push_back({"linear after skip",  // (x + x P') W' -> x (W + W P)'
                   p.Layer(Op(kAdd, {p.Data("x"), p.Layer("x", "p")}), "w"),
                   [p](Graph& g, const Match& m) {
                     return LinearOf(g, m["x"], p.Sum(g, m["w"], Matmul(g, m["w"], m["p"])));
                   }});
  rules.push_back({"linear after affine skip",  // (x + x P' + c) W' -> x (W + W P)' + W c
                   p.Layer(Op(kAdd, {p.Data("x"), p.Biased("x", "p", "c")}), "w"),
                   [p](Graph& g, const Match& m) {
                     const ValueId w = p.Sum(g, m["w"], Matmul(g, m["w"], m["p"]));
                     return Affine(g, m["x"], w, Apply(g, m["w"], m["c"]));
                   }});
  // z = x W' + b:  z + z P' + c  ->  x (W + P W)' + (b + P b + c)
  rules.push_back(
      {"skip behind affine",
       Op(kAdd, {p.Biased("x", "w", "b").As("z"),
                 Op(kAdd, {p.Layer(p.Biased("x", "w", "b").As("z"), "p"), p.Row("c")})}),
       [p](Graph& g, const Match& m) {
         g.scope = m.node(g, "z").scope;
         const ValueId w = p.Sum(g, m["w"], Matmul(g, m["p"], m["w"]));
         const ValueId c = Add(g, Apply(g, m["p"], m["b"]), m["c"]);
         const ValueId z = Affine(g, m["x"], w, p.Sum(g, m["b"], c));
         g.SetName(z, g.value(m["z"]).name);  // the edge is where it was
         return z;
       }});
}

// Layers side by side.
void AddSums(const Patterns& p, std::vector<Rule>& rules) {
  rules.push_back({"parallel linear",  // x W' + x P' -> x (W + P)'
                   Op(kAdd, {p.Layer("x", "w"), p.Layer("x", "p")}), [p](Graph& g, const Match& m) {
                     return LinearOf(g, m["x"], p.Sum(g, m["w"], m["p"]));
                   }});
  rules.push_back({"parallel affine",  // x W' + b + x P' -> x (W + P)' + b
                   Op(kAdd, {p.Biased("x", "w", "b"), p.Layer("x", "p")}),
                   [p](Graph& g, const Match& m) {
                     return Affine(g, m["x"], p.Sum(g, m["w"], m["p"]), m["b"]);
                   }});
  rules.push_back({"parallel affines",  // x W' + b + x P' + c -> x (W + P)' + (b + c)
                   Op(kAdd, {p.Biased("x", "w", "b"), p.Biased("x", "p", "c")}),
                   [p](Graph& g, const Match& m) {
                     return Affine(g, m["x"], p.Sum(g, m["w"], m["p"]), p.Sum(g, m["b"], m["c"]));
                   }});
  // with sum(x) spread:  x W' + sum(x) v' -> x (W + v 1')'
  rules.push_back(
      {"column of sums", Op(kAdd, {p.Layer("x", "w"), p.Layer(Op(kSumCols, {p.Data("x")}), "v")}),
       [p](Graph& g, const Match& m) { return LinearOf(g, m["x"], p.Sum(g, m["w"], m["v"])); }});
  rules.push_back(
      {"number of sums",  // x W' + n sum(x) -> x (W + n)'
       Op(kAdd, {p.Layer("x", "w"), Op(kMul, {Op(kSumCols, {p.Data("x")}), p.Row("n")})}),
       [p](Graph& g, const Match& m) { return LinearOf(g, m["x"], p.Sum(g, m["w"], m["n"])); }});
}

// Factors and shifts of what a layer or a norm gives.
void AddScales(const Patterns& p, std::vector<Rule>& rules) {
  rules.push_back({"scaled linear",  // s (x P') -> x (s P)'
                   Op(kScale, {p.OwnLayer("x", "p")}), [p](Graph& g, const Match& m) {
                     return LinearOf(g, m["x"], Scale(g, m["p"], By(g, m.root)));
                   }});
  rules.push_back({"scaled affine",  // s (x P' + c) -> x (s P)' + s c
                   Op(kScale, {Op(kAdd, {p.OwnLayer("x", "p"), p.Row("c")})}),
                   [p](Graph& g, const Match& m) {
                     const double s = By(g, m.root);
                     return Affine(g, m["x"], Scale(g, m["p"], s), Scale(g, m["c"], s));
                   }});
  rules.push_back({"gain of linear",  // (x W') s -> x (diag(s) W)'
                   Op(kMul, {p.Layer("x", "w"), p.Factor("s")}), [p](Graph& g, const Match& m) {
                     return LinearOf(g, m["x"], p.Name(g, ScaledRows(g, m["w"], m["s"]), {m["w"]}));
                   }});
  rules.push_back({"gain of affine",  // (x W' + b) s -> x (diag(s) W)' + b s
                   Op(kMul, {p.Biased("x", "w", "b"), p.Factor("s")}),
                   [p](Graph& g, const Match& m) {
                     const ValueId b = p.Name(g, Mul(g, m["b"], m["s"]), {m["b"]});
                     const ValueId w = p.Name(g, ScaledRows(g, m["w"], m["s"]), {m["w"]});
                     return Affine(g, m["x"], w, b);
                   }});
  // y = x W':  y + y s -> x (W + diag(s) W)'
  rules.push_back(
      {"gain beside linear",
       Op(kAdd, {p.Layer("x", "w").As("y"), Op(kMul, {p.Layer("x", "w").As("y"), p.Factor("s")})}),
       [p](Graph& g, const Match& m) {
         return LinearOf(g, m["x"], p.Sum(g, m["w"], ScaledRows(g, m["w"], m["s"])));
       }});
  rules.push_back(
      {"shift of a shift",  // (y + b) + c -> y + (b + c)
       Op(kAdd, {Op(kAdd, {p.Data("y"), p.Row("b")}), p.Row("c")}),
       [p](Graph& g, const Match& m) { return Add(g, m["y"], p.Sum(g, m["b"], m["c"])); }});
  rules.push_back({"gain of a norm",  // norm(x; g, b) s -> norm(x; g s, b s)
                   Op(kMul, {p.Normed(), p.Factor("s")}), [p](Graph& g, const Match& m) {
                     const double eps = m.node(g, "y").attrs.As<NormAttrs>().eps;
                     const ValueId gain = p.Name(g, Mul(g, m["gain"], m["s"]), {m["gain"]});
                     const ValueId bias = p.Name(g, Mul(g, m["bias"], m["s"]), {m["bias"]});
                     return LayerNorm(g, m["x"], gain, bias, eps);
                   }});
  rules.push_back({"shift of a norm",  // norm(x; g, b) + c -> norm(x; g, b + c)
                   Op(kAdd, {p.Normed(), p.Row("c")}), [p](Graph& g, const Match& m) {
                     const double eps = m.node(g, "y").attrs.As<NormAttrs>().eps;
                     return LayerNorm(g, m["x"], m["gain"], p.Sum(g, m["bias"], m["c"]), eps);
                   }});
}

}  // namespace

std::vector<Rule> MergeRules(const Predicate& constant, const BaseNames& model) {
  std::vector<Rule> rules;
  const Patterns patterns{constant, model};
  AddChains(patterns, rules);
  AddSums(patterns, rules);
  AddScales(patterns, rules);
  return rules;
}

}  // namespace graft
