// How large micro-batches are chosen, on which the order of sums depends.
#include "train/capacity.h"

#include <gtest/gtest.h>

#include <random>

#include "adapters/method_graph.h"
#include "peft/method.h"

namespace graft {
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

std::vector<int64_t> SequencesOf(const std::vector<Counts>& parts) {
  std::vector<int64_t> sequences;
  for (const Counts& part : parts) sequences.push_back(part.sequences);
  return sequences;
}

TEST(CutBatch, TwoThreadsGetTheSame) {
  using Sizes = std::vector<int64_t>;
  const auto images = [](int64_t n, int64_t most) {
    return SequencesOf(CutBatch(n, {most, 0}, {}));
  };
  EXPECT_EQ(images(6, 2), (Sizes{2, 2, 1, 1}));
  EXPECT_EQ(images(8, 2), (Sizes{2, 2, 2, 2}));
  EXPECT_EQ(images(2, 2), Sizes{2});
  EXPECT_EQ(images(0, 2), Sizes{});
  EXPECT_EQ(images(3, 1), (Sizes{1, 1, 1})) << "no fourth";
}

// Whatever the lengths: in order, within the capacity, no more parts than one beyond the fewest.
TEST(CutBatch, TextsStayWithinTheCapacity) {
  const Counts most{8, 400};
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 draw(seed);
    std::vector<int64_t> lengths(draw() % 70);
    const uint32_t longest = 1 + draw() % 400;
    for (int64_t& length : lengths) length = 1 + draw() % longest;
    const auto length = [&](int64_t i) { return lengths[static_cast<size_t>(i)]; };
    const std::vector<Counts> parts = CutBatch(std::ssize(lengths), most, length);
    int64_t first = 0;
    for (const Counts& part : parts) {
      int64_t tokens = 0;
      for (int64_t i = 0; i < part.sequences; ++i) tokens += length(first + i);
      first += part.sequences;
      EXPECT_EQ(part.tokens, tokens);
      EXPECT_TRUE(0 < part.sequences && part.sequences <= most.sequences) << part.sequences;
      EXPECT_LE(part.tokens, most.tokens);
    }
    EXPECT_EQ(first, std::ssize(lengths));
  }
  // 32 texts of 128 tokens, three to a part, are twelve parts and not eleven.
  EXPECT_EQ(SequencesOf(CutBatch(32, most, [](int64_t) { return 128; })),
            (std::vector<int64_t>{3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2}));
  // Eight short texts to a part leave no choice.
  EXPECT_EQ(SequencesOf(CutBatch(32, most, [](int64_t i) { return 1 + i; })),
            (std::vector<int64_t>{8, 8, 8, 8}));
}

}  // namespace
}  // namespace graft
