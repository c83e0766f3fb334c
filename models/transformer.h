// What the models share: transformer blocks (Vaswani et al. 2017, arXiv 1706.03762) as graph, and
// initial weights. Parameters and nodes are named by the scope that they are built in.
#pragma once
#include <functional>

#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct BlockShape {
  int64_t width = 768, heads = 12, mlp_width = 3072;
  double eps = 1e-6;               // of all layer norms
  std::string activation = "erf";  // one of Activations()
  bool qkv_bias = true;
  bool layer_scale = false;  // a gain for each column of both branches: ls1.gamma, ls2.gamma [D]
  bool qk_norm = false;  // layer norms over each head of q and k: attn.{q_norm,k_norm} [D/heads]
};
// The names of activations. "erf": GELU by the error function. "tanh": GELU by its tanh
// approximation. "relu": max(0, x). "quick": x sigmoid(1.702 x). "silu": x sigmoid(x). "swiglu": a
// gated MLP, silu(a) * b of the two halves a, b of fc1's 2 mlp_width results (Shazeer 2020, arXiv
// 2002.05202).
const std::vector<std::string>& Activations();
// Throws Error with the known names for any other.
void CheckActivation(const std::string& activation, const std::string& where);

// A linear layer, x [R,in] -> [R,out], with parameters SCOPE.NAME.{weight [out,in], bias [out]}.
ValueId Dense(Graph& g, ValueId x, std::string_view name, int64_t out, bool bias = true);
// Layer norm over the columns, with parameters SCOPE.NAME.{weight,bias}.
ValueId Norm(Graph& g, ValueId x, std::string_view name, double eps);
ValueId Activate(Graph& g, ValueId x, const std::string& activation);
// Names a value SCOPE.NAME, so that methods find it.
ValueId Edge(Graph& g, std::string_view name, ValueId v);

// What a branch (the edges "o" and "u") goes through before it joins the residual stream:
// drop-path, dropout, or nothing.
using OnBranch = std::function<ValueId(ValueId branch, std::string_view edge)>;

// Both take rows [R,D] with the sequences' offsets and build in the current scope, "blocks.N":
// layers attn.{q,k,v,o}, mlp.{fc1,fc2}, norm1, norm2; edges c (attention context), o (projection),
// h, g (before and after the activation), u (fc2), with LayerScale o_scaled, u_scaled, and those
// below.
//
//   a = norm1(x);  x1 = x + o(a);  m = norm2(x1);  y = x1 + u(m)         edges a, x1, m, y
ValueId PreNormBlock(Graph& g, ValueId x, ValueId offsets, const BlockShape& shape,
                     const OnBranch& on_branch);
//   h1 = norm1(h0 + o(h0));  h2 = norm2(h1 + u(h1))                      edges h1, h2
ValueId PostNormBlock(Graph& g, ValueId h0, ValueId offsets, const BlockShape& shape,
                      const OnBranch& on_branch);

// Makes the parameters of g that are missing; `only` limits them to names that begin so. Biases are
// 0, other vectors (gains) 1, matrices normal with deviation 0.02 from the stream of their name.
void InitMissing(const Graph& g, ParamStore& params, uint64_t seed, std::string_view only = "");

}  // namespace graft
