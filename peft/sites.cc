#include "peft/sites.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <span>

#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {

int64_t BlockOf(std::string_view scope) {
  int64_t block = -1;
  if (scope.starts_with("blocks."))
    std::from_chars(scope.data() + 7, scope.data() + scope.size(), block);
  return block;
}

bool IsSite(const Graph& g, ValueId v) {
  const NodeId id = g.value(v).producer;
  if (!id.valid() || g.node(id).op != &kMatmul) return false;
  const Node& n = g.node(id);
  static const Attrs transposed = MatmulAttrs{.tb = true};
  if (n.in.size() != 2 || !(n.attrs == transposed)) return false;
  constexpr std::string_view kWeight = ".weight";
  const std::string& name = g.value(n.in[1]).name;
  return name.size() == n.scope.size() + kWeight.size() && name.starts_with(n.scope) &&
         name.ends_with(kWeight);
}

bool PerToken(const Graph& g, ValueId v) { return g.shape(v)[0] != Dim::Sequences(); }

ValueId DenseOutput(const Graph& g, ValueId product) {
  const std::string& scope = g.node(g.value(product).producer).scope;
  ValueId v = product;
  for (bool found = true; found;) {
    found = false;
    for (NodeId user : g.users(v)) {
      const Node& n = g.node(user);
      if ((n.op != &kAdd && n.op != &kMul) || n.in[0] != v || n.scope != scope) continue;
      v = n.out[0], found = true;
      break;
    }
  }
  return v;
}

namespace {

bool IsPattern(std::string_view target) {
  return std::ranges::any_of(
      target, [](char c) { return c == '*' || c == '?' || c == '[' || c == '\\'; });
}

bool ScopeMatches(const std::string& scope, const std::string& target) {
  if (IsPattern(target))
    return GlobMatch(target, scope) || GlobMatch("*." + target, scope);
  return scope.ends_with(target) &&
         (scope.size() == target.size() || scope[scope.size() - target.size() - 1] == '.');
}

}  // namespace

std::string LayerOf(const std::string& parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

bool ScopeMatches(const std::string& scope, const std::vector<std::string>& targets) {
  return std::ranges::any_of(targets, [&](const auto& t) { return ScopeMatches(scope, t); });
}

void FailTarget(const std::string& target, const std::set<std::string>& scopes) {
  std::set<std::string> kinds;
  for (const std::string& scope : scopes) {
    const size_t dot = scope.starts_with("blocks.") ? scope.find('.', 7) : std::string::npos;
    kinds.insert(dot == std::string::npos ? scope : scope.substr(dot + 1));
  }
  const std::set<std::string>& list = target.starts_with("blocks.") ? scopes : kinds;
  FailUsage("target '{}' matches no layer{}", target,
            DidYouMean(target, std::vector<std::string>(list.begin(), list.end())));
}

void CheckTargets(const Graph& g, const std::vector<std::string>& targets) {
  std::vector<std::string> missing = targets;
  for (uint32_t i = 0; i < g.num_nodes() && !missing.empty(); ++i) {
    const Node& n = g.node({i});
    if (n.op == &kMatmul && IsSite(g, n.out[0]))
      std::erase_if(missing, [&](const std::string& t) { return ScopeMatches(n.scope, t); });
  }
  if (missing.empty()) return;
  std::set<std::string> scopes;
  for (uint32_t i = 0; i < g.num_nodes(); ++i)
    if (const Node& n = g.node({i}); n.op == &kMatmul && IsSite(g, n.out[0]))
      scopes.insert(n.scope);
  FailTarget(missing[0], scopes);
}

std::vector<ValueId> BlockLayers(const Graph& g, const std::vector<std::string>& targets) {
  CheckTargets(g, targets);
  std::vector<ValueId> layers;
  const auto meant = [&](NodeId id) {
    const Node& n = g.node(id);
    return n.op == &kMatmul && IsSite(g, n.out[0]) && BlockOf(n.scope) >= 0 &&
           ScopeMatches(n.scope, targets);
  };
  for (uint32_t i = 0; i < g.num_nodes(); ++i)
    if (meant({i})) layers.push_back(g.node({i}).out[0]);
  // In the order in which they run. Those that wait for one value alone, as query, key and value
  // do, run in the order of their numbers.
  const auto in = [&](ValueId v) { return std::span(g.node(g.value(v).producer).in); };
  const bool beside = std::ranges::all_of(layers, [&](ValueId v) {
    return in(v)[0] == in(layers[0])[0] && !g.value(in(v)[1]).producer.valid();
  });
  if (!beside) {
    layers.clear();
    for (NodeId id : g.TopoOrder())
      if (meant(id)) layers.push_back(g.node(id).out[0]);
  }
  if (layers.empty())
    FailUsage("option 'targets' = '{}' matches no layer of a block", fmt::join(targets, "|"));
  return layers;
}

namespace {

// Whether v holds rows of activations: it is a matrix whose number of rows depends on the batch.
bool IsStream(const Graph& g, ValueId v) {
  const TensorType& type = g.type(v);
  return type.dtype == DType::kF32 && type.shape.size() == 2 && !type.shape[0].fixed();
}

}  // namespace

std::vector<BlockSite> FindBlocks(const Graph& g) {
  std::map<int64_t, BlockSite> blocks;
  const auto block_of = [&](ValueId v) {
    const NodeId id = g.value(v).producer;
    return id.valid() ? BlockOf(g.node(id).scope) : -1;
  };
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const int64_t here = BlockOf(n.scope);
    if (here >= 0) blocks[here].number = here;
    if (here >= 0 && n.op == &kAttention) blocks[here].attention = id;
    for (ValueId v : n.in) {
      const int64_t from = block_of(v);
      if (from == here || !IsStream(g, v)) continue;
      if (here >= 0) blocks[here].input = v;
      if (from >= 0) blocks[from].output = v;
    }
  }
  std::vector<BlockSite> list;
  for (const auto& [number, site] : blocks)
    if (site.input.valid() && site.output.valid() && site.attention.valid()) list.push_back(site);
  if (list.empty()) FailUsage("the model has no transformer block");
  return list;
}

ValueId FindEdge(const Graph& g, std::string_view name) {
  for (ValueId v : g.Leaves(Role::kIntermediate))
    if (g.value(v).name == name) return v;
  return {};
}

Join FindJoin(const Graph& g, const BlockSite& block, Branch which) {
  const bool attention = which == Branch::kAttention;
  // The sums of pre-norm blocks are the streams x1 and y; those of post-norm blocks go into norms.
  for (const char* name : attention ? std::array{"x1", "sum1"} : std::array{"y", "sum2"}) {
    const ValueId sum = FindEdge(g, fmt::format("blocks.{}.{}", block.number, name));
    if (!sum.valid() || !g.value(sum).producer.valid()) continue;
    const NodeId id = g.value(sum).producer;
    const Node& n = g.node(id);
    if (n.op == &kAdd)
      return {id, n.in[0], n.in[1],
              fmt::format("blocks.{}.{}", block.number, attention ? "attn" : "mlp")};
  }
  FailUsage("block {} has no residual sum behind its {}", block.number,
            attention ? "attention" : "MLP");
}

ValueId AttentionInput(const Graph& g, const BlockSite& block) {
  const std::string scope = fmt::format("blocks.{}.attn.q", block.number);
  for (ValueId v : g.Leaves(Role::kIntermediate))
    if (IsSite(g, v) && g.node(g.value(v).producer).scope == scope)
      return g.node(g.value(v).producer).in[0];
  FailUsage("block {} has no query layer", block.number);
}

HostShape ShapeOf(const Graph& g) {
  const std::vector<BlockSite> blocks = FindBlocks(g);
  HostShape shape{g.shape(blocks[0].input)[1].constant, 0, std::ssize(blocks)};
  for (uint32_t i = 0; i < g.num_nodes() && shape.mlp_width == 0; ++i)
    if (const Node& n = g.node({i}); n.op == &kMatmul && n.scope == "blocks.0.mlp.fc1")
      shape.mlp_width = g.shape(n.out[0])[1].constant;
  return shape;
}

int64_t BottleneckCount(int64_t in, int64_t out, int64_t r) { return r * (in + out + 1) + out; }

namespace {

bool IsNormParameter(const Graph& g, ValueId p) {
  return ReadAs(g, p, kLayerNorm, 1) || ReadAs(g, p, kLayerNorm, 2);
}

}  // namespace

int64_t NormCount(const Graph& g) {
  int64_t count = 0;
  for (ValueId p : g.Leaves(Role::kParam))
    if (IsNormParameter(g, p)) count += At(g.shape(p), {}).size();
  return count;
}

void TrainNorms(Graph& g) {
  for (ValueId p : g.Leaves(Role::kParam))
    if (IsNormParameter(g, p)) g.SetTrainable(p, true);
}

bool ReadAs(const Graph& g, ValueId param, const OpDef& op, size_t index) {
  const auto& users = g.users(param);
  return std::any_of(users.begin(), users.end(), [&](NodeId n) {
    return g.node(n).op == &op && index < g.node(n).in.size() && g.node(n).in[index] == param;
  });
}

bool IsBias(const Graph& g, ValueId p) {
  if (ReadAs(g, p, kLayerNorm, 2)) return true;
  if (g.shape(p).size() != 1) return false;
  const Shape& shape = g.shape(p);
  for (NodeId user : g.users(p)) {
    const Node& n = g.node(user);
    if (n.op != &kAdd) continue;
    // The parameter is added to rows, possibly behind branches that other methods have added;
    if (n.in[1] == p && IsStream(g, n.in[0])) return true;
    // or it is part of a vector that is, as in b + b * d + e.
    if (n.in[0] == p && g.shape(n.out[0]) == shape && g.value(n.out[0]).name == g.value(p).name)
      return true;
  }
  return false;
}

}  // namespace graft
