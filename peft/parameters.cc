#include "peft/parameters.h"

#include <algorithm>
#include <cmath>

#include "ops/ops.h"

namespace graft {

Init Zeros() {
  return [](std::span<float>, const Extents&, const StreamKey&) {};
}
Init Constants(double value) {
  return [=](std::span<float> values, const Extents&, const StreamKey&) {
    std::ranges::fill(values, static_cast<float>(value));
  };
}
Init Normals(double mean, double deviation) {
  return [=](std::span<float> values, const Extents&, const StreamKey& key) {
    FillNormal(values, key, mean, deviation);
  };
}
Init Uniforms(double bound) {
  return [=](std::span<float> values, const Extents&, const StreamKey& key) {
    FillUniform(values, key, -bound, bound);
  };
}
Init KaimingUniform() {
  return [](std::span<float> values, const Extents& shape, const StreamKey& key) {
    Uniforms(1 / std::sqrt(static_cast<double>(shape.cols())))(values, shape, key);
  };
}
Init BiasUniform(int64_t in) { return Uniforms(1 / std::sqrt(static_cast<double>(in))); }
Init XavierUniform() {
  return [](std::span<float> values, const Extents& shape, const StreamKey& key) {
    const double fans = static_cast<double>(shape.rows() + shape.cols());
    Uniforms(std::sqrt(6 / fans))(values, shape, key);
  };
}

namespace {

ValueId OwnParam(const MethodArgs& a, const std::string& name, const Extents& shape,
                 const Init& init) {
  if (const ValueId there = a.g.FindLeaf(name); there.valid()) {
    const MethodContext& c = a.context;
    if (c.brought)
      if (const auto at = c.brought->find(name); at != c.brought->end() && at->second != c.term)
        FailUsage("'{}' and '{}' would both have the parameter '{}'", at->second, c.term, name);
    if (At(a.g.shape(there), {}) != shape)
      FailUsage("two terms would share '{}' in two shapes, {} and {}", name,
                ToString(a.g.shape(there)), ToString(ToShape(shape)));
    return there;
  }
  if (!a.params.Has(name)) {
    float* data = a.params.Allocate(name, shape);
    init({data, static_cast<size_t>(shape.size())}, shape, {MakeKey(a.seed, Purpose::kInit, name)});
  }
  return a.g.AddParam(name, ToShape(shape), true);
}

// The first rows and columns of a stored parameter. A number [1] is the first one of a matrix.
ValueId FirstOf(Graph& g, ValueId stored, const Extents& shape) {
  const Extents whole = At(g.shape(stored), {});
  ValueId v = stored;
  if (whole[0] != shape[0]) v = SliceRows(g, v, 0, shape[0]);
  if (whole.rank == 1) return v;
  const int64_t cols = shape.rank == 1 ? 1 : shape[1];
  if (whole[1] != cols) v = g.Add1(kSliceCols, {v}, SliceAttrs{0, cols});
  return shape.rank == 1 ? SumRows(g, v) : v;
}

}  // namespace

ValueId NewParam(const MethodArgs& a, const std::string& name, const Extents& shape,
                 const Init& init) {
  if (!a.context.storage) return OwnParam(a, name, shape, init);
  const auto it = a.context.storage->find(name);
  if (it == a.context.storage->end())
    FailUsage("'{}' is there for some choices together only, which a supernet cannot share", name);
  const ValueId stored = OwnParam(a, name, it->second, init);
  return it->second == shape ? stored : FirstOf(a.g, stored, shape);
}

}  // namespace graft
