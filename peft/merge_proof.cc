#include "peft/merge_proof.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "ops/ops.h"
#include "peft/merge.h"
#include "runtime/dependence.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"

namespace graft {
namespace {

// Half of the relative distance between two neighbouring numbers.
constexpr double kUnit32 = 0x1p-24, kUnit64 = 0x1p-53;
// Two rows stand for all data, as a place computes each row alike.
constexpr int64_t kRows = 2;

struct Computed {
  std::vector<double> value;
  std::vector<double> magnitude;  // the same of absolute values: what rounding is relative to
  double roundings = 0;           // how many of them follow each other at most
};
using Known = std::map<ValueId, Computed>;

[[noreturn]] void NotProved(const std::string& why) {
  throw Error(fmt::format("the merge is not proved: {}; nothing was written", why),
              ErrorKind::kProof);
}

Extents FewRows(const Shape& shape) {
  Extents extents = At(shape, {});
  for (size_t i = 0; i < shape.size(); ++i)
    if (!shape[i].fixed()) extents.d[i] = kRows;
  return extents;
}

double Roundings(const Graph& g, const Node& n) {
  if (n.op != &kMatmul) return 1;
  const Extents a = FewRows(g.shape(n.in[0]));
  return static_cast<double>(n.attrs.As<MatmulAttrs>().ta ? a.rows() : a.cols());
}

// A graph in which single values can be computed, from parameters and from values that are known.
class Calculator {
 public:
  Calculator(const Graph& g, const ParamStore& params) : g_(g), params_(params) {}

  const Computed& operator()(ValueId wanted, Known& known) const {
    std::vector<ValueId> stack{wanted};  // instead of recursion
    while (!stack.empty()) {
      const ValueId v = stack.back();
      if (known.contains(v)) {
        stack.pop_back();
      } else if (const NodeId id = g_.value(v).producer; !id.valid()) {
        known[v] = Leaf(v);
      } else {
        const size_t before = stack.size();
        for (ValueId in : g_.node(id).in)
          if (!known.contains(in)) stack.push_back(in);
        if (stack.size() == before) Run(g_.node(id), known);
      }
    }
    return known.at(wanted);
  }

 private:
  Computed Leaf(ValueId v) const {
    const Value& leaf = g_.value(v);
    if (leaf.role != Role::kParam)
      NotProved(fmt::format("a weight that was moved past '{}'", leaf.name));
    Computed c{ToDoubles(params_.Get(leaf.name)), {}, 0};
    for (double x : c.value) c.magnitude.push_back(std::fabs(x));
    return c;
  }

  void Run(const Node& n, Known& known) const {
    std::vector<std::vector<double>> values, magnitudes;
    std::vector<Extents> in_shape, out_shape;
    double roundings = 0;
    for (ValueId v : n.in) {
      const Computed& in = known.at(v);
      values.push_back(in.value), magnitudes.push_back(in.magnitude);
      in_shape.push_back(FewRows(g_.shape(v)));
      roundings = std::max(roundings, in.roundings);
    }
    for (ValueId v : n.out) out_shape.push_back(FewRows(g_.shape(v)));
    const auto value = RunReference(*n.op, n.attrs, values, in_shape, out_shape);
    auto magnitude = RunReference(*n.op, n.attrs, magnitudes, in_shape, out_shape);
    for (size_t i = 0; i < n.out.size(); ++i) {
      for (double& x : magnitude[i]) x = std::fabs(x);
      if (n.op == &kLayerNorm && i == 0) magnitude[0] = NormMagnitude(magnitudes, out_shape[0]);
      known[n.out[i]] = {value[i], magnitude[i], roundings + Roundings(g_, n)};
    }
  }

  // |gain| sqrt(C) + |bias|, as no normed number is larger than sqrt(C).
  static std::vector<double> NormMagnitude(const std::vector<std::vector<double>>& in,
                                           const Extents& shape) {
    const size_t cols = in[1].size();
    std::vector<double> magnitude(shape.size());
    for (size_t i = 0; i < magnitude.size(); ++i)
      magnitude[i] = in[1][i % cols] * std::sqrt(static_cast<double>(cols)) + in[2][i % cols];
    return magnitude;
  }

  const Graph& g_;
  const ParamStore& params_;
};

class Prover {
 public:
  Prover(const Graph& before, const ParamStore& params, const ParamStore& merged,
         const std::vector<std::string>& base, const OnMergedWeight& on_weight)
      : before_(before), after_(before), params_(params), merged_(merged), on_weight_(on_weight) {
    MergeLinear(after_, BaseNames(base.begin(), base.end()));
    constant_ = DependsOnlyOnParameters(after_);
  }

  // Values that both graphs have are computed from the same operands or from operands that were
  // replaced. So if each replaced value is what it was, as a function of common values, all are.
  MergeProof Run() {
    for (NodeId id : after_.TopoOrder()) {
      if (id.i >= before_.num_nodes()) continue;
      const Node &was = before_.node(id), &is = after_.node(id);
      for (size_t i = 0; i < is.in.size(); ++i) Compare(was.in[i], is.in[i]);
    }
    for (size_t i = 0; i < after_.outputs.size(); ++i)
      Compare(before_.outputs[i].value, after_.outputs[i].value);
    for (ValueId v : after_.Leaves(Role::kParam)) CheckUnchanged(v);
    return proof_;
  }

 private:
  void Compare(ValueId was, ValueId is) {
    if (was == is || !compared_.insert({was, is}).second) return;
    ++proof_.places;
    Known known = Operands(is), known_before = known;
    const Computed& now = Calculator(after_, params_)(is, known);
    const Computed& then = Calculator(before_, params_)(was, known_before);
    const double unit = 4 * (now.roundings + then.roundings + 1) * kUnit64;
    for (size_t i = 0; i < now.value.size(); ++i)
      if (!(std::fabs(now.value[i] - then.value[i]) <=
            unit * (now.magnitude[i] + then.magnitude[i])))
        NotProved(fmt::format("at {} {:g} became {:g}", Place(is), then.value[i], now.value[i]));
    for (const auto& [v, computed] : known) {
      const Value& value = after_.value(v);
      if (constant_[v.i] && value.producer.valid() && ReadByData(v) && merged_.Has(value.name))
        CheckWeight(value.name, computed);
    }
  }

  // Whether data are computed with the constant as it is. A constant from which only other
  // constants are made is no weight.
  bool ReadByData(ValueId v) const {
    return std::ranges::any_of(after_.users(v),
                               [&](NodeId user) { return !constant_[after_.node(user).out[0].i]; });
  }

  std::string Place(ValueId v) const {
    const Value& value = after_.value(v);
    return value.producer.valid() ? after_.node(value.producer).scope : value.name;
  }

  // The nearest values below this one that both graphs have and that are no constants; random rows
  // stand for them.
  Known Operands(ValueId is) const {
    Known known;
    std::vector<ValueId> stack{is};
    std::set<ValueId> seen;
    while (!stack.empty()) {
      const ValueId v = stack.back();
      stack.pop_back();
      if (constant_[v.i] || !seen.insert(v).second) continue;
      if (v.i < before_.num_values())
        known[v] = RandomRows(v);
      else
        for (ValueId in : after_.node(after_.value(v).producer).in) stack.push_back(in);
    }
    return known;
  }

  Computed RandomRows(ValueId v) const {
    std::vector<float> rows(FewRows(after_.shape(v)).size());
    FillNormal(rows, {MakeKey(0, Purpose::kData, "merge"), v.i}, 0, 1);
    Computed c{{rows.begin(), rows.end()}, {}, 0};
    for (double x : c.value) c.magnitude.push_back(std::fabs(x));
    return c;
  }

  void CheckWeight(const std::string& name, const Computed& exact) {
    if (!weights_.insert(name).second) return;
    ++proof_.weights;
    const std::span<const float> found = merged_.values(name);
    if (found.size() != exact.value.size())
      NotProved(
          fmt::format("{} has {} values, expected {}", name, found.size(), exact.value.size()));
    // The factors of a scale count, too, as a kernel takes them in f32.
    const double unit = (exact.roundings + 2) * kUnit32;
    for (size_t i = 0; i < found.size(); ++i) {
      const double bound = unit * exact.magnitude[i] + std::numeric_limits<float>::min();
      const double error = std::fabs(found[i] - exact.value[i]) / bound;
      if (!(error <= 1))
        NotProved(
            fmt::format("{} holds {:g} at {}, expected {:g}", name, found[i], i, exact.value[i]));
      proof_.weight_error = std::max(proof_.weight_error, error);
    }
    if (on_weight_) on_weight_(name, exact.value, exact.magnitude);
  }

  // Checks a parameter that data are multiplied by as it is.
  void CheckUnchanged(ValueId v) const {
    if (!ReadByData(v)) return;
    const std::string& name = after_.value(v).name;
    const std::span<const std::byte> was = params_.Get(name).bytes(),
                                     is = merged_.Get(name).bytes();
    if (was.size() != is.size() ||
        (was.data() != is.data() && std::memcmp(was.data(), is.data(), was.size()) != 0))
      NotProved(fmt::format("{} was changed, but nothing was merged into it", name));
  }

  const Graph& before_;
  Graph after_;
  const ParamStore &params_, &merged_;
  const OnMergedWeight& on_weight_;
  std::vector<bool> constant_;  // of after_: depends on parameters only
  std::set<std::pair<ValueId, ValueId>> compared_;
  std::set<std::string> weights_;
  MergeProof proof_;
};

}  // namespace

MergeProof ProveMerge(const Graph& before, const ParamStore& params, const ParamStore& merged,
                      const std::vector<std::string>& base_names, const OnMergedWeight& on_weight) {
  return Prover(before, params, merged, base_names, on_weight).Run();
}

}  // namespace graft
