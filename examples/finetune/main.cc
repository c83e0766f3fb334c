// Teaches a vision transformer three colours with LoRA, merges what it has learnt, and uses it.
// usage: finetune [MODEL [OUT]]     MODEL: a checkpoint, or init:ARCH for seeded random weights
#include <graft/graft.h>

#include <cstdio>

#include "colours.h"

int main(int argc, char** argv) try {
  using namespace graft;
  LoadedModel model = LoadModel(argc > 1 ? argv[1] : "init:vit_nano_patch8_32");
  AdaptClasses(model, {"red", "green", "blue"});  // a fresh head, unless it has theirs
  const Examples train(480, model.vit().image_size), test(96, model.vit().image_size);

  // The method rewrites the model's graph: its branches and the head train, the rest is frozen.
  const Method method = ParseMethod("lora(r=4)");
  const Graph graph = MethodGraph(model.config, {.loss = true}, method, model.params);
  TrainStep step(graph, model.params, {.weight_decay = 1e-4}, 8, TrainingPasses());
  for (int64_t i = 0; i < 60; ++i) {
    const StepResult result = step.Run(32, i, 5e-3, [&](int64_t first, int64_t n, int worker) {
      train.Copy(i * 32 + first, n, step.session().Input("image", worker).f32(),
                 step.session().Input("labels", worker).i32());
    });
    if (i % 10 == 9) std::printf("step %d: loss %.4f\n", static_cast<int>(i + 1), result.loss);
  }

  // Logits [n,3] of the test images, by any graph of the model.
  const auto logits = [&](const Graph& g, ParamStore& params) {
    Session session(g, params, {.capacity = {test.size()}});
    test.Copy(0, test.size(), session.Input("image").f32());
    session.Run({test.size()});
    const Tensor y = session.Output("logits");
    return std::vector<float>(y.f32(), y.f32() + y.shape.size());
  };
  const Graph adapted = InferenceGraph(model.config, method, model.params);
  std::printf("accuracy %.3f\n", test.Accuracy(logits(adapted, model.params)));

  // The branches go into the weights. Fuse throws unless the merged model gives the same logits.
  FusedWeights fused = Fuse(model.config, method, model.params, logits);
  std::printf("%zu nodes became %zu, logits differ by %.1e relative\n", fused.proof.nodes_before,
              fused.proof.nodes_after, fused.proof.relative_error);
  const std::vector<float> predicted = logits(BuildModel(model.config), fused.params);
  std::printf("accuracy %.3f merged; the first image is %s\n", test.Accuracy(predicted),
              model.labels[test.Top(predicted, 0)].c_str());
  SaveModel(model, fused.params, argc > 2 ? argv[2] : "fused.safetensors", ModelFacts(model));
} catch (const graft::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
