// Tests vision transformers of many forms, DeiT-III, DINOv2, CLIP and others: they give the logits
// of timm and transformers, and are fine-tuned, merged and written again; checkpoints that would
// compute something else are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "adapters/fuse.h"
#include "adapters/method_graph.h"
#include "models/arch_text.h"
#include "runtime/rng.h"
#include "tests/vit_forms_testing.h"

namespace graft::vit_forms_test {
namespace {

using ::testing::HasSubstr;

class Forms : public ::testing::TestWithParam<VitForm> {
 protected:
  LoadedModel Load() { return LoadModel(WriteForm(dir_, GetParam()), GetParam().arch); }
  TempDir dir_;
};

TEST_P(Forms, LogitsAreThoseOfTheLibrary) {
  LoadedModel m = Load();
  EXPECT_LT(FormError(FormLogits(BuildModel(m.config), m.params), GetParam().logits), 2e-6);
  // The logits are the same with the optimising passes.
  Graph g = BuildModel(m.config);
  InferencePasses().Run(g);
  EXPECT_LT(FormError(FormLogits(g, m.params), GetParam().logits), 2e-6);
}

TEST_P(Forms, EveryTensorIsReadAndWrittenAgain) {
  LoadedModel m = Load();
  for (const std::string& key : m.ledger.unexpected)
    EXPECT_THAT(key, HasSubstr("mask_token")) << "of " << GetParam().name;
  const std::string again = dir_ / (GetParam().config.empty() ? "again.safetensors" : "again");
  SaveModel(m, m.params, again, ModelFacts(m));
  const SafetensorsModel before = SafetensorsModel::Open(m.source),
                         after = SafetensorsModel::Open(again);
  for (const auto& [name, shape] : GetParam().tensors) {
    const size_t wrapper = name.starts_with("module.") ? 7 : 0;  // which is not written again
    const FileTensor* tensor = after.Find(name.substr(wrapper));
    ASSERT_TRUE(tensor) << name;
    EXPECT_EQ(tensor->shape, shape) << name;
  }
  EXPECT_EQ(before.names().size(), after.names().size());
  LoadedModel read = LoadModel(again);
  EXPECT_EQ(read.config, m.config) << "facts travel in the metadata or config.json";
  EXPECT_EQ(FormLogits(BuildModel(read.config), read.params),
            FormLogits(BuildModel(m.config), m.params));
}

TEST_P(Forms, ALoraIsMergedIntoThem) {
  LoadedModel m = Load();
  const Method method = ParseMethod("lora(r=2,targets=attn.*|mlp.*)");
  const Graph g = MethodGraph(m.config, {}, method, m.params);
  for (ValueId v : g.Trainable()) {
    const std::string& name = g.value(v).name;
    const size_t size = static_cast<size_t>(m.params.shape(name).size());
    FillNormal({m.params.Mutable(name), size}, {MakeKey(2, Purpose::kData, name)}, 0, 0.3);
  }
  m.params.Freeze();
  FusedWeights fused = Fuse(m.config, method, m.params, FormLogits);
  EXPECT_LT(fused.proof.relative_error, 5e-6);
  const std::string path = dir_ / (GetParam().config.empty() ? "fused.safetensors" : "fused");
  SaveModel(m, fused.params, path, ModelFacts(m));
  LoadedModel read = LoadModel(path);
  EXPECT_LT(FormError(FormLogits(BuildModel(read.config), read.params),
                      FormLogits(InferenceGraph(m.config, method, m.params), m.params)),
            5e-6);
}

INSTANTIATE_TEST_SUITE_P(All, Forms, ::testing::ValuesIn(ReadVitForms()),
                         [](const auto& info) { return info.param.name; });

// --- what is refused

struct Refused {
  std::string name;
  std::vector<std::pair<std::string, std::vector<int64_t>>> more;  // beside a plain model's tensors
  std::vector<std::string> words;
};

class UnusedTensors : public ::testing::TestWithParam<Refused> {};

TEST_P(UnusedTensors, AreNamedWithTheirMeaning) {
  const TempDir dir;
  VitForm form = VitFormNamed("plain");
  form.tensors.insert(GetParam().more.begin(), GetParam().more.end());
  const std::string path = WriteForm(dir, form);
  const std::string message = MessageOf([&] { LoadModel(path, form.arch); });
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
  EXPECT_THAT(message, HasSubstr(path));
  // inspect shows the tensors.
  const LoadedModel m = LoadToInspect(path, form.arch, 0);
  EXPECT_EQ(m.ledger.unexpected.size(), GetParam().more.size());
}

INSTANTIATE_TEST_SUITE_P(
    All, UnusedTensors,
    ::testing::Values(
        Refused{"lora",
                {{"blocks.0.attn.qkv.lora_A", {4, 16}}, {"blocks.0.attn.qkv.lora_B", {48, 4}}},
                {"blocks.0.attn.qkv.lora_A", "LoRA that was not merged", "1 more"}},
        Refused{"adapter", {{"blocks.1.adapter.down.weight", {4, 16}}}, {"adapter layers"}},
        Refused{"decoder_of_an_adapter", {{"decoder.adapter.weight", {4, 16}}}, {"adapter layers"}},
        Refused{"ssf", {{"blocks.0.ssf_scale_1", {16}}}, {"SSF"}},
        Refused{"prompt", {{"prompt_embeddings", {1, 5, 16}}}, {"prompt tokens"}},
        Refused{"one_scale", {{"blocks.1.ls1.gamma", {16}}}, {"blocks.1.ls1.gamma", "LayerScale"}},
        Refused{"attn_pool", {{"attn_pool.latent", {1, 1, 16}}}, {"pooling by attention"}},
        Refused{"pre_logits", {{"pre_logits.fc.weight", {16, 16}}}, {"representation layer"}},
        Refused{"fc_norm",
                {{"fc_norm.weight", {16}}, {"fc_norm.bias", {16}}},
                {"fc_norm.bias", "beside a final norm"}},
        Refused{"relative_positions",
                {{"blocks.0.attn.relative_position_bias_table", {9, 2}}},
                {"relative positions"}},
        Refused{"rope", {{"rope.periods", {4}}}, {"rotary positions"}},
        Refused{"no_counter", {{"step_size.proj", {16, 16}}}, {"step_size.proj"}},
        Refused{"unknown", {{"blocks.0.attn.gate.weight", {16}}}, {"blocks.0.attn.gate.weight"}},
        Refused{"second_projection",
                {{"blocks.0.attn.q.weight", {16, 16}}},
                {"blocks.0.attn.q.weight"}}),
    [](const auto& info) { return info.param.name; });

class HarmlessTensors : public ::testing::TestWithParam<std::pair<const char*, int64_t>> {};

TEST_P(HarmlessTensors, ChangeNothing) {
  const TempDir dir;
  VitForm form = VitFormNamed("plain");
  const auto& [name, numbers] = GetParam();
  form.tensors[name] = {1, numbers};
  LoadedModel m = LoadModel(WriteForm(dir, form), form.arch);
  EXPECT_LT(FormError(FormLogits(BuildModel(m.config), m.params), form.logits), 2e-6);
  EXPECT_THAT(m.ledger.unexpected, ::testing::ElementsAre(name));
}

INSTANTIATE_TEST_SUITE_P(
    All, HarmlessTensors,
    ::testing::Values(std::pair("mask_token", 16), std::pair("decoder.0.weight", 16),
                      std::pair("decoder_embed.weight", 16), std::pair("decoder_pos_embed", 16),
                      std::pair("pooler.dense.weight", 16), std::pair("epoch", 1),
                      std::pair("n_averaged", 1), std::pair("iteration", 1),
                      std::pair("ema.decay", 1), std::pair("num_updates", 1),
                      std::pair("norm.num_batches_tracked", 1),
                      std::pair("optimizer.state.0.exp_avg", 16)));

TEST(Checkpoint, AGapInBlockNumbersIsNamed) {
  const TempDir dir;
  for (const char* gone : {"blocks.0.", "blocks.1."}) {
    VitForm form = VitFormNamed("plain");
    for (auto& [name, shape] : VitFormNamed("plain").tensors)
      if (name.starts_with("blocks.1.")) form.tensors["blocks.2." + name.substr(9)] = shape;
    std::erase_if(form.tensors, [&](const auto& t) { return t.first.starts_with(gone); });
    const std::string path = WriteForm(dir, form);
    EXPECT_THAT(MessageOf([&] { LoadModel(path, form.arch); }),
                HasSubstr(std::string("block ") + gone[7] + " is missing"));
  }
}

TEST(Checkpoint, WrappersAreLeftOutWithANote) {
  const TempDir dir;
  const VitForm plain = VitFormNamed("plain");
  for (const std::string wrapper : {"module.", "_orig_mod.", "model.", "backbone.", "student.",
                                    "model.module.", "net.encoder."}) {
    VitForm form{"wrapped", plain.arch, {}, {}, ""};
    for (const auto& [name, shape] : plain.tensors) form.tensors[wrapper + name] = shape;
    const LoadedModel m = LoadModel(WriteForm(dir, form), form.arch);
    EXPECT_THAT(m.notices, ::testing::Contains(HasSubstr("'" + wrapper + "'")));
    EXPECT_EQ(m.ledger.matched.size(), plain.tensors.size());
  }
  // A tensor outside of the wrapper is not the model's, and two models are two.
  VitForm half{"half", plain.arch, {}, {}, ""}, two = half;
  for (const auto& [name, shape] : plain.tensors)
    half.tensors["model." + name] = two.tensors["student." + name] =
        two.tensors["teacher." + name] = shape;
  half.tensors["criterion.weight"] = {3};
  EXPECT_THAT(MessageOf([&] { LoadModel(WriteForm(dir, half), half.arch); }),
              HasSubstr("criterion.weight"));
  EXPECT_THAT(MessageOf([&] { LoadModel(WriteForm(dir, two), two.arch); }),
              HasSubstr("several models, 'student.' and 'teacher.'"));
}

// --- facts that tensors do not tell

TEST(ArchFacts, AreTakenFromADescription) {
  const TempDir dir;
  const VitForm form = VitFormNamed("clip");
  const std::string path = WriteForm(dir, form);
  EXPECT_THAT(MessageOf([&] { LoadModel(path); }), HasSubstr("heads, eps, gelu are not known"));
  EXPECT_THAT(MessageOf([&] { LoadModel(path, "vit(heads=2)"); }),
              HasSubstr("eps, gelu are not known"));
  EXPECT_EQ(LoadModel(path, form.arch).vit().gelu, "quick");
  const std::string aliases = "vit(heads=2, eps=1e-6, activation=quick, patch=4, image=8, mlp=64)";
  EXPECT_EQ(LoadModel(path, aliases).config, LoadModel(path, form.arch).config);
}

TEST(ArchFacts, ThatContradictAreRefused) {
  const TempDir dir;
  const VitForm form = VitFormNamed("plain");
  const std::string path = WriteForm(dir, form);
  const auto message = [&](const std::string& arch, const std::string& file) {
    return MessageOf([&] { LoadModel(file, arch); });
  };
  EXPECT_THAT(message("vit(heads=2,eps=1e-6,gelu=erf,depth=3)", path),
              HasSubstr("--arch says depth = 3"));
  EXPECT_THAT(message("vit(heads=2,eps=1e-6,gelu=erf,layer_scale=true)", path),
              HasSubstr("--arch says layer_scale = true"));
  EXPECT_THAT(message("vit(heads=3,eps=1e-6,gelu=erf)", path), HasSubstr("not divisible"));
  EXPECT_THAT(message("vit(head=2)", path), HasSubstr("no key 'head'; known: image, patch"));
  EXPECT_THAT(message("vit(heads=2,heads=4)", path), HasSubstr("given twice"));
  EXPECT_THAT(message("vit(heads=two)", path), HasSubstr("expected a number"));
  EXPECT_THAT(message("bert(heads=2)", path), HasSubstr("another kind of model"));
  EXPECT_THAT(message("vit(gelu=gleu,heads=2,eps=1e-6)", path), HasSubstr("known: erf, tanh"));
  const std::string directory = WriteForm(dir, VitFormNamed("hf_dinov2"));
  EXPECT_THAT(message("vit(heads=4)", directory),
              HasSubstr("--arch says heads = 4; config.json says 2"));
  EXPECT_EQ(message("vit(heads=2)", directory), "no error");
}

TEST(ArchFacts, ThatWereAssumedAreSaid) {
  const TempDir dir;
  // These are sizes of the table: width 64, depth 4, mlp 256, patches of 4.
  VitForm form{"nano", "", {}, {}, ""};
  for (const auto& [name, shape] : VitFormNamed("plain").tensors) {
    std::vector<int64_t> larger = shape;
    for (int64_t& d : larger) d = d == 16 || d == 48 || d == 64 ? 4 * d : d;
    for (int block = 0; block < 4; ++block)
      form.tensors[name.starts_with("blocks.") ? fmt::format("blocks.{}{}", block, name.substr(8))
                                               : name] = larger;
  }
  const std::string path = WriteForm(dir, form);
  EXPECT_THAT(LoadModel(path).notices,
              ::testing::ElementsAre(HasSubstr("heads=4,eps=1e-06,gelu=erf,pool=token assumed from "
                                               "the table (vit_nano_patch4_32)")));
  EXPECT_THAT(LoadModel(path, "vit(gelu=tanh,pool=mean,eps=1e-5)").notices,
              ::testing::ElementsAre(HasSubstr("heads=4 assumed")));
  EXPECT_THAT(LoadModel(path, "vit(gelu=tanh,pool=mean,eps=1e-5,heads=8)").notices,
              ::testing::IsEmpty());
}

TEST(ArchFacts, PoolingBesideFcNormMustBeSaid) {
  const TempDir dir;
  const VitForm form = VitFormNamed("mean_fc_norm");
  const std::string path = WriteForm(dir, form);
  EXPECT_THAT(MessageOf([&] { LoadModel(path, "vit(heads=2,eps=1e-6,gelu=erf)"); }),
              ::testing::AllOf(HasSubstr("fc_norm.weight"), HasSubstr("vit(pool=mean_fc_norm)")));
}

TEST(ArchFacts, PositionsThatFitTwiceMustBeSaid) {
  const TempDir dir;
  VitForm form = VitFormNamed("registers");
  form.tensors["reg_token"] = {1, 4, 16};
  form.tensors["pos_embed"] = {1, 9, 16};  // 9 patches, or 4 and five tokens
  const std::string path = WriteForm(dir, form), facts = "vit(heads=2,eps=1e-6,gelu=erf";
  EXPECT_THAT(MessageOf([&] { LoadModel(path, facts + ")"); }),
              HasSubstr("vit(positions=patches)"));
  EXPECT_EQ(LoadModel(path, facts + ",positions=patches)").vit().image_size, 12);
  EXPECT_EQ(LoadModel(path, facts + ",positions=all)").vit().image_size, 8);
}

// timm makes those that have registers in their names, and DeiT-III, without positions of tokens.
TEST(ArchFacts, PositionsOfTimmsNames) {
  const TempDir dir;
  VitForm form = VitFormNamed("registers");
  form.tensors["reg_token"] = {1, 4, 16};
  form.tensors["pos_embed"] = {1, 9, 16};
  const std::string weights = WriteForm(dir, form);
  const auto side = [&](const char* name, const char* args = "") {
    dir.Write("hub/config.json",
              fmt::format(R"({{"architecture": "{}", "num_classes": 3, "global_pool": "token",
                               "model_args": {{"num_heads": 2{}}}}})",
                          name, args));
    std::filesystem::copy(weights, dir / "hub/model.safetensors",
                          std::filesystem::copy_options::overwrite_existing);
    return LoadModel(dir / "hub").vit().image_size;
  };
  EXPECT_EQ(side("vit_base_patch14_reg4_dinov2"), 12);
  EXPECT_EQ(side("deit3_base_patch16_224"), 12);
  EXPECT_EQ(side("vit_base_patch16_224"), 8);
  EXPECT_EQ(side("vit_base_patch16_224", R"(, "no_embed_class": true)"), 12);
  EXPECT_EQ(side("vit_base_patch14_reg4_dinov2", R"(, "no_embed_class": false)"), 8);
}

// A directory as timm's save_for_hf writes it.
TEST(ArchFacts, OfAModelDirectoryOfTimm) {
  const TempDir dir;
  const VitForm form = VitFormNamed("clip");
  const std::string weights = WriteForm(dir, form);
  const auto load = [&](const std::string& args, const std::string& more = "") {
    dir.Write("hub/config.json", R"({"architecture": "vit_base_patch16_224", "num_classes": 3)" +
                                     more + R"(, "model_args": {)" + args +
                                     R"(}, "label_names": ["a", "b", "c"]})");
    std::filesystem::copy(weights, dir / "hub/model.safetensors",
                          std::filesystem::copy_options::overwrite_existing);
    return LoadModel(dir / "hub");
  };
  LoadedModel m =
      load(R"("num_heads": 2, "act_layer": "quick_gelu")", R"(, "global_pool": "token")");
  EXPECT_LT(FormError(FormLogits(BuildModel(m.config), m.params), form.logits), 2e-6);
  EXPECT_EQ(m.labels, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_THAT(m.notices, ::testing::IsEmpty());
  EXPECT_EQ(m.fact_source.at("eps"), "config.json (vit_base_patch16_224)");
  EXPECT_EQ(load(R"("num_heads": 2, "global_pool": "avg")").vit().pool, "mean");
  EXPECT_THAT(MessageOf([&] { load(R"("num_heads": 2, "global_pool": "")"); }),
              HasSubstr("global_pool '' gives logits for each token"));
  EXPECT_THAT(MessageOf([&] { load(R"("act_layer": "gelu")"); }), HasSubstr("heads"));
  EXPECT_THAT(MessageOf([&] { load(R"("num_heads": 2)", R"(, "global_pool": "map")"); }),
              HasSubstr("global_pool 'map'"));
  EXPECT_THAT(MessageOf([&] { load(R"("num_heads": 2, "act_layer": "mish")"); }),
              HasSubstr("act_layer 'mish'"));
}

// Heads, eps and activation of an architecture that config.json names are those of timm's name, and
// not those of another model of these sizes.
TEST(ArchFacts, OfTimmsNames) {
  const TempDir dir;
  const std::string weights = WriteForm(dir, VitFormNamed("mean"));  // of width 16
  const auto load = [&](const std::string& name, const std::string& args = "",
                        const std::string& arch = "") {
    dir.Write("hub/config.json", R"({"num_classes": 3, "global_pool": "avg", "architecture": ")" +
                                     name + R"(", "model_args": {)" + args + "}}");
    std::filesystem::copy(weights, dir / "hub/model.safetensors",
                          std::filesystem::copy_options::overwrite_existing);
    return LoadModel(dir / "hub", arch);
  };
  EXPECT_THAT(MessageOf([&] { load("vit_base_patch16_224", R"("num_classes": 7)"); }),
              HasSubstr("num_classes is 7, but the classifier has 3 rows"));
  const auto facts = [&](const std::string& name) {
    const VitConfig c = load(name).vit();
    return fmt::format("{} {} {}", c.heads, c.eps, c.gelu);
  };
  EXPECT_EQ(facts("vit_base_patch16_gap_224.in1k"), "16 1e-06 erf");
  EXPECT_EQ(facts("vit_large_patch14_clip_quickgelu_336"), "16 1e-05 quick");
  EXPECT_EQ(facts("vit_large_patch14_clip_224"), "16 1e-05 erf");
  EXPECT_EQ(facts("vit_large_patch14_224_clip_laion2b"), "16 1e-05 erf");
  EXPECT_EQ(facts("vit_large_patch16_siglip_gap_512"), "16 1e-06 tanh");
  EXPECT_EQ(facts("vit_huge_patch14_224_in21k"), "16 1e-06 erf");
  EXPECT_EQ(facts("vit_nano_patch16_224"), "4 1e-06 erf");  // a name of ours
  const auto message = [&](const std::string& name, const std::string& args = "") {
    return MessageOf([&] { load(name, args); });
  };
  EXPECT_THAT(message("vit_base_patch16_mine", R"("num_heads": 2)"),
              ::testing::AllOf(HasSubstr("eps, gelu"), HasSubstr("'vit_base_patch16_mine'"),
                               HasSubstr("--arch")));
  EXPECT_EQ(load("vit_mine", R"("num_heads": 2)", "vit(eps=1e-5,gelu=relu)").vit().gelu, "relu");
  EXPECT_THAT(message("vit_base_patch16_rpn_224"), HasSubstr("norms stand behind"));
  for (const char* args : {R"("pool_include_prefix": true)", R"("norm_layer": "rmsnorm")",
                           R"("block_fn": "ResPostBlock")", R"("pos_embed": "none", "x": 1)"})
    EXPECT_THAT(message("vit_base_patch16_gap_224", args), HasSubstr("model_args")) << args;
  EXPECT_EQ(load("vit_base_patch16_gap_224",
                 R"("drop_rate": 0.1, "pool_include_prefix": false, "norm_layer": null)")
                .vit()
                .heads,
            16);
}

TEST(ArchText, DescriptionsAreReadBack) {
  for (const std::string& name : ModelNames()) {
    const ModelConfig config = ModelByName(name);
    EXPECT_EQ(ModelByName(DescribeArch(config)), config) << name;
  }
  LoadedModel m =
      LoadModel("init:vit(width=24,depth=2,heads=3,mlp=48,patch=4,image=8,registers=2)");
  EXPECT_EQ(m.params.shape("reg_token").size(), 48);
  EXPECT_EQ(ModelByName(m.architecture()), m.config);
}

}  // namespace
}  // namespace graft::vit_forms_test
