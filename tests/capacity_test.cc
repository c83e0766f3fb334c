// How large micro-batches are chosen, on which the order of sums depends.
#include "train/capacity.h"

#include <gtest/gtest.h>

#include "adapters/method_graph.h"
#include "peft/method.h"

namespace graft::capacity_test {
namespace {

Counts Chosen(const std::string& model, const std::string& method, CellType cell, int64_t batch) {
  const ModelConfig config = ModelByName(model);
  ParamStore params;
  const Graph graph = MethodGraph(config, {.loss = true}, ParseMethod(method), params);
  const int64_t longest = std::holds_alternative<VitConfig>(config) ? 0 : 128;
  return ChooseTrainingCapacity(config, graph, PassOptions({}, Precision{cell}), longest, batch);
}

TEST(Capacity, WhatRoundsItsWeightsHasLargerMicroBatches) {
  const std::string deit = "deit_tiny_patch16_224", text = "minilm_l6";  // 197 rows; 128 tokens
  for (const CellType cell : {CellType::kF32, CellType::kBf16, CellType::kInt8}) {
    const bool low = cell != CellType::kF32;
    EXPECT_EQ(Chosen(deit, "lora(r=8)", cell, 64).sequences, 2);
    EXPECT_EQ(Chosen(deit, "full", cell, 64).sequences, low ? 8 : 2);
    // A small batch is cut into four at least.
    EXPECT_EQ(Chosen(deit, "full", cell, 16).sequences, low ? 4 : 2);
    EXPECT_EQ(Chosen(deit, "full", cell, 1).sequences, 1);
    EXPECT_EQ(Chosen(deit, "last(k=2)", cell, 64).sequences, 2) << "most is frozen";
    EXPECT_EQ(Chosen(text, "lora(r=8)", cell, 32).tokens, 400);
    EXPECT_EQ(Chosen(text, "full", cell, 32).tokens, low ? 1600 : 400);
    EXPECT_EQ(Chosen(text, "full", cell, 32).sequences, 8);
  }
}

TEST(Capacity, WhatTheUserWantsIsTaken) {
  const ModelConfig config = ModelByName("deit_tiny_patch16_224");
  ParamStore params;
  const Graph graph = MethodGraph(config, {.loss = true}, ParseMethod("full"), params);
  const PassOptions bf16({}, Precision{CellType::kBf16});
  EXPECT_EQ(ChooseTrainingCapacity(config, graph, bf16, 0, 64, 3).sequences, 3);
}

}  // namespace
}  // namespace graft::capacity_test
