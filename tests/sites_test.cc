// Where methods attach: layers come in the order in which they run, whatever their numbers are.
#include "peft/sites.h"

#include <gtest/gtest.h>

#include "ops/ops.h"

namespace graft::sites_test {
namespace {

ValueId Layer(Graph& g, ValueId x, const std::string& scope) {
  g.scope = scope;
  const ValueId w = g.AddParam(scope + ".weight", {Dim(4), Dim(4)});
  return Matmul(g, x, w, false, true);
}

std::vector<std::string> Scopes(const Graph& g, const std::vector<ValueId>& layers) {
  std::vector<std::string> scopes;
  for (ValueId v : layers) scopes.push_back(g.node(g.value(v).producer).scope);
  return scopes;
}

using Names = std::vector<std::string>;

TEST(BlockLayers, ComeInTheOrderInWhichTheyRun) {
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Tokens(), Dim(4)}});
  const ValueId later = Layer(g, x, "blocks.1.fc");
  const ValueId first = Layer(g, x, "blocks.0.fc");
  EXPECT_EQ(Scopes(g, BlockLayers(g, {"fc"})), (Names{"blocks.1.fc", "blocks.0.fc"}))
      << "of those that wait for the same, the older";
  g.SetInput(g.value(later).producer, 0, first);
  g.AddOutput("y", later);
  EXPECT_EQ(Scopes(g, BlockLayers(g, {"fc"})), (Names{"blocks.0.fc", "blocks.1.fc"}));
}

TEST(BlockLayers, WaitForTheirWeights) {
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Tokens(), Dim(4)}});
  const ValueId query = Layer(g, x, "blocks.0.q");
  const ValueId key = Layer(g, x, "blocks.0.k");
  // A weight that a method has put in place of another is made after the product was numbered.
  const NodeId product = g.value(query).producer;
  const ValueId weight = g.node(product).in[1], made = Mul(g, weight, weight);
  g.SetName(made, "blocks.0.q.weight");
  g.SetInput(product, 1, made);
  g.AddOutput("q", query), g.AddOutput("k", key);
  EXPECT_EQ(Scopes(g, BlockLayers(g, {"q", "k"})), (Names{"blocks.0.k", "blocks.0.q"}));
}

}  // namespace
}  // namespace graft::sites_test
