// The proof of a merge: what it accepts, and that nothing wrong passes it.
#include "adapters/fuse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "adapters/method_graph.h"
#include "runtime/rng.h"
#include "tests/test_util.h"

namespace graft {
namespace {

using testing::HasSubstr;

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 2,
                      .heads = 3,
                      .mlp_width = 20,
                      .classes = 3};
constexpr int64_t kImages = 5;

class FuseTest : public testing::Test {
 protected:
  // A LoRA whose second factor is not zero any more.
  FuseTest() {
    InitVit(kTiny, params_, 1);
    const Graph g = MethodGraph(kTiny, {}, method_, params_);
    for (ValueId v : g.Trainable()) {
      const std::string& name = g.value(v).name;
      const size_t size = static_cast<size_t>(params_.shape(name).size());
      FillNormal({params_.Mutable(name), size}, {MakeKey(2, Purpose::kData, name)}, 0, 0.5);
    }
    params_.Freeze();
  }

  static std::vector<float> Logits(const Graph& g, ParamStore& params) {
    Session session(g, params, {.capacity = {kImages}});
    const Tensor image = session.Input("image");
    FillNormal({image.f32(), static_cast<size_t>(image.shape.size())},
               {MakeKey(3, Purpose::kData, "images")}, 0, 1);
    session.Run({kImages});
    const Tensor y = session.Output("logits");
    return {y.f32(), y.f32() + y.shape.size()};
  }

  // What Fuse throws if the second logits are `after` and the first zero and one in turn.
  ErrorKind KindFor(const std::vector<float>& after, std::string* message) {
    std::vector<float> before(6);
    for (size_t i = 0; i < before.size(); ++i) before[i] = static_cast<float>(i % 2);
    int calls = 0;
    try {
      Fuse(kTiny, method_, params_,
           [&](const Graph&, ParamStore&) { return calls++ == 0 ? before : after; });
    } catch (const Error& error) {
      *message = error.what();
      return error.kind;
    }
    ADD_FAILURE() << "no error";
    return ErrorKind::kUser;
  }

  const Method method_ = ParseMethod("lora(r=2)");
  ParamStore params_;
};

TEST_F(FuseTest, WeightsOfThePlainModelGiveTheSameLogits) {
  const std::vector<std::string> names = params_.names();
  const float q = params_.values("blocks.0.attn.q.weight")[0];
  FusedWeights fused = Fuse(kTiny, method_, params_, Logits);
  EXPECT_EQ(fused.proof.n, kImages);
  EXPECT_EQ(fused.proof.top1_agreement, 1);
  EXPECT_GT(fused.proof.nodes_before, fused.proof.nodes_after);
  EXPECT_NE(fused.params.values("blocks.0.attn.q.weight")[0], q);

  const std::vector<float> plain = Logits(BuildVit(kTiny), fused.params),
                           branch = Logits(InferenceGraph(kTiny, method_, params_), params_);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(plain[i], branch[i], 1e-5);
  // What went in is as it was.
  EXPECT_EQ(params_.names(), names);
  EXPECT_EQ(params_.values("blocks.0.attn.q.weight")[0], q);
}

TEST_F(FuseTest, NothingWrongPasses) {
  std::string message;
  EXPECT_EQ(KindFor({0, 1, 0, 1.0001f, 0, 1}, &message), ErrorKind::kProof);
  EXPECT_THAT(message, HasSubstr("differ by 0.0001 relative (bound 1e-05) on 2 inputs"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (size_t i = 0; i < 6; ++i) {
    std::vector<float> after{0, 1, 0, 1, 0, 1};
    after[i] = nan;
    EXPECT_EQ(KindFor(after, &message), ErrorKind::kProof) << "NaN at " << i;
  }
  for (const std::vector<float>& after : {std::vector<float>{0, 1, 0}, std::vector<float>{}}) {
    EXPECT_EQ(KindFor(after, &message), ErrorKind::kUser);
    EXPECT_THAT(message, HasSubstr("expected logits [n,3] twice"));
  }
}

}  // namespace
}  // namespace graft
