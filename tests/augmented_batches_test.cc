// Batches of augmented images: what an image becomes is its own, whatever the batch; mixing takes
// the image in the opposite place and its label.
#include <gtest/gtest.h>

#include "models/model.h"
#include "tests/image_test_util.h"
#include "tests/test_util.h"
#include "train/batches.h"

namespace graft::augmented_batches_test {
namespace {

constexpr int kSize = 16, kPixels = 3 * kSize * kSize;
const VitConfig kVit{.image_size = kSize,
                     .patch_size = 8,
                     .width = 8,
                     .depth = 1,
                     .heads = 2,
                     .mlp_width = 16,
                     .classes = 6};

class AugmentedBatches : public ::testing::Test {
 protected:
  AugmentedBatches() {
    InitModel(kVit, params_, 1);
    for (int i = 0; i < 6; ++i) {
      const std::string path = dir_ / fmt::format("{}.png", i);
      WritePng(path, NoiseImage(static_cast<uint32_t>(i + 1), kSize, kSize));
      examples_.push_back({path, i});
    }
  }
  struct Batch {
    std::vector<float> images, share;
    std::vector<int32_t> labels, others;
    std::vector<float> image(size_t i) const {
      return {images.begin() + static_cast<ptrdiff_t>(i * kPixels),
              images.begin() + static_cast<ptrdiff_t>((i + 1) * kPixels)};
    }
  };
  // Fills the first batch of this order in parts of this size.
  Batch Fill(const std::string& augment, const std::vector<size_t>& order, int64_t part,
             int64_t epoch = 2) {
    const auto data = MakeImageData(
        examples_,
        ParsePreprocess(fmt::format("resize={},filter=bicubic,mean=0.5,std=0.25", kSize)), kVit);
    data->SetAugment(ParseAugment(augment), 7);
    data->SetEpoch(epoch);
    data->Start(order);
    data->Take(order.size());
    Session session(BuildModel(kVit, {.loss = true, .mixed = true}), params_,
                    {.capacity = {part, 0}});
    Batch b;
    for (int64_t first = 0; first < std::ssize(order); first += part) {
      const int64_t count = std::min<int64_t>(part, std::ssize(order) - first);
      data->Fill(session, first, count, 0);
      const auto append = [&](auto* to, const auto* from, int64_t n) {
        to->insert(to->end(), from, from + n);
      };
      append(&b.images, session.Input("image").f32(), count * kPixels);
      append(&b.share, session.Input("share").f32(), count);
      append(&b.labels, session.Input("labels").i32(), count);
      append(&b.others, session.Input("labels_other").i32(), count);
    }
    return b;
  }
  TempDir dir_;
  ParamStore params_;
  std::vector<Example> examples_;
};

TEST_F(AugmentedBatches, AnImageIsTheSameInEveryBatch) {
  const char* augment = "flip,crop=0.5,randaugment=2x9,erase=0.5";
  const Batch a = Fill(augment, {0, 1, 2, 3, 4, 5}, 6), b = Fill(augment, {4, 2, 0}, 2);
  EXPECT_EQ(b.image(0), a.image(4));
  EXPECT_EQ(b.image(1), a.image(2));
  EXPECT_EQ(b.image(2), a.image(0));
  const Batch later = Fill(augment, {0, 1, 2, 3, 4, 5}, 6, 3), plain = Fill("none", {0, 1, 2}, 3);
  EXPECT_NE(later.images, a.images);
  EXPECT_NE(plain.image(0), a.image(0));
}

TEST_F(AugmentedBatches, MixupTakesTheOppositeImageAndItsLabel) {
  const std::vector<size_t> order{3, 0, 5, 1, 2};
  const Batch plain = Fill("none", order, 5);
  for (const int64_t part : {5, 2, 1}) {
    const Batch b = Fill("mixup=1", order, part);
    EXPECT_EQ(b.labels, (std::vector<int32_t>{3, 0, 5, 1, 2}));
    EXPECT_EQ(b.others, (std::vector<int32_t>{2, 1, 5, 0, 3}));
    const float lam = b.share[0];
    EXPECT_GT(lam, 0.01);
    EXPECT_LT(lam, 0.99);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(b.share[i], lam);
      const std::vector<float> own = plain.image(i), other = plain.image(4 - i), mixed = b.image(i);
      for (size_t k = 0; k < mixed.size(); ++k)
        ASSERT_NEAR(mixed[k], lam * own[k] + (1 - lam) * other[k], 1e-5);
    }
  }
}

TEST_F(AugmentedBatches, CutMixTakesAPartOfIt) {
  const std::vector<size_t> order{3, 0, 5, 1};
  const Batch plain = Fill("none", order, 4), b = Fill("cutmix=1", order, 4);
  EXPECT_EQ(b.others, (std::vector<int32_t>{1, 5, 0, 3}));
  for (size_t i = 0; i < 4; ++i) {
    const std::vector<float> own = plain.image(i), other = plain.image(3 - i), mixed = b.image(i);
    size_t kept = 0;
    for (size_t k = 0; k < mixed.size(); ++k) {
      ASSERT_TRUE(mixed[k] == own[k] || mixed[k] == other[k]);
      kept += mixed[k] == own[k] && own[k] != other[k];
    }
    EXPECT_NEAR(static_cast<double>(kept) / kPixels, b.share[i], 0.02);
  }
}

}  // namespace
}  // namespace graft::augmented_batches_test
