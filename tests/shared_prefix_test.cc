// Candidates that share the values of their first layers are measured to the same bits as those
// that share nothing.
#include "search/shared_prefix.h"

#include <gtest/gtest.h>

#include "adapters/method_graph.h"
#include "models/files/checkpoint.h"
#include "runtime/cpu.h"
#include "runtime/rng.h"
#include "runtime/threads.h"
#include "search/supernet.h"

namespace graft::shared_prefix_test {
namespace {

constexpr int kDepth = 4;
constexpr size_t kExamples = 21;

class SharedPrefix : public ::testing::Test {
 protected:
  void SetUp() override { SetThreads(1); }
  void TearDown() override { SetThreads(DefaultThreads()); }
  void Make(const std::string& space) {
    model_ = LoadModel("init:vit(width=16,depth=4,heads=2,mlp=32,patch=8,image=16,classes=5)");
    data_ = MakeRandomData(kExamples, model_, 3);
    space_.emplace(ParseSpace(WrittenOut(space, "", kDepth)), model_.config, model_.params);
    supernet_.emplace(*space_, model_.config, model_.params,
                      SupernetOptions{.capacity = {4, 0}, .seed = 5});
    for (const auto& [name, shape] : space_->storage()) {
      std::vector<float> values(static_cast<size_t>(shape.size()));
      FillNormal(values, {MakeKey(1, Purpose::kData, name)}, 0, 0.3f);
      model_.params.Set(name, shape, values);
    }
  }
  Graph GraphOf(const Genes& genes, ParamStore* params) const {
    *params = CandidateParams(*space_, model_.config, genes, model_.params);
    return FoldedCandidate(model_.config, space_->MethodOf(genes), *params, 5, InferencePasses());
  }
  std::vector<Prefix> PrefixesOfGenes(const Genes& genes) const {
    ParamStore params;
    const Graph g = GraphOf(genes, &params);
    return PrefixesOf(g, params);
  }
  // The keys of the residuals "blocks.B.x1" and "blocks.B.y".
  static std::map<std::string, std::string> KeysOfBlocks(const Graph& g, const ParamStore& params) {
    std::map<std::string, std::string> keys;
    for (const Prefix& prefix : PrefixesOf(g, params))
      if (const std::string& name = g.value(prefix.cut.value).name;
          name.starts_with("blocks.") && (name.ends_with(".x1") || name.ends_with(".y")))
        keys[name] = prefix.key;
    return keys;
  }
  std::map<std::string, std::string> KeysOfBlocks(const Genes& genes) const {
    ParamStore params;
    const Graph g = GraphOf(genes, &params);
    return KeysOfBlocks(g, params);
  }
  // Draws of the paths, and for each one that differs from it in one gene.
  std::vector<Genes> Generation(int64_t pairs) const {
    std::vector<Genes> all;
    for (int64_t i = 0; i < pairs; ++i) {
      all.push_back(supernet_->PathAt(i));
      Genes other = all.back();
      const size_t at = other.size() - 1 - static_cast<size_t>(i) % other.size();
      other[at] = (other[at] + 1) % space_->genes()[at].choices;
      all.push_back(space_->Canonical(std::move(other)));
    }
    return all;
  }
  // Measures them with sharing, and compares with a measurement of each alone.
  void ExpectSameBits(SharedPrefixes& shared, const std::vector<Genes>& generation) {
    std::vector<std::vector<Prefix>> expected;
    for (const Genes& genes : generation) expected.push_back(PrefixesOfGenes(genes));
    shared.Expect(std::move(expected));
    for (size_t i = 0; i < generation.size(); ++i) {
      ParamStore params;
      const Graph g = GraphOf(generation[i], &params);
      const Metrics together = shared.Measure(g, params);
      const Metrics alone = Evaluator(g, params, kOptions).Run(*data_);
      EXPECT_EQ(together.loss, alone.loss) << i;
      EXPECT_EQ(together.accuracy, alone.accuracy) << i;
      EXPECT_EQ(together.n, alone.n);
    }
    EXPECT_EQ(shared.held_bytes(), 0u) << "nobody wants it any more";
  }

  const SessionOptions kOptions{.capacity = {4, 0}};
  LoadedModel model_;
  std::unique_ptr<BatchSource> data_;
  std::optional<BoundSpace> space_;
  std::optional<Supernet> supernet_;
};

TEST_F(SharedPrefix, TheSameBitsWithLessWork) {
  for (const char* space :
       {"glora", "noah", "lora(r={0|2|4},targets=attn.*|mlp.*)+adaptformer(r={0|3})",
        "vpt-deep(tokens={0|2|3})", "lora(r={1|2},targets=blocks.3.*)",
        "vpt(tokens={0|1|2})+lora(r={1|2},targets=attn.q)"}) {
    SCOPED_TRACE(space);
    Make(space);
    SharedPrefixes shared(*data_, kOptions);
    ExpectSameBits(shared, Generation(4));
    EXPECT_EQ(shared.passes(), 8);
    EXPECT_GT(shared.shared_passes(), 0.7);
  }
}

// Also where a candidate that shares nothing is still to come.
TEST_F(SharedPrefix, WhatNobodyWantsIsForgottenAtOnce) {
  Make("adaptformer(r={1|2})");
  SharedPrefixes shared(*data_, kOptions);
  const std::vector<Genes> pair = Generation(1);
  shared.Expect({PrefixesOfGenes(pair[0]), PrefixesOfGenes(pair[1]), {}});
  const auto measure = [&](const Genes& genes) {
    ParamStore params;
    const Graph g = GraphOf(genes, &params);
    shared.Measure(g, params);
    return shared.held_bytes();
  };
  EXPECT_GT(measure(pair[0]), 0u);
  EXPECT_EQ(measure(pair[1]), 0u);
}

// Each alone is measured on one worker.
TEST_F(SharedPrefix, TheSameBitsOnAnyThreads) {
  Make("lora(r={0|2|4},targets=attn.*)+adaptformer(r={0|3})");
  for (const int threads : {2, 3}) {
    SetThreads(threads);
    SessionOptions options = kOptions;
    options.workers = threads;
    SharedPrefixes shared(*data_, options);
    ExpectSameBits(shared, Generation(2));
    EXPECT_GT(shared.shared_passes(), 0);
  }
}

// Those that differ in the bottleneck of a block agree up to its attention: embedding, and two
// residuals of each block before.
TEST_F(SharedPrefix, AgreeUpToTheFirstDifference) {
  Make("adaptformer(r={1|2})");
  const Genes base(kDepth, 0);
  const std::map<std::string, std::string> first = KeysOfBlocks(base);
  ASSERT_EQ(first.size(), 2u * kDepth);
  const auto agree = [&](const std::map<std::string, std::string>& second, int block) {
    for (int b = 0; b < kDepth; ++b)
      for (const char* value : {"x1", "y"}) {
        const std::string name = fmt::format("blocks.{}.{}", b, value);
        const bool before = b < block || (b == block && value == std::string("x1"));
        EXPECT_EQ(first.at(name) == second.at(name), before) << name << " of " << block;
      }
  };
  for (int block = 0; block < kDepth; ++block) {
    Genes other = base;
    other[static_cast<size_t>(block)] = 1;
    agree(KeysOfBlocks(other), block);
  }
  // The same method with another weight agrees nowhere behind it.
  model_.params.Mutable("blocks.1.mlp.adaptformer_down")[0] += 1;
  agree(KeysOfBlocks(base), 1);
}

// Four that differ in the last block only: the first computes the other blocks, three are spared.
TEST_F(SharedPrefix, SparesWhatIsTheSame) {
  Make("lora(r={1|2|3|4},targets=blocks.3.mlp.fc2)");
  const std::vector<Genes> generation{{0}, {1}, {2}, {3}};
  SharedPrefixes shared(*data_, kOptions);
  ExpectSameBits(shared, generation);
  const double before = shared.shared_passes() / 3;
  EXPECT_GT(before, 0.75);
  EXPECT_LT(before, 1);
}

// What has no room is not kept, and the bits stay.
TEST_F(SharedPrefix, StaysWithinItsBytes) {
  Make("noah");
  const std::vector<Genes> generation = Generation(6);
  size_t one = 0;  // the values of a residual, of a candidate without prompts at least
  for (const size_t bytes : {size_t{0}, kExamples * 5 * 16 * sizeof(float)}) {
    SharedPrefixes shared(*data_, kOptions, bytes);
    ExpectSameBits(shared, generation);
    one = bytes;
    EXPECT_LE(shared.held_bytes(), one);
    if (bytes == 0) {
      EXPECT_EQ(shared.shared_passes(), 0);
    }
  }
}

// The same operators on the same weights, of another attribute.
TEST_F(SharedPrefix, AttributesCount) {
  Make("lora(r={1|2},targets=blocks.3.*)");
  ParamStore params;
  Graph g = GraphOf(Genes(space_->genes().size(), 0), &params);
  const std::map<std::string, std::string> before = KeysOfBlocks(g, params);
  const std::vector<NodeId> order = g.TopoOrder();
  const auto norm =
      std::ranges::find_if(order, [&](NodeId id) { return g.node(id).op->name == "layer_norm"; });
  ASSERT_NE(norm, order.end());
  const Node first = g.node(*norm);
  g.ReplaceUses(first.out[0], g.Add(*first.op, first.in, first.attrs.With("eps", "0.5"))[0]);
  g.EraseDead();
  const std::map<std::string, std::string> after = KeysOfBlocks(g, params);
  ASSERT_EQ(after.size(), 2u * kDepth);
  for (const auto& [name, key] : after) EXPECT_NE(before.at(name), key) << name;
}

// A residual stream can be cut where nothing goes around it, and the halves are the whole.
TEST_F(SharedPrefix, CutPointsAreWhereNothingGoesAround) {
  Make("lora(r={1|2},targets=blocks.3.*)");
  ParamStore params = model_.params;
  const Graph g = MethodGraph(model_.config, {.loss = true}, ParseMethod("linear"), params, 0);
  constexpr std::string_view kImage[] = {"image"};
  const std::vector<CutPoint> points = CutPoints(g, kImage);
  int streams = 0;
  for (const CutPoint& point : points) {
    const std::string& name = g.value(point.value).name;
    streams += name.ends_with(".x1") || name.ends_with(".y");
    EXPECT_FALSE(name.ends_with(".q")) << name;
  }
  EXPECT_EQ(streams, 2 * kDepth);
  EXPECT_TRUE(std::ranges::is_sorted(points, {}, &CutPoint::work));
  EXPECT_LE(points.back().work, 1);

  const auto run = [&](const Graph& graph, const std::string& input,
                       const std::vector<float>& values, const std::string& output) {
    Session session(graph, params, {.capacity = {2, 0}});
    if (session.HasInput(input)) std::ranges::copy(values, session.Input(input).f32());
    session.Run({2, 0});
    const Tensor t = session.Output(output);
    return std::vector<float>(t.f32(), t.f32() + t.shape.size());
  };
  std::vector<float> images(2 * 3 * 16 * 16);
  FillNormal(images, {MakeKey(4, Purpose::kData, "images")}, 0, 1);
  const std::vector<float> losses = run(g, "image", images, "losses");
  for (const CutPoint& point : points) {
    const FrozenCut cut = CutAt(g, point.value);
    const std::vector<float> features = run(cut.frozen, "image", images, "features");
    EXPECT_EQ(run(cut.rest, "features", features, "losses"), losses) << point.work;
  }
}

TEST_F(SharedPrefix, TextsShareNothing) {
  LoadedModel bert = LoadModel("init:bert(vocab=60,width=16,depth=2,heads=2,mlp=32,positions=64)");
  const Graph g = InferenceGraph(bert.config, {{"linear", {}}}, bert.params, 0, true);
  EXPECT_TRUE(PrefixesOf(g, bert.params).empty());
}

}  // namespace
}  // namespace graft::shared_prefix_test
