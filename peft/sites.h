// Where methods attach, found by scope and graph shape, never by model class.
#pragma once
#include <set>

#include "runtime/graph.h"

namespace graft {

// The number N of a scope "blocks.N" or "blocks.N. ...", or -1.
int64_t BlockOf(std::string_view scope);

// --- dense layers ---

// Whether v is a dense layer: a matmul whose transposed right operand is a parameter, or what a
// method has made of one. SCOPE.weight is the parameter's name.
bool IsSite(const Graph& g, ValueId v);
// Whether the rows of v are tokens; those of a head are not, which has one row a sequence.
bool PerToken(const Graph& g, ValueId v);
// The result of a dense layer: its product with the bias and the branches that were joined to it.
ValueId DenseOutput(const Graph& g, ValueId product);
// Whether a scope is meant by a target: "attn.q" means blocks.N.attn.q for every N,
// "blocks.3.attn.q" that one, "attn.*" all of attention; '*' matches anything.
bool ScopeMatches(const std::string& scope, const std::vector<std::string>& targets);
// The layer of a parameter: "blocks.3.attn.q" of "blocks.3.attn.q.weight".
std::string LayerOf(const std::string& parameter);
// Throws Error for a target that means none of the layers, with the nearest of their names: without
// the block ("attn.q") if the target is.
[[noreturn]] void FailTarget(const std::string& target, const std::set<std::string>& layers);
// The dense layers inside of blocks that the targets mean, in order. Throws Error with the nearest
// names for a target that matches none.
std::vector<ValueId> BlockLayers(const Graph& g, const std::vector<std::string>& targets);
// Throws Error with the nearest site names for a target that matches no dense layer.
void CheckTargets(const Graph& g, const std::vector<std::string>& targets);

// --- blocks ---

struct BlockSite {
  int64_t number = 0;
  ValueId input, output;  // the residual stream [R,D] before and after the block
  NodeId attention;
};
// The transformer blocks in order. Throws Error if there is none.
std::vector<BlockSite> FindBlocks(const Graph& g);

// What the block's attention reads: the input of its query layer [R,D].
ValueId AttentionInput(const Graph& g, const BlockSite& block);

// The value of this name, such as "blocks.3.u"; invalid if there is none.
ValueId FindEdge(const Graph& g, std::string_view name);

// The sum by which the branch of a block joins the residual stream, stream + branch. Dropout or
// drop-path has been applied to the branch already.
struct Join {
  NodeId sum;
  ValueId stream, branch;
  std::string scope;  // of the branch: "blocks.3.attn" or "blocks.3.mlp"
};
enum class Branch { kAttention, kMlp };
Join FindJoin(const Graph& g, const BlockSite& block, Branch which);

// --- sizes, for counts ---

struct HostShape {
  int64_t width = 0, mlp_width = 0, depth = 0;  // D, M (what fc1 gives), L
};
HostShape ShapeOf(const Graph& g);
// The size of a bottleneck with biases: r (in + out + 1) + out.
int64_t BottleneckCount(int64_t in, int64_t out, int64_t r);
int64_t NormCount(const Graph& g);  // gains and biases of all layer norms

// --- parameters ---

// Whether a node of `op` reads the parameter as its operand `index`.
bool ReadAs(const Graph& g, ValueId param, const OpDef& op, size_t index);
// Whether the parameter is a bias of a dense layer, a convolution or a layer norm, by itself or as
// part of what a method makes of it.
bool IsBias(const Graph& g, ValueId param);
void TrainNorms(Graph& g);  // gains and biases of all layer norms

}  // namespace graft
