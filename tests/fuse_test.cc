// Tests the proof of a merge: what it accepts, and that nothing wrong passes it.
#include "adapters/fuse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "adapters/fused_model.h"
#include "adapters/method_graph.h"
#include "runtime/rng.h"
#include "tests/test_util.h"

namespace graft::fuse_test {
namespace {

using ::testing::HasSubstr;

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 2,
                      .heads = 3,
                      .mlp_width = 20,
                      .classes = 3};
constexpr int64_t kImages = 5;

class FuseTest : public ::testing::Test {
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

// The merged weights as a fault would leave them: logits alone would not tell most of these.
TEST_F(FuseTest, AWrongWeightIsRefused) {
  const auto refuses = [&](const std::string& words, auto&& spoil) {
    int calls = 0;
    try {
      Fuse(kTiny, method_, params_, [&](const Graph& g, ParamStore& params) {
        if (calls++ == 1) spoil(params);
        return Logits(g, params);
      });
      ADD_FAILURE() << "passed: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::kProof);
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  };
  const std::string q = "blocks.1.attn.q.weight", fc1 = "blocks.1.mlp.fc1.weight";
  refuses(q + " holds", [&](ParamStore& params) { params.Mutable(q)[5] *= 1.001f; });
  refuses(q + " holds", [&](ParamStore& params) {
    float* w = params.Mutable(q);
    for (int i = 0; i < 12; ++i)
      for (int j = 0; j < i; ++j) std::swap(w[12 * i + j], w[12 * j + i]);
  });
  refuses(q + " holds", [&](ParamStore& params) {  // scale off
    float* w = params.Mutable(q);
    for (int i = 0; i < 144; ++i) w[i] += 0.001f * (w[i] - params_.data(q)[i]);
  });
  refuses(q + " holds", [&](ParamStore& params) {
    params.Mutable(q)[7] = std::numeric_limits<float>::quiet_NaN();
  });
  refuses(fc1 + " was changed", [&](ParamStore& params) { params.Mutable(fc1)[5] *= 1.000001f; });
}

// What is left of a branch that has hardly learnt is too small for the logits.
TEST_F(FuseTest, SmallDeltasAreProvedToo) {
  for (const std::string& name : params_.names())
    if (name.ends_with("lora_b"))
      for (float *p = params_.Mutable(name), *end = p + params_.shape(name).size(); p < end; ++p)
        *p *= 1e-6f;
  params_.Freeze();
  const FuseProof proof = Fuse(kTiny, method_, params_, Logits).proof;
  EXPECT_EQ(proof.merge.places, 4);  // q and v of two blocks
  EXPECT_EQ(proof.merge.weights, 4);
  EXPECT_GT(proof.merge.weight_error, 0);
  EXPECT_LE(proof.merge.weight_error, 1);
  EXPECT_EQ(proof.merged_error, proof.relative_error);
}

// A change that outweighs the base by far is a merge like any other, though rounding is carried
// further than kFuseTolerance.
TEST_F(FuseTest, LargeDeltasAreMerged) {
  int beyond = 0;
  for (const auto& [method, weights, branch, seeds] :
       {std::tuple("lora(r=8,targets=attn.*)", 1.f, 10.f, std::vector<uint64_t>{3, 4, 5}),
        std::tuple("lora(r=2,alpha=100,targets=attn.q|attn.v)", 1000.f, 1e-6f,
                   std::vector<uint64_t>{9, 10})}) {
    for (const uint64_t seed : seeds) {
      VitConfig config = kTiny;
      config.depth = 8;
      ParamStore params;
      InitVit(config, params, seed);
      const Graph g = MethodGraph(config, {}, ParseMethod(method), params);
      for (const std::string& name : params.names()) {
        float* p = params.Mutable(name);
        const auto size = static_cast<size_t>(params.shape(name).size());
        if (name.ends_with("lora_b"))
          FillNormal({p, size}, {MakeKey(seed, Purpose::kData, name)}, 0, branch);
        else if (params.shape(name).rank == 2)
          std::transform(p, p + size, p, [&](float x) { return weights * x; });
      }
      params.Freeze();
      const FuseProof proof = Fuse(config, ParseMethod(method), params, Logits).proof;
      EXPECT_EQ(proof.rounding_error > 0, proof.relative_error > kFuseTolerance);
      beyond += proof.relative_error > kFuseTolerance;
    }
  }
  EXPECT_GE(beyond, 2);
}

// Half types: the weights that are written are those that the proof speaks of.
TEST_F(FuseTest, RoundedWeightsAreCompared) {
  const std::vector<float> before = Logits(InferenceGraph(kTiny, method_, params_), params_);
  double last = 1;
  for (const FileDType type : {FileDType::kBF16, FileDType::kF16, FileDType::kF32}) {
    FusedWeights fused = Fuse(kTiny, method_, params_, Logits, {.weights = type});
    const std::vector<float> after = Logits(BuildVit(kTiny), fused.params);
    double most = 0;
    for (size_t i = 0; i < before.size(); ++i)
      most = std::max(most, std::abs(static_cast<double>(before[i]) - after[i]));
    EXPECT_EQ(fused.proof.max_abs_logit_difference, most);
    EXPECT_LE(fused.proof.merged_error, kFuseTolerance);
    EXPECT_LT(fused.proof.relative_error, last / 3);
    last = fused.proof.relative_error;
    for (const auto& [name, entry] : fused.params.entries()) {
      if (name.find("lora") != std::string::npos) continue;
      std::vector<float> rounded(entry.values().begin(), entry.values().end());
      RoundTo(type, rounded);
      EXPECT_TRUE(std::ranges::equal(rounded, entry.values())) << name;
    }
  }
  params_.Mutable("blocks.0.mlp.fc1.weight")[3] = 7e4f;
  params_.Freeze();
  EXPECT_THAT(
      MessageOf([&] { Fuse(kTiny, method_, params_, Logits, {.weights = FileDType::kF16}); }),
      HasSubstr("blocks.0.mlp.fc1.weight holds 70000, beyond the range of F16"));
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

// What is proved for Graft alone is told: transformers reads some models differently.
TEST(OtherInTransformers, PoolersAndOddMargins) {
  FusedModel fused;
  fused.model.layout = Layout::kHuggingFace;
  fused.model.params.Allocate("head.weight", {2, 12});
  const auto of_bert = [&](const char* pool) {
    fused.model.config = BertConfig{.pool = pool};
    return OtherInTransformers(fused);
  };
  EXPECT_THAT(of_bert("cls"), ::testing::ElementsAre(HasSubstr("this model pools by 'cls'")));
  EXPECT_THAT(of_bert("pooler"), ::testing::IsEmpty());
  const auto of_vit = [&](const char* preprocess) {
    fused.model.config = kTiny;
    fused.facts.preprocess = preprocess;
    return OtherInTransformers(fused);
  };
  EXPECT_THAT(of_vit("vtab,resize=256,crop=224"), ::testing::ElementsAre(HasSubstr("a pixel off")));
  EXPECT_THAT(of_vit("vtab,resize=256,crop=224,fit=both"), ::testing::IsEmpty());  // margins of 16
  EXPECT_THAT(of_vit("vtab,resize=255,crop=224,fit=both"),
              ::testing::ElementsAre(HasSubstr("a pixel off")));
  EXPECT_THAT(of_vit("vtab,resize=255,crop=224,center=floor"), ::testing::IsEmpty());
  fused.model.layout = Layout::kTimm;
  EXPECT_THAT(of_vit("vtab,resize=256,crop=224"), ::testing::IsEmpty());
}

}  // namespace
}  // namespace graft::fuse_test
