// What `graft inspect` says of methods, for every method that there is, on images and on texts.
#include <gmock/gmock.h>

#include "peft/method.h"
#include "tests/cli_mistakes_testing.h"
#include "tools/lib/method_facts.h"

namespace graft::cli::cli_inspect_methods_test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kBertTiny = "init:bert_tiny";

// By name, with what they do to a model.
std::map<std::string, json> MethodsOn(const std::string& model) {
  std::map<std::string, json> methods;
  const json listed = GraftJson({"inspect", "--methods", "--model", model});
  for (const json& m : listed["methods"]) methods[m["name"]] = m;
  return methods;
}

TEST(CliInspectMethods, TheTableHasALineForEach) {
  const Outcome plain = Graft({"inspect", "--methods"}),
                counted = Graft({"inspect", "--methods", "--model", kNano}),
                first = Graft({"inspect", kNano, "--methods"});
  ASSERT_EQ(plain.code, 0) << plain.err;
  ASSERT_EQ(counted.code, 0) << counted.err;
  EXPECT_EQ(first.out, counted.out);
  for (const MethodRecord* r : AllMethods()) {
    const std::string begin = "\n" + std::string(r->name) + " ";
    for (const Outcome* o : {&plain, &counted}) {
      const size_t at = o->out.find(begin);
      ASSERT_NE(at, std::string::npos) << r->name;
      EXPECT_EQ(o->out.find(begin, at + 1), std::string::npos) << r->name;
      const std::string line = o->out.substr(at + 1, o->out.find('\n', at + 1) - at - 1);
      EXPECT_THAT(line, HasSubstr(std::string(r->why))) << "why it folds, or not";
    }
  }
  EXPECT_THAT(counted.out, HasSubstr("8,192"));  // lora: 4 blocks x 2 layers x 8 x (64 + 64)
  EXPECT_THAT(plain.out, Not(HasSubstr("8,192")));
}

// The count function of the record against the graph that the method makes.
TEST(CliInspectMethods, CountsOfAModelAreThoseOfItsGraph) {
  const json nothing = GraftJson({"inspect", kNano, "--method", "linear"});
  for (const auto& [name, m] : MethodsOn(kNano)) {
    if (!m["problem"].is_null()) continue;
    const json graph = GraftJson({"inspect", kNano, "--method", name});
    EXPECT_EQ(m["trainable"].get<int64_t>(), graph["trainable_parameters"].get<int64_t>() -
                                                 nothing["trainable_parameters"].get<int64_t>())
        << name;
  }
}

TEST(CliInspectMethods, PagesHaveEveryPart) {
  for (const MethodRecord* r : AllMethods()) {
    const std::string name(r->name);
    SCOPED_TRACE(name);
    const Outcome page = Graft({"inspect", "--methods", name});
    ASSERT_EQ(page.code, 0) << page.err;
    for (const std::string_view part : {r->summary, r->equation, r->formula, r->source, r->why})
      EXPECT_THAT(page.out, HasSubstr(std::string(part)));
    for (const MethodOption& o : r->options())
      EXPECT_THAT(page.out, HasSubstr(fmt::format("{}={}", o.name, o.value)));
    EXPECT_THAT(page.out, HasSubstr("\nrecipe\n  graft "));
    EXPECT_THAT(page.out, HasSubstr(r->searched ? "none: a search finds it by the loss alone"
                                                : fmt::format(" {:g} ", r->learning_rate.images)));
    EXPECT_LT(std::count(page.out.begin(), page.out.end(), '\n'), 70);
    const json m = GraftJson({"inspect", "--methods", name})["methods"][0];
    ExpectKeys(m,
               {"name",  "summary",   "equation",      "count",   "source", "options", "foldable",
                "folds", "why",       "learning_rate", "reduced", "phase",  "repeats", "recipe",
                "model", "trainable", "sites",         "edits",   "change", "problem"});
    if (!m["problem"].is_null()) continue;
    EXPECT_FALSE(m["sites"].empty());
    const std::string change = m["change"];
    EXPECT_LE(std::count(change.begin(), change.end(), '\n'), 30) << change;
  }
}

TEST(CliInspectMethods, PagesSayWhereAMethodAttachesAndWhatItAdds) {
  const auto page = [](const char* term) {
    return GraftJson({"inspect", "--methods", term})["methods"][0];
  };
  EXPECT_EQ(page("lora")["sites"], json({"attn.q", "attn.v"}));
  EXPECT_EQ(page("lora(targets=attn.*|blocks.1.mlp.fc1)")["sites"],
            json({"attn.*", "mlp.fc1 of block 1"}));
  EXPECT_EQ(page("last")["sites"][0], "norm1 of blocks 2, 3");
  EXPECT_EQ(page("full")["sites"], json({"everything"}));
  EXPECT_EQ(page("linear")["sites"], json({"head"}));
  EXPECT_EQ(page("linear")["change"], "");
  EXPECT_THAT(std::string(page("lora")["change"]), HasSubstr("+ %"));
  EXPECT_THAT(std::string(page("lora")["change"]), HasSubstr("@blocks.0.attn.q.lora_a"));
  EXPECT_THAT(std::string(page("bitfit")["change"]), HasSubstr("+ param @blocks.0.attn.q.bias"));
  // The rows that a token adds are no change of what stands behind it.
  const std::string vpt = page("vpt")["change"];
  EXPECT_THAT(vpt, HasSubstr("insert_tokens"));
  EXPECT_THAT(vpt, Not(HasSubstr("gelu"))) << vpt;
  EXPECT_EQ(page("prefix")["reduced"], "prefix(mlp=0)");
  EXPECT_TRUE(page("lora")["reduced"].is_null());
  EXPECT_EQ(page("lora(r=4)")["trainable"], 4096);
  // No node tells of what edits weights.
  EXPECT_EQ(page("noisytune")["edits"], true);
  EXPECT_THAT(page("noisytune")["sites"].dump(), HasSubstr("attn.*"));
  EXPECT_EQ(page("lora")["edits"], false);
  // What is missing is named where it can be typed.
  EXPECT_THAT(std::string(page("forget")["problem"]), HasSubstr("'run' is missing"));
  EXPECT_THAT(std::string(page("forget")["recipe"][1]), HasSubstr("\"forget(run=RUN)+lora(r=8)\""));
}

// Each method's change to a block as text and drawn, with what it adds marked.
TEST(CliInspectMethods, GraphsOfEveryMethodAreShown) {
  for (const char* model : {kNano, kNanoBert}) {
    for (const auto& [name, m] : MethodsOn(model)) {
      SCOPED_TRACE(name + " on " + model);
      const auto graph = [&, name = name](const char* form) {
        return Graft({"inspect", model, "--method", name, "--graph", form, "--block", "0"});
      };
      const Outcome text = Graft({"inspect", model, "--method", name, "--graph", "text"});
      if (!m["problem"].is_null()) {
        EXPECT_EQ(text.code, 2) << m["problem"];
        continue;
      }
      EXPECT_EQ(text.code, 0) << text.err;
      const Outcome svg = graph("svg"), dot = graph("dot");
      ASSERT_EQ(svg.code, 0) << svg.err;
      ASSERT_EQ(dot.code, 0) << dot.err;
      EXPECT_TRUE(svg.out.starts_with("<svg ") && svg.out.ends_with("</svg>\n"));
      EXPECT_TRUE(dot.out.starts_with("digraph graft {") && dot.out.ends_with("}\n"));
      EXPECT_THAT(dot.out, Not(HasSubstr("blocks.1.attn")));
      const auto all = [&, name = name](const char* form) {
        return Graft({"inspect", model, "--method", name, "--graph", form, "--block", "all"}).out;
      };
      const bool adds = std::string(m["change"]).find("+ %") != std::string::npos;
      EXPECT_EQ(all("svg").find(" added\"") != std::string::npos, adds) << m["change"];
      EXPECT_EQ(all("dot").find("palegreen") != std::string::npos, adds) << m["change"];
    }
  }
}

TEST(CliInspectMethods, RecipesRun) {
  TempDir dir;
  MakeData(dir / "shapes");
  const json methods = GraftJson({"inspect", "--methods"})["methods"];
  for (const json& m : methods) {
    if (!m["problem"].is_null() || m["recipe"].size() != 2) continue;
    // The command as a shell would read it, with fewer examples and paths of this test.
    std::stringstream command{std::string(m["recipe"][1])};
    Words args;
    for (std::string word; command >> std::quoted(word);) args.push_back(word);
    ASSERT_EQ(args[0], "graft");
    args.erase(args.begin());
    std::ranges::replace(args, "shapes", dir / "shapes");
    std::ranges::replace(args, "run", dir / std::string(m["name"]));
    for (const char* more : {"--limit", "8", "--batch-size", "8"}) args.emplace_back(more);
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << m["name"] << ": " << o.err;
  }
}

TEST(CliInspectMethods, Mistakes) {
  TempDir dir;
  const char* const kAlone = "--methods lists methods";
  ExpectMistakes(
      {{"two terms", {"inspect", "--methods", "lora+ln"}, 2, {"shows one method", "lora+ln"}},
       {"no method", {"inspect", "--methods", "lorra", "--model", kNano}, 2, {"mean 'lora'"}},
       {"no option", {"inspect", "--methods", "lora(s=1)"}, 2, {"no option 's'"}},
       {"no model", {"inspect", "--methods", "--model", "init:vit"}, 1, {"no architecture 'vit'"}},
       {"arch", {"inspect", "--methods", "--arch", "vit_tiny_patch16_224"}, 2, {"--arch goes"}},
       {"method", {"inspect", "--methods", "lora", "--method", "ln"}, 2, {kAlone}},
       {"out", {"inspect", "--methods", "--out", "@fresh"}, 2, {kAlone}},
       {"block of text",
        {"inspect", kNano, "--graph", "text", "--block", "0"},
        2,
        {"--block goes with --graph svg or dot"}},
       {"block of dot", {"inspect", kNano, "--graph", "dot", "--block", "9"}, 2, {"0 to 3", "9"}},
       {"no positions",
        {"inspect", kNano, "--method", "ptuning2(shift=true)"},
        2,
        {"'ptuning2(shift=true)'", "'shift' is for texts"}},
       {"no words",
        {"inspect", kNano, "--method", "prompt(init=vocab)"},
        2,
        {"'prompt(init=vocab)'", "'init'", "for texts"}},
       {"no text to pool",
        {"inspect", kNano, "--method", "prompt(pool=first)"},
        2,
        {"'pool'", "for texts"}},
       {"positions used up",
        {"inspect", kBertTiny, "--method", "ptuning2(shift=true,tokens=512)"},
        2,
        {"'tokens' = 512", "512 positions"}},
       {"no patches",
        {"inspect", kBertTiny, "--method", "ssf(targets=patch_embed)"},
        2,
        {"target 'patch_embed' matches"}}},
      dir);
}

}  // namespace
}  // namespace graft::cli::cli_inspect_methods_test
