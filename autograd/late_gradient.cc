#include "autograd/late_gradient.h"

#include <map>
#include <numeric>

#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

// Disjoint sets of values.
class Sets {
 public:
  explicit Sets(size_t values) : parent_(values) {
    std::iota(parent_.begin(), parent_.end(), uint32_t{0});
  }
  uint32_t Find(ValueId v) {
    uint32_t i = v.i;
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void Join(ValueId a, ValueId b) { parent_[Find(b)] = Find(a); }

 private:
  std::vector<uint32_t> parent_;
};

struct Connected {
  ParameterPart part;
  bool product = false;  // has a matrix product
  int64_t nodes = 0;
};

int64_t Numbers(const Graph& g, const std::vector<ValueId>& values) {
  int64_t numbers = 0;
  for (ValueId v : values) numbers += At(g.shape(v), {}).size();
  return numbers;
}

bool Worthwhile(const Graph& g, const Connected& c) {
  constexpr int64_t kMostForProducts = 2, kMostForNode = 512;
  const int64_t kept = Numbers(g, c.part.frontier), instead = Numbers(g, c.part.trainable);
  return c.nodes > 0 && (kept < instead || (c.product && kept <= kMostForProducts * instead) ||
                         kept <= kMostForNode * c.nodes);
}

}  // namespace

std::vector<ParameterPart> LateParts(const Graph& g) {
  const std::vector<ValueId> trainable = g.Trainable();
  const std::vector<NodeId> order = g.TopoOrder();
  const std::vector<bool> fixed = DependsOnlyOnParameters(g, order),
                          trains = DependsOnAny(g, trainable, order);
  std::vector<bool> inside(g.num_values());
  for (size_t i = 0; i < inside.size(); ++i) inside[i] = fixed[i] && trains[i];
  Sets sets(g.num_values());
  std::vector<NodeId> nodes;
  for (NodeId id : order) {
    const Node& n = g.node(id);
    if (!inside[n.out[0].i]) continue;
    nodes.push_back(id);
    for (const ValueList* values : {&n.in, &n.out})
      for (ValueId v : *values)
        if (inside[v.i]) sets.Join(n.out[0], v);
  }
  std::map<uint32_t, Connected> all;
  for (NodeId id : nodes) {
    Connected& c = all[sets.Find(g.node(id).out[0])];
    ++c.nodes;
    c.product |= g.node(id).op == &kMatmul;
  }
  for (ValueId v : trainable) all[sets.Find(v)].part.trainable.push_back(v);
  for (ValueId v : NeededOutside(g, inside)) all[sets.Find(v)].part.frontier.push_back(v);
  std::vector<ParameterPart> parts;
  for (ValueId v : trainable) {
    Connected& c = all[sets.Find(v)];
    if (c.part.trainable.front() == v && Worthwhile(g, c)) parts.push_back(c.part);
  }
  return parts;
}

}  // namespace graft
