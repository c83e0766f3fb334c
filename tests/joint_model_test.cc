// Joins several adapters of one base in one graph: each gives the logits that it gives alone, what
// they share is computed once, and memory grows by what is an adapter's own.
#include "adapters/joint_model.h"

#include <gmock/gmock.h>

#include "adapters/adapter_file.h"
#include "adapters/base_hash.h"
#include "adapters/method_graph.h"
#include "runtime/io/npz.h"
#include "runtime/rng.h"
#include "tests/cli_testing.h"
#include "train/evaluator.h"

namespace graft::joint_model_test {
namespace {

using ::testing::HasSubstr;

// What a training might have left: everything that the method trains is moved by noise.
struct AdapterSpec {
  const char* method;
  int classes = 3;
  uint64_t seed = 1;
  const char* preprocess = "";
};

std::string WriteNoise(const TempDir& dir, const std::string& name, const std::string& base,
                       const AdapterSpec& spec) {
  AdapterFacts c;
  c.model = base, c.method = spec.method, c.seed = static_cast<int64_t>(spec.seed);
  c.base_sha256 = BaseHash(base);
  for (int i = 0; i < spec.classes; ++i) c.labels.push_back(fmt::format("{}-{}", name, i));
  if (const LoadedModel plain = LoadModel(base, "", 0); !plain.is_bert())
    c.preprocess = ToString(ChoosePreprocess(spec.preprocess, plain, InputKind::kDataset).value);
  LoadedModel m = OpenAdapted(c);
  const Graph g = MethodGraph(m.config, {}, ParseMethod(c.method), m.params, spec.seed);
  std::vector<std::string> names;
  for (ValueId v : g.Trainable()) {
    names.push_back(g.value(v).name);
    const size_t size = static_cast<size_t>(At(g.shape(v), {}).size());
    std::vector<float> noise(size);
    FillNormal(noise, {MakeKey(spec.seed, Purpose::kData, names.back())}, 0, 0.05);
    float* values = m.params.Mutable(names.back());
    for (size_t i = 0; i < size; ++i) values[i] += noise[i];
  }
  WriteAdapter(dir / name, m.params, names, ModelMetadata(m, c), c.seed);
  return dir / name;
}

JointModel Open(const std::string& base, const std::vector<std::string>& adapters) {
  ModelChoice choice;
  choice.model = base;
  return OpenJointModel(choice, adapters, InputKind::kDataset);
}

std::vector<std::vector<float>> LogitsOf(JointModel& joint) {
  const auto data = MakeRandomData(5, joint.first().model, 7);
  std::vector<std::string> outputs;
  for (const JointModel::Member& m : joint.members) outputs.push_back(m.output);
  const SessionOptions options = InferenceOptions(
      joint.graph, joint.params, joint.first().model.config, *data, "", PassNames());
  return Evaluator(joint.graph, joint.params, options, PassNames()).Outputs(*data, outputs);
}

class Joint : public ::testing::TestWithParam<const char*> {
 protected:
  std::string base() const { return kFixtures + GetParam(); }
  std::string Write(const AdapterSpec& spec) {
    return WriteNoise(dir_, fmt::format("adapter-{}", count_++), base(), spec);
  }
  JointModel OpenThese(const std::vector<AdapterSpec>& specs) {
    adapters_.clear();
    for (const AdapterSpec& spec : specs) adapters_.push_back(Write(spec));
    return Open(base(), adapters_);
  }
  TempDir dir_;
  std::vector<std::string> adapters_;

 private:
  int count_ = 0;
};

// Logits are equal to the bit, as the kernels and their order within an adapter are the same.
TEST_P(Joint, EachAdapterGivesItsOwnLogits) {
  const std::vector<AdapterSpec> methods[] = {
      {{"lora(r=2)", 3, 1}, {"lora(r=3)", 4, 2}},
      {{"linear", 3, 1}, {"last(k=1)", 5, 2}, {"lora(r=2,targets=mlp.fc1)", 2, 3}},
      {{"bitfit", 3, 1}, {"ln", 3, 2}, {"full", 3, 3}, {"linear", 3, 4}},
      {{"lora(r=2,targets=blocks.1.attn.v)+bitfit", 3, 1}, {"last(k=1)", 3, 2}}};
  for (const std::vector<AdapterSpec>& specs : methods) {
    JointModel joint = OpenThese(specs);
    const auto together = LogitsOf(joint);
    ASSERT_EQ(together.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      JointModel alone = Open(base(), {adapters_[i]});
      ASSERT_EQ(alone.members.size(), 1u);
      EXPECT_EQ(together[i], LogitsOf(alone)[0]) << specs[i].method;
      EXPECT_EQ(together[i].size(), 5u * static_cast<size_t>(specs[i].classes));
      EXPECT_EQ(joint.members[i].opened.labels()[1],
                fmt::format("{}-1", adapters_[i].substr(adapters_[i].rfind('/') + 1)));
    }
  }
}

// Adapters change which values are read together, and with it what a pass may put into one kernel:
// each must keep the kernels that it has alone.
void ExpectOwnBits(const std::string& base, const std::vector<std::string>& adapters,
                   const std::vector<std::vector<float>>& alone,
                   const std::vector<size_t>& chosen) {
  std::vector<std::string> names;
  std::string text;
  for (const size_t i : chosen) {
    names.push_back(adapters[i]);
    text += fmt::format("{} ", i);
  }
  JointModel joint = Open(base, names);
  const auto together = LogitsOf(joint);
  for (size_t i = 0; i < chosen.size(); ++i)
    EXPECT_EQ(together[i], alone[chosen[i]]) << "adapter " << chosen[i] << " among " << text;
}

void ExpectOwnBitsInEveryPair(const TempDir& dir, const std::string& base,
                              const std::vector<const char*>& methods) {
  std::vector<std::string> adapters;
  std::vector<std::vector<float>> alone;
  for (size_t i = 0; i < methods.size(); ++i) {
    adapters.push_back(
        WriteNoise(dir, fmt::format("pair-{}", i), base, {methods[i], 3, 1 + i % 3}));
    JointModel one = Open(base, {adapters.back()});
    alone.push_back(LogitsOf(one)[0]);
  }
  std::vector<size_t> all;
  for (size_t i = 0; i < methods.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      ExpectOwnBits(base, adapters, alone, {i, j});
      ExpectOwnBits(base, adapters, alone, {j, i, (i + j) % methods.size()});
    }
    all.push_back(i);
  }
  ExpectOwnBits(base, adapters, alone, all);
}

TEST_P(Joint, EveryPairGivesItsOwnBits) {
  ExpectOwnBitsInEveryPair(
      dir_, base(),
      {"linear", "last(k=1)", "bitfit", "ln", "full", "lora(r=2)", "lora(r=30,targets=attn.q)",
       "lora(r=2,targets=*)", "lora(r=2,targets=mlp.fc1|attn.o)+ln", "lora(r=3,bias=all)",
       "lora(r=2,targets=blocks.1.attn.v)+bitfit"});
}

// Sums over more than one block of a kernel, where the order in which terms are added shows.
TEST(JointBits, OfAWiderModel) {
  const TempDir dir;
  LoadedModel model = LoadModel("init:vit_nano_patch8_32");
  VitConfig& c = model.vit();
  c.width = 640, c.depth = 2, c.heads = 8, c.mlp_width = 1280;
  model.params = {};
  InitModel(model.config, model.params, 1);
  SaveModel(model, model.params, dir / "wide.safetensors", ModelFacts(model));
  ExpectOwnBitsInEveryPair(dir, dir / "wide.safetensors",
                           {"linear", "bitfit", "lora(r=4)", "lora(r=4,targets=mlp.fc2|attn.o)",
                            "lora(r=4,targets=blocks.1.attn.v)"});
}

size_t NodesAlone(const JointModel& joint) {
  size_t most = 0;
  for (const JointModel::Member& m : joint.members) most = std::max(most, m.own.nodes);
  return most + joint.shared_nodes;
}

// Nodes of the model's graph in these scopes.
size_t NodesIn(const JointModel& joint, const std::string& scope) {
  Graph g = BuildModel(joint.first().model.config);
  InferencePasses().Run(g);
  size_t count = 0;
  for (NodeId n : g.TopoOrder()) count += g.node(n).scope.starts_with(scope);
  return count;
}

TEST_P(Joint, EverythingBeforeTheFirstAdaptedNodeIsShared) {
  // These are heads alone, each a product with its bias.
  const JointModel linear = OpenThese({{"linear", 3, 1}, {"linear", 4, 2}, {"linear", 5, 3}});
  for (const JointModel::Member& m : linear.members) EXPECT_EQ(m.own.nodes, 1u);
  EXPECT_EQ(linear.shared_nodes + 3, linear.graph.live_nodes());
  EXPECT_EQ(linear.shared_nodes + 1, OpenThese({{"linear"}}).graph.live_nodes());

  // Branches in the last block: the blocks before it are shared, and in it the first norm of a ViT.
  const char* last = "lora(r=2,targets=blocks.1.attn.q|blocks.1.attn.v)";
  const JointModel late = OpenThese({{last, 3, 1}, {last, 3, 2}});
  const JointModel early = OpenThese({{"lora(r=2)", 3, 1}, {"lora(r=2)", 3, 2}});
  EXPECT_GT(late.shared_nodes, early.shared_nodes + NodesIn(late, "blocks.0") / 2);
  EXPECT_GT(early.shared_nodes, 0u);
  EXPECT_EQ(late.members[0].own.nodes, late.members[1].own.nodes);
  EXPECT_EQ(NodesAlone(late), OpenThese({{last}}).graph.live_nodes());
}

TEST_P(Joint, TheSameAdapterTwiceIsComputedOnce) {
  const std::string a = Write({"lora(r=2)"});
  JointModel joint = Open(base(), {a, a});
  EXPECT_EQ(joint.members[1].name, a + "#2");
  EXPECT_EQ(joint.members[0].own.nodes + joint.members[1].own.nodes, 0u);
  EXPECT_EQ(joint.shared_nodes, Open(base(), {a}).graph.live_nodes());
  const auto logits = LogitsOf(joint);
  EXPECT_EQ(logits[0], logits[1]);
}

// The base's tensors stay views of one mapping; owned memory and packed weights grow by what is an
// adapter's own.
TEST_P(Joint, StoresGrowByTheAdaptersOnly) {
  const AdapterSpec specs[] = {{"lora(r=2)", 3, 1}, {"lora(r=2)", 3, 2}, {"lora(r=2)", 3, 3}};
  JointModel two = OpenThese({specs[0], specs[1]});
  JointModel three = OpenThese({specs[0], specs[1], specs[2]});
  const size_t own = static_cast<size_t>(three.members[2].own.values) * sizeof(float);
  const auto total = [](const JointModel& m) {
    return m.params.bytes().owned + m.params.bytes().viewed;
  };
  EXPECT_EQ(total(three), total(two) + own);
  EXPECT_LE(three.params.bytes().owned, two.params.bytes().owned + own);
  const auto packed = [](JointModel& m) {
    return Session(m.graph, m.params, {.capacity = {1, 16}}).packed_bytes();
  };
  JointModel one = Open(base(), {adapters_[0]});
  // Panels have whole vectors, so a factor of rank 2 takes more than its numbers.
  const size_t of_one_more = packed(three) - packed(two);
  EXPECT_EQ(packed(two) - packed(one), of_one_more);
  EXPECT_LT(of_one_more, packed(one) / 2);
  // Nothing else is there: the base's tensors once, and what each adapter brought.
  const LoadedModel plain = LoadModel(base(), "", 0);
  size_t expected = 0;
  for (const std::string& name : plain.params.names())
    if (three.params.Has(name)) expected += plain.params.values(name).size_bytes();
  for (const JointModel::Member& m : three.members)
    expected += static_cast<size_t>(m.own.values) * sizeof(float);
  EXPECT_EQ(total(three), expected);
}

INSTANTIATE_TEST_SUITE_P(Models, Joint, ::testing::Values("tiny_vit_hf", "tiny_bert_hf"),
                         [](const auto& info) {
                           return std::string(info.param).substr(5, 3) == "vit" ? "Vit" : "Bert";
                         });

TEST(JointErrors, NameBothAdapters) {
  const std::string base = kFixtures + "tiny_vit_hf";
  const TempDir dir;
  const std::string a = WriteNoise(dir, "a", base, {"linear"});
  const std::string b = WriteNoise(
      dir, "b", base,
      {.method = "linear", .preprocess = "resize=32,filter=bilinear,mean=0|0|0,std=1|1|1"});
  const std::string message = MessageOf([&] { Open(base, {a, b}); });
  for (const std::string& part : {a, b, std::string("preprocessing"), std::string("--preprocess")})
    EXPECT_THAT(message, HasSubstr(part));
  EXPECT_THAT(MessageOf([&] { Open(base, {a, dir / "none"}); }), HasSubstr(dir / "none"));
  // This adapter was trained on another base.
  const std::string other = WriteNoise(dir, "other", kFixtures + "tiny_deit_hf", {"linear"});
  const std::string refused = MessageOf([&] { Open(base, {a, other}); });
  EXPECT_THAT(refused, HasSubstr("another base"));
  EXPECT_THAT(refused, HasSubstr(other));
}

using namespace cli;

class JointAdapters : public ::testing::Test {
 protected:
  std::string Adapter(const std::string& base, const AdapterSpec& spec) {
    return WriteNoise(dir_, fmt::format("a{}", count_++), base, spec);
  }
  std::vector<std::string> Predict(const std::string& base,
                                   const std::vector<std::string>& adapters,
                                   const std::vector<std::string>& more) const {
    std::vector<std::string> args{"predict", "--model", base, image_};
    for (const std::string& a : adapters) args.insert(args.end(), {"--adapter", a});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  TempDir dir_;
  std::string image_ = kFixtures + "images/rgb8.png";

 private:
  int count_ = 0;
};

TEST_F(JointAdapters, PredictSaysWhatEachSays) {
  const std::string base = kFixtures + "tiny_vit_hf";
  const std::string a = Adapter(base, {"lora(r=2)", 3, 1}), b = Adapter(base, {"linear", 4, 2});
  const nlohmann::json joint =
      GraftJson(Predict(base, {a, b}, {image_, "--logits", dir_ / "l.npz"}));
  ASSERT_EQ(joint["predictions"].size(), 2u);
  const NpzFile logits = NpzFile::Open(dir_ / "l.npz");
  for (size_t m = 0; m < 2; ++m) {
    const std::string& adapter = m == 0 ? a : b;
    const nlohmann::json alone =
        GraftJson(Predict(base, {adapter}, {image_, "--logits", dir_ / "l.npy", "--force"}));
    for (const nlohmann::json& p : joint["predictions"]) {
      EXPECT_EQ(p["adapters"][m]["adapter"], adapter);
      EXPECT_EQ(p["adapters"][m]["top"], alone["predictions"][0]["top"]);
    }
    const NpyArray of_alone = ReadNpy(dir_ / "l.npy");
    const NpyArray found = logits.Read(*logits.Find(fmt::format("logits_{}", m)));
    EXPECT_EQ(found.shape, of_alone.shape);
    EXPECT_EQ(found.values, of_alone.values);
    EXPECT_EQ(joint["adapters"][m]["classes"], m == 0 ? 3 : 4);
  }
  EXPECT_EQ(joint["nodes"], joint["shared_nodes"].get<int>() +
                                joint["adapters"][0]["own_nodes"].get<int>() +
                                joint["adapters"][1]["own_nodes"].get<int>());
  const Outcome text = Graft(Predict(base, {a, b}, {}));
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* part : {"2 adapters", "shared", a.c_str(), b.c_str(), "a1-3"})
    EXPECT_THAT(text.out, HasSubstr(part));
  const Outcome refused = Graft(Predict(base, {a, b}, {"--logits", dir_ / "l.npy"}));
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("hint: name an .npz"));
}

// A run is an adapter of its base, too.
TEST_F(JointAdapters, ARunOnTheBaseIsAnAdapter) {
  MakeData(dir_ / "data");
  for (const char* run : {"r1", "r2"})
    ASSERT_EQ(Graft(TrainArgs(dir_ / "data", dir_ / run,
                              {"--limit", "16", "--lr", run[1] == '1' ? "1e-3" : "1e-2"}))
                  .code,
              0);
  const nlohmann::json joint = GraftJson(Predict(kNano, {dir_ / "r1", dir_ / "r2"}, {}));
  for (size_t m = 0; m < 2; ++m) {
    const nlohmann::json alone =
        GraftJson({"predict", "--run", dir_ / (m == 0 ? "r1" : "r2"), image_});
    EXPECT_EQ(joint["predictions"][0]["adapters"][m]["top"], alone["predictions"][0]["top"]);
  }
  EXPECT_GT(joint["shared_nodes"], 0);
  // Images of another size than the run's: its positions are resampled for them.
  const nlohmann::json large =
      GraftJson({"predict", "--run", dir_ / "r1", image_, "--preprocess", "vtab,resize=64"});
  EXPECT_NE(large["predictions"][0]["top"], joint["predictions"][0]["adapters"][0]["top"]);
  const Outcome refused = Graft(Predict("init:vit_nano_patch4_32", {dir_ / "r1", dir_ / "r2"}, {}));
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("a run on init:vit_nano_patch8_32"));
}

// Weights of 22 MB: six adapters more take less than one copy of them, of which each would need two
// (the file's bytes and the packed panels).
TEST_F(JointAdapters, ResidentMemoryGrowsByTheAdaptersOnly) {
  if (!kMeasureMemory) GTEST_SKIP() << "what sanitizers keep is resident, too";
  const std::string base = dir_ / "base/model.safetensors";
  ASSERT_EQ(Graft({"export", "--model", "init:deit_tiny_patch16_224", "--format", "timm", "--out",
                   dir_ / "base"})
                .code,
            0);
  std::vector<std::string> adapters;
  for (uint64_t seed = 0; seed < 8; ++seed)
    adapters.push_back(Adapter(base, {"lora(r=4)", 10, seed}));
  const auto peak = [&](size_t n) {
    size_t least = SIZE_MAX;  // of three: huge pages and thread stacks vary
    for (int i = 0; i < 3; ++i) {
      const Outcome o = Graft(Predict(
          base, {adapters.begin(), adapters.begin() + static_cast<ptrdiff_t>(n)}, {"--quiet"}));
      EXPECT_EQ(o.code, 0) << o.err;
      least = std::min(least, o.peak_bytes);
    }
    return least;
  };
  const size_t base_bytes = fs::file_size(base), two = peak(2), eight = peak(8);
  EXPECT_LT(eight, two + base_bytes);
  EXPECT_GT(two, base_bytes);
}

}  // namespace
}  // namespace graft::joint_model_test
