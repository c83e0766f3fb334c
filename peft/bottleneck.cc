#include "peft/bottleneck.h"

#include <algorithm>
#include <array>

#include "ops/ops.h"
#include "peft/surgery.h"

namespace graft {

BottleneckShape BottleneckOf(const MethodArgs& a, std::string name) {
  BottleneckShape shape;
  shape.name = std::move(name);
  shape.r = a.Int("r", 1, 65536);
  shape.act = a.Text("act");
  if (a.options.contains("dropout")) shape.dropout = a.Number("dropout", 0, 0.999999);
  return shape;
}

namespace {

using NamedAct = std::pair<std::string_view, const OpDef*>;
constexpr std::array<NamedAct, 6> kActs{NamedAct{"relu", &kRelu},  {"gelu", &kGelu},
                                        {"gelu_tanh", &kGeluTanh}, {"silu", &kSilu},
                                        {"tanh", &kTanh},          {"sigmoid", &kSigmoid}};

}  // namespace

void CheckActivation(const std::string& act) {
  std::vector<std::string> names{"none", "quick_gelu"};
  for (const auto& [name, op] : kActs) names.emplace_back(name);
  if (std::ranges::find(names, act) == names.end())
    FailUsage("option 'act' = '{}'; known: {}", act, fmt::join(names, ", "));
}

ValueId Activated(Graph& g, ValueId x, const std::string& act) {
  CheckActivation(act);
  if (act == "none") return x;
  if (act == "quick_gelu") return Mul(g, x, g.Add1(kSigmoid, {Scale(g, x, 1.702)}));
  return g.Add1(*std::ranges::find(kActs, act, &NamedAct::first)->second, {x});
}

ValueId Bottleneck(const MethodArgs& a, ValueId x, const BottleneckShape& s) {
  Graph& g = a.g;
  const std::string before = g.scope;
  g.scope = s.name.substr(0, s.name.rfind('.'));
  const int64_t in = g.shape(x)[1].constant;
  const auto param = [&](const char* part, const Extents& shape, const Init& init) {
    return NewParam(a, fmt::format("{}_{}", s.name, part), shape, init);
  };
  ValueId h = Linear(g, x, param("down", {s.r, in}, s.down), param("down_bias", {s.r}, Zeros()));
  h = DropBranch(a, Activated(g, h, s.act), s.name + ".dropout", s.dropout);
  const ValueId up = param("up", {s.out, s.r}, s.up);
  const ValueId y = Linear(g, h, up, param("up_bias", {s.out}, Zeros()));
  g.scope = before;
  return y;
}

ValueId Scaled(const MethodArgs& a, ValueId f, const std::string& name, const std::string& option) {
  Graph& g = a.g;
  const std::string before = g.scope;
  g.scope = name.substr(0, name.rfind('.'));
  ValueId y = f;
  if (a.Text(option) == "learned")
    y = Mul(g, f, NewParam(a, name + "_scale", {1}, Constants(1)));
  else if (const double scale = a.Number(option, -1e6, 1e6); scale != 1)
    y = Scale(g, f, scale);
  g.scope = before;
  return y;
}

int64_t BottleneckCountAt(const MethodArgs& a, int64_t places) {
  const int64_t width = ShapeOf(a.g).width, scale = a.Text("scale") == "learned";
  return places * (BottleneckCount(width, width, a.Int("r", 1, 65536)) + scale);
}

void AddToBranch(Graph& g, const Join& join, ValueId f) {
  const std::string before = g.scope;
  g.scope = join.scope;
  const ValueId sum = Add(g, join.branch, f);
  g.SetInput(join.sum, 1, sum);
  g.scope = before;
}

}  // namespace graft
