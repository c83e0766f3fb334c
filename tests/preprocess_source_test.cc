// Tests the transform of images that a checkpoint states: what it becomes in the text of
// --preprocess, against transformers' and timm's own pixels, and where it is found.
#include <gmock/gmock.h>

#include "adapters/base_model.h"
#include "models/files/image_processor.h"
#include "models/files/timm_config.h"
#include "runtime/io/json.h"
#include "tests/image_test_util.h"

namespace graft::preprocess_source_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// picture() of make_transform_fixture.py.
Image Picture(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<uint8_t>((x * 7 + y * 13 + c * 50 + (x * y) % 31) % 256));
  return image;
}

std::string Text(const std::string& processor, const std::string& model_type = "vit") {
  return ProcessorText(ParseJson(processor, "test"), model_type, "p.json");
}

TimmConfig Timm(const std::string& config) {
  const auto timm = ReadTimmConfig(ParseJson(config, "test"), "c.json");
  return timm ? *timm : throw Error("no config of timm");
}

TEST(StatedPreprocess, PixelsAreThoseOfTransformersAndTimm) {
  const Json cases = ReadJson(kFixtures + "transforms.json");
  ASSERT_EQ(cases.size(), 21u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c.dump());
    const std::string text = c.contains("timm") ? ReadTimmConfig(c["timm"], "timm")->preprocess
                                                : ProcessorText(c["processor"], "", "processor");
    const Preprocess p = ParsePreprocess(text);
    EXPECT_EQ(ParsePreprocess(ToString(p)), p) << text;
    const Image picture = Picture(c["size"][0], c["size"][1]);
    ASSERT_EQ(p.size(), c["side"].get<int>()) << text;
    EXPECT_EQ(Crc(ResizeAndCrop(picture, p)), c["crc"].get<std::string>()) << text;
    const std::vector<float> out = Apply(picture, p);
    const size_t plane = out.size() / 3;
    for (size_t channel = 0; channel < 3; ++channel) {
      const Json& ends = c["values"][channel];
      EXPECT_NEAR(out[plane * channel], ends[0].get<double>(), 2e-6) << text;
      EXPECT_NEAR(out[plane * (channel + 1) - 1], ends[1].get<double>(), 2e-6) << text;
    }
  }
}

TEST(StatedPreprocess, ProcessorTexts) {
  const std::string half = ",mean=0.5|0.5|0.5,std=0.5|0.5|0.5";
  // Google's first file names no class: the kind of model does.
  EXPECT_EQ(Text(R"({"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
                     "image_std": [0.5, 0.5, 0.5], "size": 224})"),
            "resize=224,filter=bilinear" + half);
  EXPECT_EQ(Text("{}", "deit"), "resize=256,crop=224,fit=both,filter=bicubic" + half);
  EXPECT_THAT(Text("{}", "dinov2"), HasSubstr("resize=224,crop=224,center=floor,filter=bicubic,"));
  // One number is the shorter side where the class says so, unless the file does.
  const std::string one = R"({"image_processor_type": "CLIPImageProcessor", "size": 32,
                              "crop_size": 24)";
  EXPECT_THAT(Text(one + "}"), HasSubstr("resize=32,crop=24,center=floor,"));
  EXPECT_THAT(Text(one + R"(, "default_to_square": true})"),
              HasSubstr("resize=32,crop=24,fit=both,filter"));
  // A null that can only mean one thing, as the faster classes write it.
  EXPECT_EQ(Text(R"({"do_center_crop": null, "crop_size": null, "size": 224})"),
            "resize=224,filter=bilinear" + half);
  // 1/255 with fewer digits is meant as 1/255.
  EXPECT_EQ(Text(R"({"rescale_factor": 0.0039215686274})"), "resize=224,filter=bilinear" + half);
  EXPECT_EQ(Text(R"({"size": {"height": 8, "width": 8, "longest_edge": null}})"),
            "resize=8,filter=bilinear" + half);
}

TEST(StatedPreprocess, ProcessorsThatCannotBeExpressed) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"image_processor_type": "SiglipImageProcessor"})",
       "image_processor_type 'SiglipImageProcessor' is not supported; known: ViTImageProcessor"},
      {R"({"feature_extractor_type": "BeitFeatureExtractor"})",
       "feature_extractor_type 'BeitFeatureExtractor'"},
      {R"({"resample": 1})", "resample = 1 (Lanczos) is not supported"},
      {R"({"resample": 0})", "resample = 0 (nearest)"},
      {R"({"size": {"height": 224, "width": 192}})", "size of 224 x 192 is not supported"},
      {R"({"size": [1, 2, 3]})", "size: expected [height, width]"},
      {R"({"size": {"shortest_edge": 224}})", "without a centre crop leaves images that are not"},
      {R"({"size": {"shortest_edge": 224, "longest_edge": 300}})",
       "expected height and width, or shortest_edge, found longest_edge, shortest_edge"},
      {R"({"size": {"max_height": 9, "max_width": 9}})", "found max_height, max_width"},
      {R"({"size": 0})", "'size': expected 1 to 16384, found 0"},
      {R"({"do_resize": false})", "do_resize = false without a centre crop"},
      {R"({"do_center_crop": true})", "do_center_crop without crop_size"},
      {R"({"do_center_crop": true, "crop_size": 225})", "crop_size 225 is more than size 224"},
      {R"({"do_pad": true})", "do_pad = true is not supported"},
      {R"({"do_flip_channel_order": true})", "do_flip_channel_order = true"},
      {R"({"do_normalize": null})", "do_normalize = null is read in different ways"},
      {R"({"do_resize": null})", "do_resize = null"},
      {R"({"do_rescale": null})", "do_rescale = null"},
      {R"({"image_processor_type": "CLIPImageProcessor", "do_center_crop": null})",
       "do_center_crop = null"},
      {R"({"image_std": [0.5, 0, 0.5]})", "image_std: expected three positive numbers"},
      {R"({"image_mean": [0.5]})", "image_mean: expected three finite numbers"},
      {R"({"image_mean": "half"})", "found \"half\""},
      {R"({"rescale_factor": 0})", "'rescale_factor': expected"},
      {R"({"do_resize": "yes"})", "'do_resize': expected true or false"},
      {R"([])", "expected an object, found array"},
  };
  for (const auto& [json, message] : cases)
    EXPECT_THAT(MessageOf([&json = json] { Text(json); }), HasSubstr(message)) << json;
  EXPECT_THAT(MessageOf([] { Text("{}", "swin"); }), HasSubstr("no image_processor_type"));
}

TEST(StatedPreprocess, TimmTexts) {
  const std::string colours = ",mean=0.485|0.456|0.406,std=0.229|0.224|0.225";
  const auto text = [](const std::string& cfg) {
    return Timm(R"({"architecture": "a", "pretrained_cfg": {)" + cfg + "}}");
  };
  EXPECT_EQ(text("").preprocess, "resize=256,crop=224,filter=bicubic" + colours);
  EXPECT_EQ(text(R"("input_size": [3, 384, 384], "crop_pct": 1.0)").preprocess,
            "resize=384,crop=384,filter=bicubic" + colours);
  EXPECT_EQ(
      text(R"("crop_pct": 0.9, "interpolation": "bilinear", "crop_mode": "squash")").preprocess,
      "resize=248,crop=224,fit=both,filter=bilinear" + colours);
  EXPECT_EQ(text(R"("crop_pct": null, "mean": null)").preprocess,
            "resize=256,crop=224,filter=bicubic" + colours);
  // The old form has these keys at the top.
  EXPECT_EQ(Timm(R"({"architecture": "vit_tiny_patch16_224", "num_classes": 2, "crop_pct": 1,
                     "crop_mode": "squash", "std": [1, 1, 1]})")
                .preprocess,
            "resize=224,filter=bicubic,mean=0.485|0.456|0.406,std=1|1|1");
  // A model of another size than its weights came with.
  EXPECT_EQ(Timm(R"({"architecture": "a", "model_args": {"img_size": 32},
                     "pretrained_cfg": {"fixed_input_size": true, "crop_pct": 1}})")
                .preprocess,
            "resize=32,crop=32,filter=bicubic" + colours);
  const std::pair<const char*, const char*> problems[] = {
      {R"("crop_mode": "border")", "crop_mode 'border' is not supported"},
      {R"("interpolation": "random")", "interpolation 'random' is not supported"},
      {R"("input_size": [1, 28, 28])", "input_size [1, 28, 28] is not supported"},
      {R"("input_size": [3, 224, 256])", "input_size [3, 224, 256]"},
      {R"("input_size": [3, 16000, 16000], "crop_pct": 0.1)", "images of 160000 pixels"},
      {R"("crop_pct": 1.5)", "'crop_pct': expected 0 to 1"},
      {R"("std": [0, 0, 0])", "std: expected three positive numbers"}};
  for (const auto& [cfg, message] : problems) {
    EXPECT_THAT(text(cfg).preprocess_problem, HasSubstr(message)) << cfg;
    EXPECT_EQ(text(cfg).preprocess, "") << cfg;
  }
}

TEST(TimmConfig, FactsAndLabels) {
  const TimmConfig c = Timm(R"({
    "architecture": "vit_small_patch14_dinov2.lvd142m", "num_classes": 2, "global_pool": "avg",
    "model_args": {"init_values": 1e-05, "reg_tokens": 4, "no_embed_class": true,
                   "act_layer": "gelu_tanh", "norm_layer": null, "img_size": [32, 32]},
    "pretrained_cfg": {"num_classes": 1000, "global_pool": "token", "input_size": [3, 32, 32]},
    "label_names": ["cat", "dog"], "label_descriptions": {"cat": "a cat"}})");
  EXPECT_EQ(c.architecture, "vit_small_patch14_dinov2");
  EXPECT_EQ(c.classes, 2);
  EXPECT_EQ(c.global_pool, "token");  // timm makes the model with pretrained_cfg's
  EXPECT_THAT(c.labels, ElementsAre("cat", "dog"));
  const std::map<std::string, std::string> args{
      {"init_values", "1e-05"},   {"reg_tokens", "4"},    {"no_embed_class", "true"},
      {"act_layer", "gelu_tanh"}, {"norm_layer", "none"}, {"img_size", "[32,32]"}};
  EXPECT_EQ(c.args, args);

  const TimmConfig old = Timm(R"({"architecture": "a", "labels": {"0": "x", "1": "y"},
                                  "global_pool": "avg", "num_classes": 2})");
  EXPECT_EQ(old.global_pool, "avg");
  // Beside pretrained_cfg it is for readers; an empty one there is no pooling.
  EXPECT_EQ(
      Timm(R"({"architecture": "a", "global_pool": "avg", "pretrained_cfg": {}})").global_pool, "");
  EXPECT_EQ(Timm(R"({"architecture": "a", "model_args": {"global_pool": ""}})").global_pool,
            "none");
  EXPECT_THAT(old.labels, ElementsAre("x", "y"));
  EXPECT_EQ(Timm(R"({"architecture": "a"})").classes, -1);
  // Numbers with gaps name some classes only.
  EXPECT_THAT(Timm(R"({"architecture": "a", "label_names": {"0": "x", "5": "y"}})").labels,
              IsEmpty());
  EXPECT_THAT(
      MessageOf([] { Timm(R"({"architecture": "a", "label_names": ["x"], "num_classes": 3})"); }),
      HasSubstr("c.json: label_names has 1 names, but num_classes = 3"));
  EXPECT_THAT(MessageOf([] { Timm(R"({"architecture": 3})"); }), HasSubstr("'architecture'"));
  for (const char* other : {"[]", "null", "{}", R"({"model_type": "vit", "architecture": "a"})"})
    EXPECT_FALSE(ReadTimmConfig(ParseJson(other, "test"), "c.json")) << other;
}

// --- in a checkpoint

class StatedIn : public ::testing::Test {
 protected:
  StatedIn() {
    for (const char* file : {"config.json", "model.safetensors"})
      std::filesystem::copy(kFixtures + "tiny_vit_hf/" + file, dir_ / file);
  }
  LoadedModel Load() const { return LoadModel(dir_.path().string()); }
  std::string Chosen(const LoadedModel& m, const std::string& option = "",
                     InputKind kind = InputKind::kImages) const {
    const ChosenPreprocess chosen = ChoosePreprocess(option, m, kind);
    return ToString(chosen.value) + " from " + chosen.source;
  }
  TempDir dir_;
  const std::string half_ = "resize=16,filter=bilinear,mean=0.5|0.5|0.5,std=0.5|0.5|0.5";
};

TEST_F(StatedIn, NothingIsStated) {
  const LoadedModel m = Load();
  EXPECT_EQ(m.preprocess + m.preprocess_source + m.preprocess_problem, "");
  EXPECT_THAT(Chosen(m), HasSubstr("resize=18,crop=16,"));
  EXPECT_THAT(Chosen(m), HasSubstr(" from usual for single images: imagenet"));
  EXPECT_THAT(Chosen(m, "", InputKind::kDataset), HasSubstr("resize=16,filter=bicubic,"));
  EXPECT_THAT(Chosen(m, "", InputKind::kDataset), HasSubstr(" from usual for data sets: vtab"));
}

TEST_F(StatedIn, PreprocessorConfig) {
  dir_.Write("preprocessor_config.json", R"({"size": 16})");
  const LoadedModel m = Load();
  EXPECT_EQ(m.preprocess_source, "preprocessor_config.json");
  for (const InputKind kind : {InputKind::kImages, InputKind::kDataset})
    EXPECT_EQ(Chosen(m, "", kind), half_ + " from preprocessor_config.json");
  EXPECT_EQ(Chosen(m, half_), half_ + " from --preprocess");
}

// Only who needs the transform is told, and how to give it.
TEST_F(StatedIn, AProblemIsTheUsers) {
  for (const char* text : {R"({"size": 16, "do_pad": true})", "{", "[]"}) {
    dir_.Write("preprocessor_config.json", text);
    const LoadedModel m = Load();
    EXPECT_EQ(m.preprocess, "");
    EXPECT_THAT(m.preprocess_problem, HasSubstr(dir_ / "preprocessor_config.json"));
    EXPECT_THAT(MessageOf([&] { Chosen(m); }),
                HasSubstr("hint: say the nearest with --preprocess"));
    EXPECT_EQ(Chosen(m, half_), half_ + " from --preprocess");
  }
}

TEST_F(StatedIn, OurMetadataGoesFirst) {
  dir_.Write("preprocessor_config.json", R"({"size": 16})");
  LoadedModel m = Load();
  StringMap metadata = ModelFacts(m);
  metadata["graft.preprocess"] = "vtab,resize=20,crop=16";
  m.hf_config.clear();
  SaveModel(m, m.params, dir_ / "again", metadata);
  dir_.Write("again/preprocessor_config.json", R"({"size": 16})");
  const LoadedModel again = LoadModel(dir_ / "again");
  EXPECT_EQ(again.preprocess_source, "metadata graft.preprocess");
  EXPECT_THAT(Chosen(again), HasSubstr("resize=20,crop=16,filter=bicubic,"));
}

TEST_F(StatedIn, AnotherSizeResamplesPositions) {
  dir_.Write("preprocessor_config.json", R"({"size": 32})");
  LoadedModel m = Load();
  AdaptModel(m, ChoosePreprocess("", m, InputKind::kImages).value.size(), {});
  EXPECT_EQ(m.vit().image_size, 32);
  ASSERT_EQ(m.notices.size(), 1u);
  EXPECT_THAT(m.notices[0], HasSubstr("position embeddings of 16x16 images, resampled for 32x32 as "
                                      "timm does: bicubic, antialiased"));
}

}  // namespace
}  // namespace graft::preprocess_source_test
