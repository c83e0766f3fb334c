// The bottleneck of adapters (Houlsby et al. 2019; He et al. 2022): x [R,in] -> [R,out],
//
//   f(x) = s (drop(act(x Wd' + bd)) Wu' + bu),   Wd [r,in], bd [r], Wu [out,r], bu [out]
//
// with parameters NAME_down, NAME_down_bias, NAME_up, NAME_up_bias: r (in + out + 1) + out numbers.
#pragma once
#include "peft/parameters.h"
#include "peft/sites.h"

namespace graft {

struct BottleneckShape {
  std::string name;  // "blocks.3.mlp.adaptformer"
  int64_t r = 8, out = 0;
  std::string act = "relu";
  double dropout = 0;
  Init down = KaimingUniform(), up = Zeros();  // biases start at zero
};
// Reads the options of that name: "r", "act" and, where the record has it, "dropout".
BottleneckShape BottleneckOf(const MethodArgs& a, std::string name);

// Builds f without its scale; the new nodes are in the scope of the layer `name`.
ValueId Bottleneck(const MethodArgs& a, ValueId x, const BottleneckShape& shape);

// Builds s f, where s is a number or, with "learned", a parameter NAME_scale [1] that starts at 1.
ValueId Scaled(const MethodArgs& a, ValueId f, const std::string& name, const std::string& option);

// The activations relu, gelu, gelu_tanh, quick_gelu (x sigmoid(1.702 x)), silu, tanh, sigmoid,
// none. Throws Error for others.
ValueId Activated(Graph& g, ValueId x, const std::string& act);
// Throws the same Error.
void CheckActivation(const std::string& act);

// How many numbers bottlenecks D -> D at so many places have, by the options "r" and "scale".
int64_t BottleneckCountAt(const MethodArgs& a, int64_t places);

// Replaces a branch by branch + f, before it is added to the stream.
void AddToBranch(Graph& g, const Join& join, ValueId f);

}  // namespace graft
