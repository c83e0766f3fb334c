// What a user asks for in low precision, what is taken of it, and what a profile tells of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "ops/kernel_choice.h"
#include "ops/low_cells.h"
#include "ops/low_precision.h"
#include "ops/records.h"
#include "runtime/lifetimes.h"
#include "tests/low_testing.h"

namespace graft::testing::low_choices_test {
namespace {

using ::testing::HasSubstr;

// Numbers of two bytes count as such, frozen weights as their cells, and weights that train as the
// f32 numbers that are read.
TEST(LowChoices, CostsCountTheBytesOfEachType) {
  for (const bool trains : {false, true}) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
    const ValueId w = g.AddParam("w", {32, 64});
    g.SetTrainable(w, trains);
    LowMatmulAttrs attrs;
    attrs.product.tb = true;
    attrs.y16 = true;
    const ValueId x16 = g.Add1(kToBf16, {x});
    const ValueId y = g.Add1(kLowMatmul, {x16, w}, attrs);
    g.AddOutput("y", g.Add1(kToF32, {y}));
    const Counts counts{5, 0};
    const Cost cost = CostOf(g, g.node(g.value(y).producer), counts);
    EXPECT_EQ(cost.bytes, 2 * 5 * 64 + (trains ? 4 : 2) * 32 * 64 + 2 * 5 * 32) << trains;
    EXPECT_EQ(cost.flops, 2 * 5 * 64 * 32) << trains;
    EXPECT_EQ(CostOf(g, g.node(g.value(x16).producer), counts).bytes, 6 * 5 * 64);
  }
}

TEST(LowChoices, KernelsSayWhyTheyAreLow) {
  const LowStep step("full", Of(CellType::kBf16), 0, kWideVit);
  std::set<std::string> why;
  for (NodeId id : step.graph().TopoOrder())
    if (const Node& n = step.graph().node(id); n.op == &kLowMatmul || n.op == &kLowAttention)
      why.insert(WhyKernel(step.graph(), id, {3, 0}).why);
  EXPECT_THAT(why, ::testing::UnorderedElementsAre(HasSubstr("the gradient of a weight, both"),
                                                   HasSubstr("a weight that trains, both"),
                                                   HasSubstr("a product of attention")));
  for (const std::string& w : why)
    EXPECT_EQ(w.find("emulated") == w.npos, HasCells(CellType::kBf16)) << w;
}

TEST(LowChoices, WordsOfAUser) {
  const auto wrong = [](const std::string& dtype, const std::string& keep) -> std::string {
    try {
      ParsePrecision(dtype, keep);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(wrong("bf32", ""), HasSubstr("--dtype 'bf32'"));
  EXPECT_THAT(wrong("bf32", ""), HasSubstr("bf16"));
  EXPECT_THAT(wrong("bf16", "fc1||o"), HasSubstr("an empty word"));
  EXPECT_THAT(wrong("bf16", "fc1|"), HasSubstr("an empty word"));
  EXPECT_THAT(ParsePrecision("f32", "fc1|blocks.0.*").keep,
              ::testing::ElementsAre("fc1", "blocks.0.*"));
  for (const char* dtype : {"bf16", "int8"}) {
    const ChosenDtype chosen = ChooseDtype(dtype);
    const bool has = HasCells(dtype == std::string("bf16") ? CellType::kBf16 : CellType::kInt8);
    EXPECT_EQ(chosen.dtype, has ? dtype : "f32");
    EXPECT_EQ(chosen.why.empty(), has);
  }
  EXPECT_THAT(wrong("INT8", ""), HasSubstr("did you mean 'int8'"));
  // A CPU with VNNI and without bf16 takes int8, and says what is not bf16 beside it.
  EXPECT_EQ(ChooseDtype("int8", false, true).dtype, "int8");
  EXPECT_THAT(ChooseDtype("int8", false, true).why, HasSubstr("are f32"));
  EXPECT_EQ(ChooseDtype("int8", true, true).why, "");
  EXPECT_EQ(ChooseDtype("bf16", true, false).why, "");
  EXPECT_EQ(ChooseDtype("auto", false, true).dtype, "f32");
  EXPECT_EQ(ChooseDtype("f32").why, "");
  EXPECT_EQ(ChooseDtype("auto").dtype, HasCells(CellType::kBf16) ? "bf16" : "f32");
}

}  // namespace
}  // namespace graft::testing::low_choices_test
