// Tests what a compiled training step promises about memory, on real ViT graphs.
#include <gtest/gtest.h>
#include <malloc.h>

#include <nlohmann/json.hpp>
#include <set>

#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tests/test_util.h"
#include "train/budget.h"
#include "train/evaluator.h"
#include "train/run_config.h"

namespace graft::train_plan_test {
namespace {

struct Case {
  const char *model, *method;
  int64_t micro;
  int lanes = 0;  // 0: as many as a run has, which takes seconds
};

class TrainPlan : public ::testing::TestWithParam<Case> {
 protected:
  TrainPlan() : config_(VitByName(GetParam().model)) {
    config_.classes = 10;
    InitVit(config_, params_, 1);
    graph_ = MethodGraph(config_, {.loss = true}, ParseMethod(GetParam().method), params_, 1);
  }
  VitConfig config_;
  ParamStore params_;
  Graph graph_;
};

// What earlier tests have freed, but malloc kept, must not serve this one.
size_t ResidentAfterTrim() {
  malloc_trim(0);
  return ResidentBytes();
}

void FillImages(Session& session) {
  for (int worker = 0; worker < session.options().workers; ++worker) {
    const Tensor image = session.Input("image", worker);
    std::fill_n(image.f32(), image.shape.size(), 0.5f);
  }
}

// Arena within 1.10 of the largest sum of values that are alive at one time; and what is planned is
// what the process then uses, within 5 % and a constant for threads and library code; a larger
// batch needs no more.
TEST_P(TrainPlan, ArenaIsTightAndPlannedBytesAreUsedBytesForAnyBatch) {
  const size_t before = ResidentAfterTrim(), owned_before = params_.bytes().owned;
  const auto [model, method, micro, lanes] = GetParam();
  TrainStep step(graph_, params_, {.weight_decay = 0.01}, micro, TrainingPasses({}), {0, lanes});
  const Session& session = step.session();
  EXPECT_LE(static_cast<double>(session.memory().bytes),
            1.10 * static_cast<double>(session.memory().lower_bound));
  FillImages(step.session());
  // One for each lane; sanitizers take minutes for what takes a second.
  const int64_t few_parts = kMeasureMemory ? session.options().lanes : 2;
  step.Run(few_parts * micro, 0, 1e-4, [](int64_t, int64_t, int) {});
  const size_t few = ResidentBytes();
  step.Run((few_parts + 1) * micro, 1, 1e-4, [](int64_t, int64_t, int) {});
  if (!kMeasureMemory) return;
  const size_t optimizer = params_.bytes().owned - owned_before;
  const double planned = static_cast<double>(session.planned_bytes() + optimizer);
  constexpr double kConstant = 12 << 20;
  EXPECT_NEAR(static_cast<double>(few - before), planned, 0.05 * planned + kConstant);
  EXPECT_LT(ResidentBytes(), few + (size_t{4} << 20));
}

INSTANTIATE_TEST_SUITE_P(Models, TrainPlan,
                         ::testing::Values(Case{"deit_tiny_patch16_224", "lora(r=8)", 3, 4},
                                           Case{"deit_tiny_patch16_224", "full", 2},
                                           Case{"vit_small_patch16_224", "lora(r=8)+bitfit", 1, 4}),
                         [](const auto& info) { return fmt::format("{}", info.index); });

// --- budgets ---------------------------------------------------------------------------------

const ModelConfig kVit = VitConfig{.image_size = 32,
                                   .patch_size = 4,
                                   .width = 48,
                                   .depth = 4,
                                   .heads = 3,
                                   .mlp_width = 192,
                                   .classes = 5};
const ModelConfig kBert =
    BertConfig{.vocab = 99, .positions = 64, .width = 48, .depth = 4, .heads = 3, .mlp_width = 192};

struct BudgetCase {
  const ModelConfig& model;
  const char* method;
  Counts wanted;
  int64_t longest;
};

class TrainBudget : public ::testing::TestWithParam<BudgetCase> {
 protected:
  TrainBudget() {
    SetThreads(2);  // for as many workers, which the first savings take away
    InitModel(GetParam().model, params_, 1);
    graph_ =
        MethodGraph(GetParam().model, {.loss = true}, ParseMethod(GetParam().method), params_, 1);
  }
  BudgetRequest Request(const std::string& budget) const {
    return {.wanted = GetParam().wanted, .longest = GetParam().longest, .budget = budget};
  }
  CompiledStep Compile(const BudgetRequest& request) {
    return CompileWithinBudget(graph_, params_, {}, request);
  }
  // In bytes, as the message says it.
  size_t Smallest(BudgetRequest request) {
    request.budget = "1KiB";
    const std::string message = MessageOf([&] { Compile(request); });
    const size_t at = message.find("smallest possible is "), end = message.find(" (");
    if (at == std::string::npos) throw Error(message);
    return ParseBytes(message.substr(at + 21, end - at - 21));
  }
  // With weights and the optimizer's state, which compiling makes.
  size_t Used(const CompiledStep& c) const {
    return c.step.session().planned_bytes() + params_.bytes().owned;
  }

  ParamStore params_;
  Graph graph_;
};

std::string InBytes(size_t bytes) { return fmt::format("{}B", bytes); }

TEST_P(TrainBudget, PlansFallWithTheBudgetDownToTheSmallest) {
  size_t before = Used(Compile(Request("")));
  const size_t whole = before, smallest = Smallest(Request(""));
  ASSERT_LT(smallest, whole / 2);
  int recomputing = 0;
  for (size_t k = 8; k-- > 0;) {
    const size_t budget = smallest + (whole - smallest) * k / 8;
    const CompiledStep compiled = Compile(Request(InBytes(budget)));
    EXPECT_EQ(compiled.needed_bytes, Used(compiled));
    EXPECT_LE(compiled.needed_bytes, budget);
    EXPECT_LE(compiled.needed_bytes, before);
    EXPECT_GE(compiled.step.session().options().capacity.tokens, GetParam().longest);
    before = compiled.needed_bytes;
    recomputing += compiled.recompute.nodes > 0;
    EXPECT_EQ(compiled.saved_bytes > 0, compiled.recompute.nodes > 0);
    EXPECT_EQ(compiled.additional_work > 0, compiled.recompute.nodes > 0);
    if (compiled.recompute.nodes) {
      EXPECT_EQ(compiled.step.session().memory().bytes, compiled.recompute.arena_bytes);
    }
  }
  EXPECT_GT(recomputing, 0);
  // The message rounds up to a tenth of a MiB.
  EXPECT_NE(MessageOf([&] { Compile(Request(InBytes(smallest - 104858))); }), "no error");
}

TEST_P(TrainBudget, RecomputingReachesLessThanMicroBatchesAlone) {
  BudgetRequest without = Request("");
  without.passes = {"recompute"};
  const size_t smallest = Smallest(without);
  EXPECT_LT(Smallest(Request("")), smallest);
  without.budget = InBytes(smallest);
  const CompiledStep compiled = Compile(without);
  EXPECT_EQ(compiled.recompute.nodes, 0);
  const Counts last = compiled.step.session().options().capacity;
  EXPECT_EQ(last.tokens, GetParam().longest);
  EXPECT_LE(last.sequences,
            GetParam().longest ? 2 : 1);  // two short texts cost what a long one does
}

// What runs between the steps is a part of what a run needs.
TEST_P(TrainBudget, ValidationCounts) {
  const Graph inference =
      InferenceGraph(GetParam().model, ParseMethod(GetParam().method), params_, 1, true);
  BudgetRequest request = Request("");
  const size_t alone = Smallest(request);
  request.between = &inference;
  request.longest_between = 2 * GetParam().longest;
  const size_t smallest = Smallest(request);
  EXPECT_GT(smallest, alone);
  request.budget = InBytes(smallest);
  const CompiledStep compiled = Compile(request);
  const Session between(inference, params_, compiled.between);
  EXPECT_EQ(compiled.between.capacity.tokens, 2 * GetParam().longest);
  EXPECT_EQ(compiled.needed_bytes, Used(compiled) + between.planned_bytes());
  EXPECT_LE(compiled.needed_bytes, smallest);
}

// Threads get what memory is left: at any number of them the plan is the same, and within the
// budget.
TEST_P(TrainBudget, PlansDoNotFollowTheThreads) {
  const Graph inference =
      InferenceGraph(GetParam().model, ParseMethod(GetParam().method), params_, 1, true);
  BudgetRequest request = Request("");
  request.between = &inference, request.longest_between = GetParam().longest;
  SetThreads(8);
  const size_t whole = Compile(request).needed_bytes, smallest = Smallest(request);
  std::set<int> workers, threads;
  for (size_t k = 0; k <= 8; ++k) {
    const size_t budget = smallest + (whole - smallest) * k / 8;
    request.budget = InBytes(budget);
    std::string plan;
    for (const int t : {1, 2, 3, 8, 32}) {
      SetThreads(t);
      const CompiledStep compiled = Compile(request);
      const std::string text = PlanJson(compiled, "", false).dump();
      if (t == 1) plan = text;
      EXPECT_EQ(text, plan) << t << " threads, " << budget << " bytes";
      EXPECT_LE(compiled.needed_bytes, budget) << t << " threads";
      const Session between(inference, params_, compiled.between);
      EXPECT_EQ(compiled.needed_bytes, Used(compiled) + between.planned_bytes());
      const SessionOptions& options = compiled.step.session().options();
      if (t == 8) workers.insert(options.workers);
      if (t == 32) threads.insert(options.threads);
    }
  }
  SetThreads(2);
  EXPECT_EQ(workers, (std::set<int>{1, 8}));
  EXPECT_GT(threads.size(), 1u);
}

// The same holds for a graph that trains nothing, whose results may depend on how many examples it
// takes.
TEST_P(TrainBudget, InferenceDoesNotFollowTheThreads) {
  const Graph g =
      InferenceGraph(GetParam().model, ParseMethod(GetParam().method), params_, 1, true);
  const auto options = [&](size_t budget) {
    return OptionsWithinBudget(g, params_, GetParam().wanted, GetParam().longest, InBytes(budget))
        .options;
  };
  SetThreads(2);
  const size_t whole =
      params_.bytes().owned +
      Session(g, params_, {.capacity = GetParam().wanted, .workers = 2}).planned_bytes();
  const size_t smallest =
      FitsBudget(g, params_, GetParam().wanted, GetParam().longest, "1KiB", 0).smallest;
  for (size_t k = 0; k <= 8; ++k) {
    const size_t budget = smallest + (whole - smallest) * k / 8;
    SetThreads(1);
    const Counts capacity = options(budget).capacity;
    for (const int t : {1, 2, 3, 8, 32}) {
      SetThreads(t);
      const SessionOptions chosen = options(budget);
      EXPECT_EQ(chosen.capacity, capacity) << t << " threads, " << budget << " bytes";
      EXPECT_LE(params_.bytes().owned + Session(g, params_, chosen).planned_bytes(), budget);
    }
  }
  SetThreads(2);
}

// A run that goes on keeps its order of sums, whatever a plan of today would be.
TEST_P(TrainBudget, AnEarlierPlansOrderOfSumsIsKept) {
  const int threads_before = Threads();
  SetThreads(2);
  const size_t whole = Used(Compile(Request(""))), smallest = Smallest(Request(""));
  const CompiledStep before = Compile(Request(InBytes(smallest + (whole - smallest) / 8)));
  const SessionOptions& options = before.step.session().options();
  const TempDir dir;
  dir.Write("plan.json", PlanJson(before, "g", true).dump());
  const SumOrder order = ReadSumOrder(dir / "plan.json", "g", 64, GetParam().longest);
  EXPECT_EQ(order.capacity, options.capacity);
  EXPECT_EQ(order.lanes, options.lanes);
  EXPECT_TRUE(order.features);
  dir.Write("other.json", PlanJson(before, "g", false).dump());
  EXPECT_FALSE(ReadSumOrder(dir / "other.json", "g", 64, GetParam().longest).features);
  const SessionOptions free = Compile(Request("")).step.session().options();
  EXPECT_FALSE(order.capacity == free.capacity && order.lanes == free.lanes);
  for (const auto& [graph, batch] : {std::pair<const char*, int64_t>{"g", 0}, {"h", 64}})
    EXPECT_NE(MessageOf([&] { ReadSumOrder(dir / "plan.json", graph, batch, GetParam().longest); }),
              "no error");
  const SumOrder other{{3, 3 * GetParam().longest}, 3};
  for (const SumOrder& keep : {order, other}) {
    SetThreads(1);
    BudgetRequest request = Request(InBytes(whole));
    request.keep = keep;
    const CompiledStep after = Compile(request);
    EXPECT_EQ(after.step.session().options().capacity, keep.capacity);
    EXPECT_EQ(after.step.session().options().lanes, keep.lanes);
    // Fewer lanes would need less, but sum in another order: values are computed again instead.
    request.budget = InBytes(after.plan_bytes - 1);
    const CompiledStep tight = Compile(request);
    EXPECT_EQ(tight.step.session().options().lanes, keep.lanes);
    EXPECT_GT(tight.recompute.nodes, 0);
  }
  SetThreads(threads_before);
}

INSTANTIATE_TEST_SUITE_P(Models, TrainBudget,
                         ::testing::Values(BudgetCase{kVit, "lora(r=4,dropout=0.1)", {8, 0}, 0},
                                           BudgetCase{kVit, "full", {8, 0}, 0},
                                           BudgetCase{kBert, "lora(r=4)", {16, 256}, 40},
                                           BudgetCase{kBert, "full", {16, 256}, 40}),
                         [](const auto& info) { return fmt::format("{}", info.index); });

// What is planned is what the process uses, also when much is computed twice.
TEST(TrainBudgetMemory, PlannedBytesAreUsedBytes) {
  ParamStore params;
  VitConfig config = VitByName("deit_tiny_patch16_224");
  InitVit(config, params, 1);
  const Graph g = MethodGraph(config, {.loss = true}, ParseMethod("lora(r=8)"), params, 1);
  constexpr int64_t kMicro = 8;
  BudgetRequest request{.wanted = {kMicro, 0}, .keep = {{kMicro, 0}, 1}};
  const size_t whole = CompileWithinBudget(g, params, {}, request).needed_bytes;
  request.budget = InBytes(whole / 20 * 11);
  [[maybe_unused]] const size_t before = ResidentAfterTrim();
  CompiledStep compiled = CompileWithinBudget(g, params, {}, request);
  EXPECT_GT(compiled.recompute.nodes, 20);
  FillImages(compiled.step.session());
  const size_t store_before = params.bytes().owned;
  for (int i = 0; i < 2; ++i) compiled.step.Run(kMicro, i, 1e-4, [](int64_t, int64_t, int) {});
  EXPECT_EQ(params.bytes().owned, store_before);
#ifndef __SANITIZE_ADDRESS__
  const double planned = static_cast<double>(compiled.step.session().planned_bytes());
  EXPECT_NEAR(static_cast<double>(ResidentBytes() - before), planned, 0.05 * planned + (8 << 20));
#endif
}

}  // namespace
}  // namespace graft::train_plan_test
