// FacT (Jie and Deng 2023, arXiv 2212.03145): low-rank updates of all layers of all blocks from one
// pair of factors U [r,D], V [D,r] and a small core for each layer, with c = M / D:
//
//   q, k, v, o:  y += s drop(x U' K') V',          K  [r,r]
//   fc1:         y += s drop(x U' K1') [V..V]',    K1 [cr,r], chunk p of D outputs by rows pr..
//   fc2:         y += s drop(x [U..U]' K2') V',    K2 [r,cr], chunk p of D inputs by columns pr..
//
// [V..V] is block-diagonal. U ~ U(+-1/sqrt(D)), V = 0.
//
//   tt:  cores of their own, ~ U(+-1/sqrt(columns))
//   tk:  cores are slices of C x Pm, C [r,r,r] and Pm [r,(4+2c)L] xavier: block i has slices
//        (4+2c)i.. for q, k, v, o, fc1 (c), fc2 (c). As in the authors' code, those of fc1 and fc2
//        are interleaved: column m of a chunked core is column m/c of slice m%c, and fc1 takes each
//        transposed.
#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"
#include "peft/surgery.h"

namespace graft {
namespace {

// n copies of m [R,C] on the diagonal of [nR,nC].
ValueId Diagonal(Graph& g, ValueId m, int64_t n) {
  const int64_t cols = g.shape(m)[1].constant;
  ValueId all;
  for (int64_t i = 0; i < n; ++i) {
    const ValueId block = n == 1 ? m : g.Add1(kPadCols, {m}, SliceAttrs{i * cols, n * cols});
    all = all.valid() ? ConcatRows(g, all, block) : block;
  }
  return all;
}

class FactFactors {
 public:
  explicit FactFactors(const MethodArgs& a)
      : a_(a),
        g_(a.g),
        r_(a.Int("r", 1, 4096)),
        tk_(a.Choice("form", {"tt", "tk"}) == "tk"),
        host_(ShapeOf(a.g)),
        chunks_(host_.mlp_width / host_.width),
        slices_((4 + 2 * chunks_) * host_.depth) {}

  // Replaces x W' by x W' + s ...
  void Branch(ValueId product) {
    const Node n = g_.node(g_.value(product).producer);
    const std::string before = g_.scope;
    const UserList users = g_.users(product);
    const int64_t outs = Chunks(product), ins = Chunks(n.in[0]);
    g_.scope = n.scope;
    const ValueId u = NewParam(a_, "fact.u", {r_, host_.width}, KaimingUniform());
    const ValueId v = NewParam(a_, "fact.v", {host_.width, r_}, Zeros());
    // Layers that read the same x do not share the factors here, as folding takes branches one by
    // one; share_equal makes them one where they run.
    ValueId h = Matmul(g_, n.in[0], Diagonal(g_, u, ins), false, true);
    h = Matmul(g_, h, Core(n.scope, outs, ins), false, true);
    h = DropBranch(a_, h, n.scope + ".fact.dropout", a_.Number("dropout", 0, 0.999999));
    h = Matmul(g_, h, Diagonal(g_, v, outs), false, true);
    const ValueId y = Add(g_, product, Scale(g_, h, a_.Number("scale", -1e6, 1e6)));
    g_.ReplaceUsesIn(product, y, users);
    g_.scope = before;
  }

  int64_t Count(const std::vector<ValueId>& layers) const {
    int64_t count = 2 * r_ * host_.width;
    if (tk_) return count + r_ * r_ * r_ + r_ * slices_;
    for (ValueId v : layers)
      count += Chunks(v) * Chunks(g_.node(g_.value(v).producer).in[0]) * r_ * r_;
    return count;
  }

 private:
  int64_t Chunks(ValueId rows) const {
    const int64_t columns = g_.shape(rows)[1].constant;
    if (columns % host_.width)
      FailUsage("a layer of {} columns in a model of width {}: expected a multiple", columns,
                host_.width);
    return columns / host_.width;
  }
  // K [outs r, ins r], so that y += x [U]' K' [V]'.
  ValueId Core(const std::string& scope, int64_t outs, int64_t ins) {
    if (!tk_) return NewParam(a_, scope + ".fact_core", {outs * r_, ins * r_}, KaimingUniform());
    const int64_t block = (4 + 2 * chunks_) * BlockOf(scope);
    constexpr std::array kNames{"attn.q", "attn.k", "attn.v", "attn.o"};
    for (size_t i = 0; i < kNames.size(); ++i)
      if (scope.ends_with(kNames[i])) return Transpose(g_, Slice(block + static_cast<int64_t>(i)));
    if ((scope.ends_with("fc1") ? outs : ins) != chunks_)
      FailUsage("form=tk: the sides of a gated MLP are not alike ({}); hint: form=tt", scope);
    return scope.ends_with("fc1") ? Transpose(g_, Interleaved(block + 4))
                                  : Interleaved(block + 4 + chunks_);
  }

  // FC[:,:,j] [r,r] = sum_k C[:,:,k] Pm[k,j].
  ValueId Slice(int64_t j) {
    const double bound = std::sqrt(3.0) / static_cast<double>(r_);  // of fans r^2
    const ValueId c = NewParam(a_, "fact.core", {r_, r_ * r_}, Uniforms(bound));
    const ValueId p = NewParam(a_, "fact.slices", {r_, slices_}, XavierUniform());
    // Rows of SplitHeads(c) are (i, j) with k along the columns.
    const ValueId column = Matmul(g_, SplitHeads(g_, c, r_), SliceCols(g_, p, j, 1));
    return JoinHeads(g_, column, r_);
  }

  // [r,cr]: column m is column m/c of slice first + m%c.
  ValueId Interleaved(int64_t first) {
    ValueId all;
    for (int64_t i = 0; i < chunks_; ++i) {
      const ValueId column = SplitHeads(g_, Slice(first + i), r_);  // [r r, 1]
      all = all.valid() ? ConcatCols(g_, all, column) : column;     // [r r, c] in the end
    }
    return JoinHeads(g_, all, r_);
  }

  const MethodArgs& a_;
  Graph& g_;
  const int64_t r_;
  const bool tk_;
  const HostShape host_;
  const int64_t chunks_, slices_;  // c; of form=tk
};

PassReport ApplyFact(const MethodArgs& a) {
  PassReport report = StartReport(a, "fact");
  FactFactors factors(a);
  for (ValueId product : BlockLayers(a.g, a.List("targets"))) {
    factors.Branch(product);
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kFactMethod{
    .name = "fact",
    .summary = "low-rank updates of all layers from shared factors (Jie and Deng 2023)",
    .equation = "y = x W' + s drop(x U' K') V'",
    .formula = "tt: 2Dr + L 12r^2 with M = 4D; tk: 2Dr + 12Lr + r^3",
    .source = "Jie and Deng 2023, arXiv 2212.03145",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"form", "tt", "tt: a core for each layer; tk: slices of one core"},
              {"r", "16", "rank"},
              {"scale", "1", "s; the authors search 0.01 to 100"},
              {"dropout", "0", "probability behind the core (the authors': 0.1)"},
              {"targets", "attn.*|mlp.*", "layers whose sides are multiples of the width"}};
        },
    .apply = ApplyFact,
    .count =
        +[](const MethodArgs& a) {
          return FactFactors(a).Count(BlockLayers(a.g, a.List("targets")));
        },
    .folds = Folds::kYes,
    .why = "W + s V K U",
    .learning_rate = 1e-3};

}  // namespace graft
