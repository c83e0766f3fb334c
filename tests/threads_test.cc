// The bits are the same at 1, 2, 3 and 8 threads: forward, gradients, steps, checkpoints.
#include "runtime/threads.h"

#include <gtest/gtest.h>

#include <cstring>

#include "runtime/rng.h"
#include "train/evaluator.h"

namespace graft::threads_test {
namespace {

// It is wide enough that every kernel cuts its work into several chunks.
const VitConfig kConfig{.image_size = 64,
                        .patch_size = 8,
                        .width = 96,
                        .depth = 2,
                        .heads = 3,
                        .mlp_width = 384,
                        .classes = 7};
constexpr int64_t kBatch = 19, kMicroBatch = 2;  // more micro-batches than threads
constexpr int kSteps = 3;

struct Bits {
  std::vector<float> logits, losses, weights;
  bool operator==(const Bits& o) const {
    auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(logits, o.logits) && same(losses, o.losses) && same(weights, o.weights);
  }
};

// One lane: the threads are inside the kernels. Several (0): each has micro-batches of its own.
Bits TrainSome(const char* method, int threads, int lanes = 0) {
  SetThreads(threads);
  ParamStore params;
  InitVit(kConfig, params, 1);
  const ModelBuild build{.loss = true, .label_smoothing = 0.1, .drop_path = 0.2, .seed = 9};
  const Graph g = MethodGraph(kConfig, build, ParseMethod(method), params, 9);
  TrainStep step(g, params, {.weight_decay = 0.05, .clip = 1}, kMicroBatch, TrainingPasses({}),
                 {0, lanes});
  const int64_t size = step.session().Input("image").shape.size() / kMicroBatch;
  std::vector<float> inputs(kBatch * size);
  FillNormal(inputs, {MakeKey(2, Purpose::kData, "images")}, 0, 1);
  Bits bits;
  for (int i = 0; i < kSteps; ++i) {
    const StepResult r = step.Run(kBatch, i, 1e-3, [&](int64_t first, int64_t count, int worker) {
      Session& session = step.session();
      std::copy_n(inputs.begin() + first * size, count * size,
                  session.Input("image", worker).f32());
      int32_t* labels = session.Input("labels", worker).i32();
      for (int64_t k = 0; k < count; ++k)
        labels[k] = static_cast<int32_t>((first + k) % kConfig.classes);
    });
    bits.losses.push_back(static_cast<float>(r.loss));
    bits.losses.push_back(static_cast<float>(r.gradient_norm));
  }
  for (const std::string& name : step.trainable_names()) {
    const auto values = params.values(name);
    bits.weights.insert(bits.weights.end(), values.begin(), values.end());
  }
  Graph inference = InferenceGraph(kConfig, ParseMethod(method), params, 9, false);
  InferencePasses({}).Run(inference);
  Session session(inference, params, {.capacity = {kBatch, 0}});
  std::copy(inputs.begin(), inputs.end(), session.Input("image").f32());
  session.Run({kBatch, 0});
  const Tensor logits = session.Output("logits");
  bits.logits.assign(logits.f32(), logits.f32() + logits.shape.size());
  return bits;
}

class SameBits : public ::testing::TestWithParam<const char*> {};

TEST_P(SameBits, AtAnyThreadCount) {
  for (int lanes : {0, 1}) {
    const Bits one = TrainSome(GetParam(), 1, lanes);
    EXPECT_LT(one.losses[2 * (kSteps - 1)], one.losses[0]) << "training goes somewhere";
    for (int threads : {2, 3, 8})
      EXPECT_EQ(TrainSome(GetParam(), threads, lanes), one) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, SameBits,
                         ::testing::Values("full", "lora(r=8,dropout=0.1)", "bitfit+ln"),
                         [](const auto& info) { return fmt::format("{}", info.index); });

}  // namespace
}  // namespace graft::threads_test
