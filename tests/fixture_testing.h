// What the tests against tests/fixtures share: expected values, comparison, named edges.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "autograd/gradient.h"
#include "ops/ops.h"
#include "runtime/graph.h"
#include "runtime/interpret.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft {

// Tensors of 64-bit floats or integers as doubles.
class Expected {
 public:
  explicit Expected(const std::string& name) : file_(SafetensorsFile::Open(kFixtures + name)) {}
  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }
  std::vector<double> operator[](const std::string& name) const {
    const FileTensor& t = file_.Get(name);
    const auto bytes = file_.bytes(t);
    const size_t n = bytes.size() / 8;
    std::vector<double> values(n);
    if (t.dtype == FileDType::kF64) std::memcpy(values.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < n && t.dtype == FileDType::kI64; ++i) {
      int64_t x;
      std::memcpy(&x, bytes.data() + 8 * i, 8);
      values[i] = static_cast<double>(x);
    }
    return values;
  }
  std::vector<std::string> NamesWith(const std::string& prefix) const {
    std::vector<std::string> names;
    for (const FileTensor& t : file_.tensors())
      if (t.name.starts_with(prefix)) names.push_back(t.name);
    return names;
  }
  // The fixture's own LoRA factors of rank 2, which ApplyMethod then keeps.
  void PutLoraInit(ParamStore& params) const {
    for (const std::string& name : NamesWith("lora_init.")) {
      const std::vector<double> values = (*this)[name];
      const int64_t n = static_cast<int64_t>(values.size()) / 2;
      const std::vector<float> f(values.begin(), values.end());
      params.Set(name.substr(10), name.ends_with("lora_a") ? Extents{2, n} : Extents{n, 2}, f);
    }
  }

 private:
  SafetensorsFile file_;
};

// max |a - b| / max |b|
inline double RelativeError(std::span<const double> a, std::span<const double> b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, scale = 1e-30;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error = std::isnan(a[i]) ? INFINITY : std::max(error, std::fabs(a[i] - b[i]));
    scale = std::max(scale, std::fabs(b[i]));
  }
  return error / scale;
}

inline ValueId Named(const Graph& g, const std::string& name) {
  for (ValueId v : g.Leaves(Role::kIntermediate))
    if (g.value(v).name == name) return v;
  ADD_FAILURE() << "no edge named " << name;
  return {0};
}

// Compares the gradients of the mean of the graph's `losses` to all trainable parameters with the
// fixture's, and returns how many it compared. The bias of the keys is left out: its gradient is
// zero but for rounding.
inline int CompareGradients(Graph g, int64_t examples, const Expected& expected,
                            const std::function<Values64(const Graph&)>& run) {
  const std::vector<ValueId> wrt = g.Trainable();
  const ValueId loss = Scale(g, SumAll(g, g.output("losses")), 1.0 / static_cast<double>(examples));
  const std::vector<ValueId> grads = AddGradients(g, loss, wrt);
  const Values64 values = run(g);
  int compared = 0;
  for (size_t i = 0; i < wrt.size(); ++i) {
    const std::string& name = g.value(wrt[i]).name;
    if (name.ends_with("attn.k.bias")) continue;
    EXPECT_LT(RelativeError(values[grads[i].i], expected["grad." + name]), 1e-10) << name;
    ++compared;
  }
  return compared;
}

}  // namespace graft
