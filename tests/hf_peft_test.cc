// Adapters of Hugging Face peft: what is read, what is refused, and that writing gives it back.
#include <cmath>
#include <cstring>
#include <fstream>

#include "adapters/hf/peft_writer.h"
#include "adapters/method_graph.h"
#include "data/dataset.h"
#include "runtime/io/atomic_file.h"
#include "tests/peft_testing.h"
#include "train/evaluator.h"

namespace graft::hf_peft_test {
namespace {

TEST_F(HfPeft, ALoraConfigBecomesAMethod) {
  const PeftOnModel fitted = Fit(Write(LoraConfig(), LoraTensors()));
  EXPECT_EQ(ToString(fitted.method), "lora(alpha=6,r=2,targets=attn.q|attn.v)");
  EXPECT_EQ(fitted.classes, 3);
  EXPECT_EQ(fitted.naming.transformers, 4);
  EXPECT_EQ(fitted.ledger.matched.size(), 10u);
  EXPECT_TRUE(fitted.ledger.missing.empty() && fitted.ledger.unexpected.empty());
}

// y = W x + s B A x with s = alpha/r, which every layer has of its own, is compared with weights
// that were changed by hand.
TEST_F(HfPeft, LogitsAreThoseOfTheChangedWeights) {
  Json config = LoraConfig();
  config["rank_pattern"] = {{"layer.1.attention.attention.query", 3}};
  config["alpha_pattern"] = {{"value", 5}};
  Tensors tensors = LoraTensors();
  tensors.Lora(Layer4(1, "attention.attention.query"), kWidth, kWidth, 3);
  for (const bool rslora : {false, true}) {
    config["use_rslora"] = rslora;
    OpenedModel opened = Open(Write(config, tensors));
    ParamStore changed = opened.model.params;
    struct Site {
      const char* scope;
      int r;
      double alpha;
    };
    for (const Site& site : {Site{"blocks.0.attn.q", 2, 6},
                             {"blocks.1.attn.q", 3, 6},
                             {"blocks.0.attn.v", 2, 5},
                             {"blocks.1.attn.v", 2, 5}}) {
      const std::string scope = site.scope;
      const auto a = opened.model.params.values(scope + ".lora_a");
      const auto b = opened.model.params.values(scope + ".lora_b");
      const double scale = site.alpha / (rslora ? std::sqrt(site.r) : site.r);
      float* w = changed.Mutable(scope + ".weight");
      for (int64_t out = 0; out < kWidth; ++out)
        for (int64_t in = 0; in < kWidth; ++in)
          for (int64_t k = 0; k < site.r; ++k)
            w[out * kWidth + in] +=
                static_cast<float>(scale * b[out * site.r + k] * a[k * kWidth + in]);
    }
    auto logits = [](const Graph& g, ParamStore& params) {
      Session session(g, params, {.capacity = {2, 0}});
      const Tensor image = session.Input("image");
      FillNormal({image.f32(), static_cast<size_t>(image.shape.size())},
                 {MakeKey(1, Purpose::kData, "image")}, 0, 1);
      session.Run({2, 0});
      const Tensor out = session.Output("logits");
      return std::vector<float>(out.f32(), out.f32() + out.shape.size());
    };
    Graph plain = BuildVit(opened.model.vit());
    plain.EraseUnusedInputs();
    const std::vector<float> expected = logits(plain, changed);
    const std::vector<float> found = logits(opened.Inference(false), opened.model.params);
    ASSERT_EQ(found.size(), 6u);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5);
  }
}

TEST_F(HfPeft, TargetsAsListPatternOrAllLinear) {
  Json config = LoraConfig();
  Tensors head, all = LoraTensors();
  head.Whole("classifier", {3, kWidth});
  Tensors first = head;
  first.Lora(Layer4(1, "attention.attention.query"), kWidth, kWidth, 2);
  const std::string one = "lora(alpha=6,r=2,targets=blocks.1.attn.q)";
  config["target_modules"] = "vit\\.encoder\\.layer\\.1\\..*\\.(query|dropout)";
  EXPECT_EQ(MethodOf(config, first), one);
  config["target_modules"] = {"query"};
  config["layers_to_transform"] = 1;
  EXPECT_EQ(MethodOf(config, first), one);
  config["layers_to_transform"] = {1, 7};
  config["layers_pattern"] = {"layer"};
  EXPECT_EQ(MethodOf(config, first), one);
  config["layers_to_transform"] = nullptr;
  config["exclude_modules"] = {"0.attention.attention.query"};
  EXPECT_EQ(MethodOf(config, first), one);
  config["exclude_modules"] = ".*\\.layer\\.0\\..*";
  EXPECT_EQ(MethodOf(config, first), one);
  config["exclude_modules"] = nullptr;

  config["target_modules"] = "All-Linear";
  for (int block : {0, 1}) {
    all.Lora(Layer4(block, "attention.attention.key"), kWidth, kWidth, 2);
    all.Lora(Layer4(block, "attention.output.dense"), kWidth, kWidth, 2);
    all.Lora(Layer4(block, "intermediate.dense"), kMlp, kWidth, 2);
    all.Lora(Layer4(block, "output.dense"), kWidth, kMlp, 2);
  }
  EXPECT_EQ(MethodOf(config, all),
            "lora(alpha=6,r=2,targets=attn.k|attn.o|attn.q|attn.v|mlp.fc1|mlp.fc2)");
}

TEST_F(HfPeft, NamesOfTransformersFive) {
  Json config = LoraConfig();
  config["target_modules"] = {"q_proj", "fc2"};
  config["bias"] = "lora_only";
  config["lora_dropout"] = 0.25;
  Tensors t;
  for (int block : {0, 1}) {
    t.Lora(fmt::format("vit.layers.{}.attention.q_proj", block), kWidth, kWidth, 2);
    t.Lora(fmt::format("vit.layers.{}.mlp.fc2", block), kWidth, kMlp, 2);
    for (const char* name : {"attention.q_proj", "mlp.fc2"})
      t.Add(fmt::format("base_model.model.vit.layers.{}.{}.base_layer.bias", block, name),
            {kWidth});
  }
  t.Whole("classifier", {5, kWidth});
  const PeftOnModel fitted = Fit(Write(config, t));
  EXPECT_EQ(fitted.naming.transformers, 5);
  EXPECT_EQ(ToString(fitted.method),
            "lora(alpha=6,bias=lora_only,dropout=0.25,r=2,targets=attn.q|mlp.fc2)");
}

TEST_F(HfPeft, LayerNormTuning) {
  Json config{{"peft_type", "LN_TUNING"}, {"target_modules", {"layernorm_before"}}};
  Tensors t;
  auto add = [&](const std::string& norm) {
    for (const char* part : {"weight", "bias"})
      t.Add("base_model.model." + norm + ".ln_tuning_layers." + part, {kWidth});
  };
  add(Layer4(0, "layernorm_before")), add(Layer4(1, "layernorm_before"));
  EXPECT_EQ(MethodOf(config, t), "ln(head=frozen,targets=norm1)");
  config["target_modules"] = {"layernorm_before", "layernorm_after", "layernorm"};
  add(Layer4(0, "layernorm_after")), add(Layer4(1, "layernorm_after")), add("vit.layernorm");
  EXPECT_EQ(MethodOf(config, t), "ln(head=frozen)");
  EXPECT_EQ(Open(Write(config, t)).model.params.values("norm.weight").size(), 24u);
}

// Reading and writing again gives the same tensors, byte for byte, and a config of the same
// meaning.
TEST_F(HfPeft, WritingGivesBackWhatWasRead) {
  Json saved_norms = LoraConfig(), all_biases = LoraConfig(), patterns = LoraConfig();
  saved_norms["modules_to_save"] = {"classifier", "layernorm_after"};
  Tensors with_norms = LoraTensors(), with_biases = LoraTensors(), with_ranks = LoraTensors();
  for (int block : {0, 1})
    with_norms.Add("base_model.model." + Layer4(block, "layernorm_after.weight"), {kWidth});
  for (int block : {0, 1})
    with_norms.Add("base_model.model." + Layer4(block, "layernorm_after.bias"), {kWidth});
  all_biases["bias"] = "all";
  with_biases.Add("base_model.model.vit.embeddings.patch_embeddings.projection.bias", {kWidth});
  with_biases.Add("base_model.model.vit.layernorm.bias", {kWidth});
  for (int block : {0, 1}) {
    for (const char* name : {"layernorm_before", "layernorm_after", "attention.attention.key",
                             "attention.output.dense", "output.dense"})
      with_biases.Add("base_model.model." + Layer4(block, name) + ".bias", {kWidth});
    with_biases.Add("base_model.model." + Layer4(block, "intermediate.dense.bias"), {kMlp});
    for (const char* name : {"query", "value"})
      with_biases.Add(
          "base_model.model." + Layer4(block, "attention.attention.") + name + ".base_layer.bias",
          {kWidth});
  }
  patterns["rank_pattern"] = {{"0.attention.attention.value", 4}};
  with_ranks.Lora(Layer4(0, "attention.attention.value"), kWidth, kWidth, 4);
  for (const auto& [config, tensors] :
       {std::pair(LoraConfig(), LoraTensors()), std::pair(saved_norms, with_norms),
        std::pair(all_biases, with_biases), std::pair(patterns, with_ranks)}) {
    const std::string in = Write(config, tensors), out = in + "-out";
    const OpenedModel opened = Open(in);
    WritePeft(out, PlanPeft(opened.method, opened.trained, opened.peft->naming, "base"),
              opened.model.params, {});
    const SafetensorsFile a = SafetensorsFile::Open(in + "/adapter_model.safetensors"),
                          b = SafetensorsFile::Open(out + "/adapter_model.safetensors");
    ASSERT_EQ(a.tensors().size(), b.tensors().size());
    for (const FileTensor& t : a.tensors()) {
      const auto x = a.bytes(t), y = b.bytes(b.Get(t.name));
      EXPECT_TRUE(std::ranges::equal(x, y)) << t.name;
    }
    EXPECT_EQ(ToString(Open(out).method), ToString(opened.method));
  }
}

PeftPlan Plan(const LoadedModel& model, const char* method) {
  ParamStore params = model.params;
  const Graph g = MethodGraph(model.vit(), {}, ParseMethod(method), params, 0);
  std::vector<std::string> trained;
  for (ValueId v : g.Trainable()) trained.push_back(g.value(v).name);
  return PlanPeft(ParseMethod(method), trained, HfNamingFor(model, 5), "base");
}

// Names are compared by their ends: block 1 must not mean block 11.
TEST(HfPeftNames, OfTwelveBlocks) {
  LoadedModel model;
  model.config = VitByName("vit_tiny_patch16_224");
  const PeftPlan plan = Plan(
      model, "lora(targets=blocks.1.attn.q)+lora(r=4,targets=mlp.fc1)+ln(targets=blocks.1.norm1)");
  EXPECT_THAT(plan.config.target.names, ::testing::ElementsAre("1.attention.q_proj", "fc1"));
  EXPECT_THAT(plan.config.modules_to_save,
              ::testing::ElementsAre("classifier", "layers.1.layernorm_before"));
  EXPECT_EQ(plan.config.r, 8);
  EXPECT_EQ(plan.config.rank_pattern.size(), 12u);
  EXPECT_EQ(plan.config.rank_pattern.at("vit.layers.11.mlp.fc1"), 4);
  EXPECT_EQ(plan.config.alpha_pattern.at("vit.layers.1.mlp.fc1"), 4);
}

TEST_F(HfPeft, WritesShortTargets) {
  auto plan = [&](const char* method) { return Plan(model_, method); };
  EXPECT_THAT(plan("lora").config.target.names, ::testing::ElementsAre("q_proj", "v_proj"));
  EXPECT_THAT(plan("lora").config.modules_to_save, ::testing::ElementsAre("classifier"));
  EXPECT_THAT(plan("lora(targets=blocks.1.attn.*)").config.target.names,
              ::testing::ElementsAre("1.attention.k_proj", "1.attention.o_proj",
                                     "1.attention.q_proj", "1.attention.v_proj"));
  EXPECT_THAT(plan("ln").config.target.names,
              ::testing::ElementsAre("layernorm", "layernorm_after", "layernorm_before"));
  EXPECT_EQ(plan("lora+bitfit").config.bias, "all");
  EXPECT_THAT(
      plan("lora+ln").config.modules_to_save,
      ::testing::ElementsAre("classifier", "layernorm", "layernorm_after", "layernorm_before"));
  EXPECT_THAT(plan("lora(targets=head|attn.q)").config.target.names,
              ::testing::ElementsAre("q_proj"));
  EXPECT_THAT(MessageOf([&] { plan("lora(targets=head)"); }), HasSubstr("beside the one of the"));
  EXPECT_THAT(MessageOf([&] { plan("lora(targets=*)"); }), HasSubstr("is a convolution to peft"));
  for (const char* unknown : {"full", "linear", "last(k=1)", "ssf", "lora+last(k=1)"})
    EXPECT_THAT(MessageOf([&] { plan(unknown); }), HasSubstr("--format graft")) << unknown;
  EXPECT_THAT(MessageOf([&] { plan("lora(targets=attn.q)+lora(targets=attn.v,dropout=0.1)"); }),
              HasSubstr("one dropout"));
}

TEST_F(HfPeft, LabelsAndPreprocessingOfOurOwnAdaptersComeBack) {
  const OpenedModel opened = Open(
      Write(LoraConfig(), LoraTensors(),
            {{"graft.labels", R"(["a","b","c"])"},
             {"graft.preprocess", "resize=16,filter=bilinear,mean=0.5|0.5|0.5,std=0.5|0.5|0.5"}}));
  EXPECT_EQ(opened.labels(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(opened.preprocess.resize, 16);
  EXPECT_EQ(opened.preprocess.filter, Filter::kBilinear);
  EXPECT_TRUE(Open(Write(LoraConfig(), LoraTensors())).labels().empty());
}

// The adapter that Hugging Face peft 0.17 wrote, on DeiT-Ti under timm's names: the first 64 test
// images of CIFAR-10 give the logits that transformers and peft gave.
TEST(HfPeftGenuine, GivesItsStoredLogits) {
  const char* named = std::getenv("GRAFT_DATA");
  const std::string root = named ? named : std::string(GRAFT_SOURCE_DIR) + "/../shared";
  const std::string folder = root + "/weights/peft-lora-deit-tiny-cifar10";
  if (!std::ifstream(folder + "/adapter_config.json")) {
    std::puts("NOT AVAILABLE: an adapter made by peft (GRAFT_DATA)");
    GTEST_SKIP() << "no " << folder;
  }
  ModelChoice choice;
  choice.model = root + "/weights/deit_tiny_patch16_224.safetensors", choice.adapter = folder;
  choice.preprocess =
      "resize=224,filter=bilinear,mean=0.4914|0.4822|0.4465,std=0.2470|0.2435|0.2616";
  OpenedModel opened = OpenModel(choice, InputKind::kDataset);
  EXPECT_EQ(ToString(opened.method), "lora(dropout=0.1,r=16,targets=attn.k|attn.q)");
  const ImageDataset data(root + "/data/vtab-1k/cifar10");
  const Split split = data.Load("test", 64);
  Evaluator evaluator(opened.Inference(true), opened.model.params, {.capacity = {8, 0}});
  std::vector<float> logits;
  evaluator.Run(*MakeImageData(split.examples, opened.preprocess, opened.model.vit()), &logits);
  const std::string bytes =
      ReadFile(folder + "/expected_logits_first64_of_cifar10_test.f32", 1 << 20);
  std::vector<float> expected(bytes.size() / 4);
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  ASSERT_EQ(logits.size(), 640u);
  ASSERT_EQ(expected.size(), 640u);
  double error = 0, scale = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    error = std::max(error, static_cast<double>(std::fabs(logits[i] - expected[i])));
    scale = std::max(scale, static_cast<double>(std::fabs(expected[i])));
  }
  EXPECT_LT(error / scale, 1e-4);
  EXPECT_GT(scale, 1);
}

}  // namespace
}  // namespace graft::hf_peft_test
