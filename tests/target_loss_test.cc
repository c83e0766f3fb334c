// Losses of numbers and of several labels at once, and their gradients by a training step, against
// torch.nn.MSELoss and BCEWithLogitsLoss (tests/fixtures/make_target_metrics.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "autograd/train_step.h"
#include "models/model.h"
#include "ops/ops.h"
#include "tests/test_util.h"

namespace graft::target_loss_test {
namespace {

using nlohmann::json;

// Logits z as x W' of the identity x: z [r,k] is W [k,r].
Graph LossGraph(int64_t rows, int64_t columns, const std::string& task) {
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Sequences(), rows}});
  const ValueId logits = Linear(g, x, g.AddParam("w", {columns, rows}, true), {});
  g.SetOutput("logits", logits);
  g.SetOutput("losses", TaskLosses(g, logits, task, 0));
  return g;
}

// A step of SGD with rate 1 takes the gradient away.
TEST(TargetLoss, LossAndGradientAreThoseOfTorch) {
  std::ifstream file(kFixtures + "target_losses.json");
  const json cases = json::parse(file);
  ASSERT_EQ(cases.size(), 6u);
  for (const json& c : cases)
    for (const bool whole : {true, false}) {
      const int64_t rows = c["rows"], columns = c["columns"];
      SCOPED_TRACE(fmt::format("{} {}, whole batch {}", c["name"].get<std::string>(),
                               c["task"].get<std::string>(), whole));
      const auto logits = c["logits"].get<std::vector<float>>(),
                 targets = c["targets"].get<std::vector<float>>();
      ParamStore params;
      float* w = params.Allocate("w", {columns, rows});
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < columns; ++k) w[k * rows + r] = logits[r * columns + k];
      TrainStep step(LossGraph(rows, columns, c["task"]), params,
                     {.kind = OptimizerKind::kSgd, .momentum = 0}, whole ? rows : 1);
      const auto fill = [&](int64_t first, int64_t count, int worker) {
        float* x = step.session().Input("x", worker).f32();
        for (int64_t r = 0; r < count; ++r)
          for (int64_t i = 0; i < rows; ++i) *x++ = i == first + r;
        std::copy_n(&targets[first * columns], count * columns,
                    step.session().Input("targets", worker).f32());
      };
      const StepResult result = step.Run(rows, 0, 1, fill);
      EXPECT_NEAR(result.loss, c["loss"].get<double>(), 1e-6);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < columns; ++k)
          EXPECT_NEAR(logits[r * columns + k] - params.values("w")[k * rows + r],
                      c["gradient"][r * columns + k].get<double>(), 2e-6)
              << r << ", " << k;
    }
}

// What a task does not read is no input, whatever the model.
TEST(TargetLoss, ModelsReadWhatTheirTaskWants) {
  for (const char* name : {"vit_tiny_patch16_224", "bert_tiny"})
    for (const std::string& task : TaskNames()) {
      ModelConfig config = ModelByName(name);
      Classes(config) = 3, TaskOf(config) = task;
      const Graph g = BuildModel(config, {.loss = true});
      EXPECT_EQ(g.FindLeaf("labels").valid(), task == kClassify) << name << task;
      EXPECT_EQ(g.FindLeaf("targets").valid(), task != kClassify) << name << task;
      EXPECT_EQ(ArchitectureName(config), name) << task;  // of which the task is no part
    }
}

}  // namespace
}  // namespace graft::target_loss_test
