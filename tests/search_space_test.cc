// Search spaces: their text, their candidates as METHODs, and what candidates count.
#include <gtest/gtest.h>

#include <cmath>

#include "adapters/method_graph.h"
#include "runtime/rng.h"
#include "search/candidates.h"
#include "search/choices.h"
#include "search/space.h"
#include "tests/peft_cases.h"
#include "tests/test_util.h"

namespace graft::search_space_test {
namespace {

ParamStore BaseParams() {
  ParamStore params;
  InitModel(kTiny, params, 3);
  return params;
}

BoundSpace Bind(const std::string& text) {
  return BoundSpace(ParseSpace(WrittenOut(text, "", 3)), kTiny, BaseParams());
}

Genes Drawn(const BoundSpace& space, uint32_t i) {
  Genes genes;
  const StreamKey key{MakeKey(1, Purpose::kData, "genes"), 0, i};
  for (const Gene& gene : space.genes())
    genes.push_back(
        static_cast<int>(RandomWord(key, genes.size()) % static_cast<uint32_t>(gene.choices)));
  return space.Canonical(genes);
}

constexpr const char* kSpaces[] = {
    "glora",
    "lora(r={0|2|4},targets=attn.*)+adaptformer(r={0|3},scale={0.1|1})+ln",
    "lora(r={1|2},targets=attn.q|mlp.*,blocks={0|0-1|0-2})",
    "glora(r={1|2},a={lora|none},b=none,c=none,d={vector|none},e=none,targets=mlp.*)",
    "vpt(tokens={2|5})+pfeiffer(r={0|2},act={relu|gelu})",
    "noah",
    "vpt-deep(tokens={0|2|3})",
    "parallel(r={0|2|4},site=attn)+houlsby(r={2|3},blocks={0-1|2})"};

TEST(SearchSpace, CountsAreThoseOfTheGraph) {
  for (const char* text : kSpaces) {
    const BoundSpace space = Bind(text);
    for (uint32_t i = 0; i < 12; ++i) {
      const Genes genes = Drawn(space, i);
      const Method method = space.MethodOf(genes);
      ParamStore params = BaseParams();
      const Graph g = MethodGraph(kTiny, {}, method, params, 0);
      EXPECT_EQ(TrainableCount(g) - 5 * 13, space.Parameters(genes)) << ToString(method);
      EXPECT_EQ(ParseMethod(ToString(method)), method);
      EXPECT_EQ(space.Canonical(genes), genes);
      EXPECT_LE(space.SmallestParameters(), space.Parameters(genes));
    }
  }
}

TEST(SearchSpace, GloraHas432ChoicesForALayer) {
  const BoundSpace space = Bind("glora");
  ASSERT_EQ(space.places(0).size(), 12u);
  EXPECT_EQ(space.places(0)[0].name, "blocks.0.attn.qkv");
  EXPECT_EQ(space.places(0)[0].value, "blocks.0.attn.q|blocks.0.attn.k|blocks.0.attn.v");
  EXPECT_NEAR(space.log10_candidates(), 12 * std::log10(432), 1e-9);
  EXPECT_EQ(space.SmallestParameters(), 0);
  EXPECT_EQ(space.storage().at("blocks.1.mlp.fc1.glora_a_down"), (Extents{20, 4}));
  EXPECT_EQ(space.storage().at("blocks.1.mlp.fc1.glora_a_up"), (Extents{4, 12}));
  EXPECT_EQ(space.storage().at("blocks.0.attn.qkv.glora_d"), (Extents{36}));
  const BoundSpace two(ParseSpace(WrittenOut("glora", "8,4", 3)), kTiny, BaseParams());
  EXPECT_NEAR(two.log10_candidates(), 12 * std::log10(5 * 5 * 4 * 3 * 3), 1e-9);
  EXPECT_EQ(two.storage().at("blocks.1.mlp.fc1.glora_a_up"), (Extents{8, 12}));
}

TEST(SearchSpace, CandidatesAreMethodsByPlace) {
  const BoundSpace space = Bind("lora(r={0|2|4},targets=attn.q|attn.v)+adaptformer(r={0|3})");
  ASSERT_EQ(space.genes().size(), 6u + 3u);
  EXPECT_EQ(ToString(space.MethodOf({1, 2, 0, 1, 1, 0, 0, 1, 1})),
            "lora(r=2,targets=blocks.0.attn.q|blocks.1.attn.v|blocks.2.attn.q)+"
            "lora(r=4,targets=blocks.0.attn.v)+adaptformer(blocks=1|2,r=3)");
  EXPECT_EQ(ToString(space.MethodOf(Genes(9, 0))), "linear");
  EXPECT_EQ(space.Parameters(Genes(9, 0)), 0);
  EXPECT_EQ(ChoicesText(space, {1, 2, 0, 1, 1, 0, 0, 1, 1}),
            "block    lora attn.q  lora attn.v  adaptformer\n"
            "0        2            4            -\n"
            "1        -            2            3\n"
            "2        2            -            3\n");
  const std::string svg = ChoicesSvg(space, {1, 2, 0, 1, 1, 0, 0, 1, 1});
  EXPECT_NE(svg.find(">adaptformer</text>"), std::string::npos);
}

// What counts for nothing is the same, whatever was drawn for it.
TEST(SearchSpace, EqualCandidatesHaveEqualGenes) {
  const BoundSpace space = Bind(
      "lora(r={2|0},alpha={1|8},targets=attn.q)+"
      "houlsby(r={2|3},blocks={0|0-2})");
  // There are three places of two options, and the gene of its own, then three places.
  ASSERT_EQ(space.genes().size(), 6u + 4u);
  EXPECT_EQ(space.Canonical({1, 1, 0, 0, 0, 1, 1, 0, 1, 1}),
            space.Canonical({0, 1, 0, 0, 1, 1, 1, 0, 1, 1}));
  const Genes shallow = space.Canonical({0, 0, 0, 0, 0, 0, 0, 1, 1, 1});
  EXPECT_EQ(shallow, (Genes{0, 0, 0, 0, 0, 0, 0, 1, 0, 0}));
  const Population p = PopulationOf(space);
  ASSERT_EQ(p.components.size(), 1u);
  EXPECT_EQ(p.components[0].own, 6u);
  EXPECT_EQ(p.components[0].genes, (std::vector<size_t>{7, 8, 9}));
  EXPECT_EQ(p.components[0].active[0], (std::vector<bool>{true, false, false}));
}

// The tokens of a block end where the next has some, so they are one term.
TEST(SearchSpace, PromptsAreAListByBlock) {
  const BoundSpace space = Bind("vpt-deep(tokens={0|2|3})");
  EXPECT_EQ(ToString(space.MethodOf({1, 0, 2})), "vpt-deep(tokens=2|0|3)");
  EXPECT_EQ(ToString(space.MethodOf({0, 0, 0})), "linear");
  EXPECT_EQ(space.Parameters({1, 0, 2}), 5 * 12);
  const BoundSpace noah = Bind("noah");
  ASSERT_EQ(noah.genes().size(), 3u * (1 + 3));
  EXPECT_EQ(ToString(noah.MethodOf({0, 2, 0, 0, 1, 1, 2, 0, 2, 0, 1, 2})),
            "lora(fused=true,r=10,targets=blocks.0.attn.q|blocks.0.attn.k|blocks.0.attn.v)+"
            "houlsby(act=quick_gelu,blocks=0,r=5,site=mlp)+"
            "houlsby(act=quick_gelu,blocks=1,r=10,site=mlp)+vpt-deep(tokens=1|5|10)");
  EXPECT_EQ(PopulationOf(noah).components.size(), 3u);
}

TEST(SearchSpace, SmallestIsTheSmallest) {
  const BoundSpace space = Bind("lora(r={2|4},targets=attn.q)+adaptformer(r={0|3})");
  EXPECT_EQ(space.SmallestParameters(), 3 * 2 * 24);
  EXPECT_EQ(Bind("houlsby(r={2|3},blocks={0-1|0-2})").SmallestParameters(), 2 * 2 * Bottle(2));
}

TEST(SearchSpace, Mistakes) {
  const std::pair<const char*, const char*> cases[] = {
      {"lora(r=4)", "nothing to choose"},
      {"lora(r={4})", "one choice"},
      {"lora(r={2|2})", "'2' is there twice"},
      {"lora(r={2||4})", "a choice is empty"},
      {"lora(r={2|4)", "braces"},
      {"lora(r=2|{4|8})", "braces"},
      {"lorra(r={2|4})", "did you mean 'lora'?"},
      {"lora(rank={2|4})", "has no option 'rank'"},
      {"lora(r={2|many})", "option 'r': expected a number"},
      {"lora(r={2|-4})", "option 'r': expected a number from 1"},
      {"lora(r=2,targets={attn.q|attn.v})", "'targets' is no choice of a place"},
      {"lora(r={2|4},targets=attn.z)", "target 'attn.z' matches no layer"},
      {"lora(r={2|4},blocks={0-1|0-9})", "expected blocks from 0 to 2"},
      {"ssf(targets=*,head={trained|frozen})", "'head' is no choice"},
      {"bbt(tokens={2|4})", "without gradients"},
      {"vpt(tokens={2|4},blocks={0|1})", "has no option 'blocks'"},
      {"vpt-deep(tokens={2|4},dropout={0|0.1})",
       "choices of 'tokens' for each block, and no others"},
      {"houlsby(r={2|3},ln=true)", "of the model itself, which all candidates share"},
      {"houlsby(r=2,ln={true|false})", "of the model itself"},
      {"last(k={1|2})", "of the model itself"},
      {"lora(r={1|2},bias={none|lora_only})", "of the model itself"},
      {"noisytune(lambda={0.1|0.9})+lora", "edits the weights that all candidates share"},
      {"noisytune+lora(r={1|2})", "edits the weights that all candidates share"},
      {"nf4+lora(r={1|2})", "edits the weights that all candidates share"},
      {"childtuning(p={0.3|0.5})", "chooses which of the shared weights train"},
      {"lora(r={1|2})+calibration", "made of a model that has been trained"},
  };
  for (const auto& [text, message] : cases) {
    const std::string found = MessageOf([&, t = text] { Bind(t); });
    EXPECT_NE(found, "") << text;
    EXPECT_NE(found.find(message), std::string::npos) << text << ": " << found;
  }
  EXPECT_NE(MessageOf([] { WrittenOut("lora(r={2|4})", "8", 3); }), "");
  EXPECT_NE(MessageOf([] { WrittenOut("glora", "8,x", 3); }), "");
  EXPECT_NE(MessageOf([] { ParseSpace(WrittenOut("glora", "8,8", 3)); }), "");
}

// What a path trains of the model is trained on all of them, whatever they choose.
TEST(SearchSpace, WhatAllPathsTrainIsWelcome) {
  EXPECT_EQ(Bind("lora(r={1|2})+bitfit+last(k=1)").genes().size(),
            Bind("lora(r={1|2})").genes().size());
}

// More groups are smaller tensors.
TEST(SearchSpace, TheLargestTensorMayBeOfTheSmallestNumber) {
  const BoundSpace space = Bind("repadapter(r=4,groups={1|2})"),
                   one = Bind("repadapter(r={2|4},groups=1)");
  for (const auto& [name, shape] : one.storage()) {
    ASSERT_TRUE(space.storage().contains(name)) << name;
    for (int i = 0; i < shape.rank; ++i) EXPECT_GE(space.storage().at(name)[i], shape[i]) << name;
  }
}

TEST(SearchSpace, BlocksAreChosenByNumberAndRange) {
  const auto count = [](const char* method) {
    ParamStore params = BaseParams();
    return TrainableCount(MethodGraph(kTiny, {}, ParseMethod(method), params, 0)) - 5 * 13;
  };
  EXPECT_EQ(count("adaptformer(r=2,blocks=1)"), Bottle(2));
  EXPECT_EQ(count("adaptformer(r=2,blocks=0-1)+adaptformer(r=3,blocks=2)"),
            2 * Bottle(2) + Bottle(3));
  EXPECT_EQ(count("lora(r=2,blocks=0|2)"), 2 * 2 * 2 * 24);
  EXPECT_EQ(count("glora(a=none,b=lora_3,c=none,d=none,e=none,blocks=1,targets=mlp.fc1)"), 3 * 32);
  const auto refused = [](const char* method) {
    return MessageOf([&] {
      ParamStore params = BaseParams();
      MethodGraph(kTiny, {}, ParseMethod(method), params, 0);
    });
  };
  EXPECT_NE(refused("adaptformer(blocks=3)").find("from 0 to 2"), std::string::npos);
  EXPECT_NE(refused("adaptformer(blocks=a)").find("ranges such as 0-3"), std::string::npos);
  EXPECT_NE(refused("adaptformer(blocks=2-1)").find("found '2-1'"), std::string::npos);
  EXPECT_NE(refused("adaptformer(blocks=0)+adaptformer").find("would both branch off blocks.0"),
            std::string::npos);
  EXPECT_NE(refused("parallel(blocks=0)+parallel(r=2)").find("would both branch off blocks.0"),
            std::string::npos);
  EXPECT_NE(refused("glora(targets=attn.q)+glora(targets=attn.k)").find("would both branch off"),
            std::string::npos);
  EXPECT_NE(refused("vpt-deep(tokens=2|3)").find("each of the 3 blocks"), std::string::npos);
  EXPECT_NE(refused("vpt-deep(tokens=0|0|0)").find("no block has any"), std::string::npos);
  EXPECT_NE(refused("lora(fused=true)").find("expected q, k and v"), std::string::npos);
  EXPECT_NE(refused("lora(fused=true,targets=attn.*)+lora(targets=attn.q)").find("branch off"),
            std::string::npos);
  EXPECT_NE(refused("lora(targets=attn.q)+lora(fused=true,targets=attn.*)").find("branch off"),
            std::string::npos);
  EXPECT_NE(refused("glora(a=lora_x)").find("expected a number"), std::string::npos);
}

TEST(SearchSpace, FrontHasNoBeatenCandidate) {
  std::vector<Evaluated> all(5);
  const std::pair<int64_t, double> points[] = {{30, .7}, {10, .5}, {20, .5}, {20, .8}, {40, .9}};
  for (size_t i = 0; i < 5; ++i)
    all[i].parameters = points[i].first, all[i].fitness.accuracy = points[i].second;
  const std::vector<Evaluated> front = ParetoFront(all);
  ASSERT_EQ(front.size(), 3u);
  EXPECT_EQ(front[0].parameters, 10);
  EXPECT_EQ(front[1].parameters, 20);
  EXPECT_EQ(front[2].parameters, 40);
}

}  // namespace
}  // namespace graft::search_space_test
