// What int8 leaves to bf16 in a model of texts: what is rounded early goes through all blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "models/bert.h"
#include "ops/low_precision.h"
#include "ops/records.h"
#include "tests/low_testing.h"

namespace graft::testing::low_texts_test {
namespace {

using Scopes = std::set<std::string>;

Scopes ProductsIn(const Graph& g, const std::string& cell) {
  Scopes scopes;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.op == &kLowMatmul && n.attrs.As<LowMatmulAttrs>().cell == cell) scopes.insert(n.scope);
  }
  return scopes;
}

// Three blocks of six products; the pooler is no block.
Graph LowTexts(const Precision& precision) {
  Graph g = BuildBert({.vocab = 50, .width = 64, .depth = 3, .heads = 2, .mlp_width = 128});
  LowPrecisionPass(precision).run(g);
  return g;
}

TEST(LowTexts, TheFirstBlockAndTheAttentionOfTheSecondAreBf16) {
  const Graph g = LowTexts(Of(CellType::kInt8));
  EXPECT_EQ(ProductsIn(g, "bf16"),
            (Scopes{"blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.0.attn.o",
                    "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.1.attn.q", "blocks.1.attn.k",
                    "blocks.1.attn.v", "blocks.1.attn.o"}));
  EXPECT_EQ(ProductsIn(g, "int8"),
            (Scopes{"blocks.1.mlp.fc1", "blocks.1.mlp.fc2", "blocks.2.attn.q", "blocks.2.attn.k",
                    "blocks.2.attn.v", "blocks.2.attn.o", "blocks.2.mlp.fc1", "blocks.2.mlp.fc2",
                    "pooler"}));
}

TEST(LowTexts, WhereTheCpuHasNoBf16TheyAreF32) {
  Precision precision = Of(CellType::kInt8);
  precision.bf16 = false;
  const Graph g = LowTexts(precision);
  EXPECT_THAT(ProductsIn(g, "bf16"), ::testing::IsEmpty());
  EXPECT_THAT(ProductsIn(g, "int8"), ::testing::SizeIs(9));
}

}  // namespace
}  // namespace graft::testing::low_texts_test
