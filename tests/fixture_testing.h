// What the tests against tests/fixtures share: expected values, comparison, named edges.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/graph.h"
#include "runtime/io/safetensors.h"

namespace graft {

inline const std::string kFixtures = std::string(GRAFT_SOURCE_DIR) + "/tests/fixtures/";

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

}  // namespace graft
