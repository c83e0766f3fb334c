// Uses real weights and images, which are found through GRAFT_DATA (default: ../shared beside the
// repository).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "runtime/io/atomic_file.h"
#include "train/evaluator.h"

namespace graft::golden_test {
namespace {

std::string DataRoot() {
  const char* root = std::getenv("GRAFT_DATA");
  return root ? root : GRAFT_SOURCE_DIR "/../shared";
}

class Golden : public ::testing::Test {
 protected:
  void SetUp() override {
    weights_ = DataRoot() + "/weights/";
    if (!std::ifstream(weights_ + "deit_tiny_patch16_224.safetensors")) {
      std::puts("NOT AVAILABLE: DeiT-Ti weights (GRAFT_DATA)");
      GTEST_SKIP() << "no " << weights_;
    }
    model_ = LoadModel(weights_ + "deit_tiny_patch16_224.safetensors", "", 0);
  }
  std::vector<float> Logits(const std::vector<float>& image) {
    Graph g = BuildVit(model_.vit());
    InferencePasses({}).Run(g);
    Session session(g, model_.params, {.capacity = {1, 0}});
    std::copy(image.begin(), image.end(), session.Input("image").f32());
    session.Run({1, 0});
    const float* out = session.Output("logits").f32();
    return {out, out + model_.vit().classes};
  }
  std::string weights_;
  LoadedModel model_;
};

TEST_F(Golden, RecognisesDeiTTiny) {
  EXPECT_EQ(model_.architecture(), "vit_tiny_patch16_224");
  EXPECT_EQ(model_.ledger.matched.size(), 152u);
  EXPECT_TRUE(model_.ledger.missing.empty() && model_.ledger.unexpected.empty());
}

// Logits of two synthetic inputs, computed in float64 elsewhere.
TEST_F(Golden, LogitsWithinTenToTheMinusFour) {
  constexpr size_t kSize = 3 * 224 * 224;
  std::vector<float> wave(kSize), lcg(kSize);
  for (size_t i = 0; i < kSize; ++i) {
    wave[i] = static_cast<float>(std::sin(0.01 * static_cast<double>(i)));
    lcg[i] = static_cast<float>(static_cast<double>((i * 7919) % 1000) / 500 - 1);
  }
  for (const auto& [file, input] :
       {std::pair("golden_sin_logits.f32", wave), std::pair("golden_lcg_logits.f32", lcg)}) {
    const std::string bytes = ReadFile(weights_ + file, 1 << 20);
    std::vector<float> expected(bytes.size() / 4);
    std::memcpy(expected.data(), bytes.data(), bytes.size());
    const std::vector<float> logits = Logits(input);
    ASSERT_EQ(logits.size(), expected.size());
    double error = 0, scale = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      error = std::max(error, static_cast<double>(std::fabs(logits[i] - expected[i])));
      scale = std::max(scale, static_cast<double>(std::fabs(expected[i])));
    }
    EXPECT_LT(error / scale, 1e-4) << file;
    EXPECT_GT(scale, 1);
  }
}

// After decoding, resizing, cropping, normalising and the forward pass, the top five classes are
// the expected ones in order, and so are their logits.
TEST_F(Golden, TwentyImagesGiveTheExpectedTopFive) {
  std::ifstream table(weights_ + "imagenet_samples/expected_top5.tsv");
  std::string line;
  std::getline(table, line);  // header
  int images = 0;
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string file, true_class, pairs;
    std::getline(fields, file, '\t'), std::getline(fields, true_class, '\t'),
        std::getline(fields, pairs, '\t');
    const Image image = ReadImage(weights_ + "imagenet_samples/" + file);
    std::vector<float> logits =
        Logits(Apply(image, ChoosePreprocess("", model_, InputKind::kImages).value));
    std::istringstream expected(pairs);
    std::string pair;
    while (expected >> pair) {
      const int label = std::stoi(pair);
      const double logit = std::stod(pair.substr(pair.find(':') + 1));
      const auto top = std::max_element(logits.begin(), logits.end());
      EXPECT_EQ(top - logits.begin(), label) << file;
      EXPECT_NEAR(*top, logit, 2e-3) << file;
      *top = -1e30f;
    }
    ++images;
  }
  EXPECT_EQ(images, 20);
}

}  // namespace
}  // namespace graft::golden_test
