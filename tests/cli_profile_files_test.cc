// Tests what graft profile keeps and reads again: profiles, comparisons, traces, pages and sweeps.

#include "ops/gemm_core.h"
#include "tests/cli_mistakes_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_profile_files_test {
namespace {

using json = nlohmann::json;

// Every command of a test finds the rates of the machine in the test's own cache.
class ProfileFiles : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    setenv("XDG_CACHE_HOME", At("cache").c_str(), 1);
    made_ = GraftJson(Work(
        {"--steps", "6", "--out", At("a.json"), "--html", At("a.html"), "--trace", At("a.trace")}));
  }
  static void TearDownTestSuite() {
    unsetenv("XDG_CACHE_HOME");
    delete dir_;
  }
  static std::string At(const std::string& name) { return *dir_ / name; }
  // Profiles a training step of five images in micro-batches of two.
  static Words Work(const Words& more) {
    Words args{"profile", "--model",       kNano, "--method",  "lora(r=2)", "--batch-size",
               "5",       "--micro-batch", "2",   "--classes", "3"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  // The kept profile with something else in it, as another file.
  static std::string Edited(const std::string& name, const std::function<void(json&)>& edit) {
    json profile = json::parse(Slurp(At("a.json")));
    edit(profile);
    Spill(At(name), profile.dump());
    return At(name);
  }
  static TempDir* dir_;
  static json made_;
};
TempDir* ProfileFiles::dir_ = nullptr;
json ProfileFiles::made_;

TEST_F(ProfileFiles, AreWhatWasPrinted) {
  json kept = json::parse(Slurp(At("a.json")));
  EXPECT_EQ(made_["out"], At("a.json"));
  for (const char* key : {"out", "html", "trace"}) made_.erase(key);
  EXPECT_EQ(kept, made_);
  ExpectKeys(kept, {"format", "version", "machine", "work", "settings", "kinds", "steps_ms",
                    "step_ms_spread", "counters"});
  EXPECT_EQ(kept["steps_ms"].size(), 6u);
  // Kinds are the nodes, taken together, with the work that they did: five images in four parts,
  // where each call is listed with that of two.
  double of_kinds = 0, of_nodes = 0;
  for (const json& kind : kept["kinds"]) of_kinds += kind["flops"].get<double>();
  for (const json& node : kept["nodes"])
    of_nodes += node["flops"].get<double>() * node["calls"].get<double>() / 6;
  EXPECT_NEAR(of_kinds / of_nodes, 5.0 / 8, 0.01);
  const double step = kept["gflops"].get<double>() * kept["step_ms"].get<double>() * 1e6;
  EXPECT_NEAR(of_kinds, step, 1e-9 * step);
}

TEST_F(ProfileFiles, EveryProductSaysWhyItsKernel) {
  int products = 0;
  for (const json& node : made_["nodes"])
    if (node["op"] == "matmul") {
      ++products;
      const std::string impl = node["impl"], why = node["why"], refused = node["refused"];
      EXPECT_NE(why, "") << node;
      EXPECT_TRUE(refused.starts_with(impl.starts_with("onednn") ? "gemm_core:" : "onednn:"))
          << node;
      EXPECT_EQ(why.find("packed once") != why.npos, impl == "gemm_core:packed") << node;
    }
  EXPECT_GT(products, 40);
}

// Two copies of one profile differ by nothing, and a slower one is found to be as slow as it is.
TEST_F(ProfileFiles, ComparesWithItself) {
  const json same =
      GraftJson({"profile", "--compare", At("a.json"), At("a.json"), "--fail-over", "0%"});
  EXPECT_EQ(same["change"], 0);
  EXPECT_EQ(same["p"], 1);
  EXPECT_FALSE(same["failed"]);
  EXPECT_GT(same["kinds"].size(), 10u);
}

TEST_F(ProfileFiles, FailsOverTheLimitAlone) {
  // Times of a busy machine overlap, so these samples are made up.
  const auto even = [&](const std::string& name, double ms) {
    return Edited(name, [&](json& p) {
      for (size_t i = 0; i < p["steps_ms"].size(); ++i)
        p["steps_ms"][i] = ms + 0.001 * static_cast<double>(i);
    });
  };
  const std::string before = even("before.json", 100), after = even("after.json", 107.0005);
  const json wide = GraftJson({"profile", "--compare", before, after, "--fail-over", "8%"});
  EXPECT_NEAR(wide["change"], 0.07, 1e-4);
  EXPECT_NEAR(wide["p"], 2 / 924.0, 1e-12);  // of C(12, 6) orders
  EXPECT_TRUE(wide["significant"] && !wide["failed"]);
  const Outcome o = Graft({"profile", "--compare", before, after, "--fail-over", "5%", "--json"});
  EXPECT_EQ(o.code, 6) << o.err;
  EXPECT_TRUE(o.json()["failed"]);
  EXPECT_NE(o.err.find("slower"), std::string::npos) << o.err;
  // Faster is no failure, and nor is what may be noise.
  EXPECT_FALSE(GraftJson({"profile", "--compare", after, before, "--fail-over", "5%"})["failed"]);
  const std::string few = Edited("few.json", [](json& p) {
    p["steps_ms"] = {1000.0, 1001.0};
    for (json& kind : p["kinds"]) kind["steps_ms"] = {1.0, 2.0};
  });
  const json unsure = GraftJson({"profile", "--compare", before, few});
  EXPECT_NE(unsure["notes"].dump().find("too few to tell anything"), std::string::npos) << unsure;
  // A guard that could never fail would be none.
  ExpectRefused({"profile", "--compare", before, few, "--fail-over", "5%"}, 1, "--steps 20");
}

// Six steps each tell of the step as a whole; of single kinds they cannot, as there are many.
TEST_F(ProfileFiles, SaysWhenStepsAreTooFewForKinds) {
  const std::string slower = Edited("slower.json", [](json& p) {
    for (json& ms : p["steps_ms"]) ms = 10 * ms.get<double>();
    for (json& kind : p["kinds"])
      for (json& ms : kind["steps_ms"]) ms = 10 * ms.get<double>() + 1;
  });
  const json compared = GraftJson({"profile", "--compare", At("a.json"), slower});
  EXPECT_TRUE(compared["significant"]);
  for (const json& kind : compared["kinds"]) EXPECT_FALSE(kind["significant"]) << kind;
  EXPECT_NE(compared["notes"].dump().find("too few to tell which"), std::string::npos);
}

TEST_F(ProfileFiles, NotesWhatDiffersAndComparesAll) {
  const std::string other = Edited("other.json", [](json& p) {
    p["version"] = "graft 0.0.9", p["planned_bytes"] = 12345;
    p["settings"]["threads"] = 64, p["settings"]["dtype"] = "bf16";
    for (json& kind : p["kinds"])
      if (kind["op"] == "matmul") kind["op"] = "low_matmul", kind["impl"] = "gemm_core:bf16";
  });
  const json compared = GraftJson({"profile", "--compare", At("a.json"), other});
  EXPECT_EQ(compared["planned_bytes"]["before"], made_["planned_bytes"]);
  EXPECT_EQ(compared["planned_bytes"]["after"], 12345);
  const std::string notes = compared["notes"].dump();
  for (const char* word : {"0.0.9", "threads", "64", "bf16"})
    EXPECT_NE(notes.find(word), std::string::npos) << word << " in " << notes;
  int changed = 0;
  for (const json& kind : compared["kinds"]) {
    EXPECT_GT(kind["before_ms"], 0) << kind;
    EXPECT_GT(kind["after_ms"], 0) << kind;
    changed += kind["impl"].get<std::string>().find(" -> gemm_core:bf16") != std::string::npos;
  }
  EXPECT_GT(changed, 5);
}

TEST_F(ProfileFiles, MistakesOfComparisons) {
  const std::string cpu = Edited("cpu.json", [](json& p) { p["cpu"]["cpu"] = "another"; });
  const std::string work = Edited("work.json", [](json& p) { p["work"]["batch_size"] = 7; });
  const std::string old = Edited("old.json", [](json& p) { p.erase("format"); });
  const std::string next = Edited("next.json", [](json& p) { p["format"] = "graft profile 2"; });
  const std::string nan = Edited("nan.json", [](json& p) { p["steps_ms"][0] = "x"; });
  const std::string less = Edited("less.json", [](json& p) { p["steps_ms"].erase(0); });
  const std::string none = Edited("none.json", [](json& p) { p["kinds"] = 3; });
  Spill(At("text.json"), "{");
  Spill(At("list.json"), "[1]");
  const std::string a = At("a.json");
  const auto compare = [&](const std::string& b) { return Words{"profile", "--compare", a, b}; };
  ExpectMistakes(
      {{"cpu", compare(cpu), 1, {"two machines", "'another'"}},
       {"work", compare(work), 1, {"did not do the same work", "batch_size '5' and '7'"}},
       {"old", compare(old), 1, {"graft profile 1", "profile again"}},
       {"next", compare(next), 1, {"graft profile 1", "graft profile 2"}},
       {"nan", compare(nan), 1, {"steps_ms", "\"x\""}},
       {"less", compare(less), 1, {"6 times of 5 steps"}},
       {"none", compare(none), 1, {"kinds"}},
       {"text", compare(At("text.json")), 1, {"text.json"}},
       {"list", compare(At("list.json")), 1, {"expected a profile"}},
       {"missing", compare(At("missing.json")), 1, {"missing.json"}},
       {"one", {"profile", "--compare", a}, 2, {"--compare"}},
       {"limit", WithOptions(compare(a), {"--fail-over", "5"}), 2, {"--fail-over '5'", "5%"}},
       {"empty", WithOptions(compare(a), {"--fail-over", ""}), 2, {"--fail-over"}},
       {"negative", WithOptions(compare(a), {"--fail-over", "-5%"}), 2, {"--fail-over"}},
       {"word", WithOptions(compare(a), {"--fail-over", "much"}), 2, {"--fail-over 'much'"}}},
      *dir_);
}

TEST_F(ProfileFiles, MistakesOfOptions) {
  const Words model{"profile", "--model", kNano};
  ExpectMistakes(
      {{"none", {"profile"}, 2, {"--model", "--sweep"}},
       {"two", WithOptions(model, {"--machine", ""}), 2, {"--model and --machine"}},
       {"limit", WithOptions(model, {"--fail-over", "5%"}), 2, {"goes with --compare"}},
       {"csv", WithOptions(model, {"--csv", "@x.csv"}), 2, {"goes with --sweep"}},
       {"html", {"profile", "--machine", "--html", "@x.html"}, 2, {"goes with --model"}},
       {"trace", {"profile", "--machine", "--trace", "@x"}, 2, {"goes with --model"}},
       {"out", {"profile", "--machine", "--out", "@x"}, 2, {"goes with --model"}},
       {"method", {"profile", "--machine", "--method", "lora"}, 2, {"goes with --model"}},
       {"numerics", {"profile", "--machine", "--numerics"}, 2, {"goes with --model"}},
       {"numericsF32", WithOptions(model, {"--numerics", ""}), 2, {"--dtype bf16 or int8"}},
       {"refresh",
        {"profile", "--sweep", "gemm m=1 n=1 k=1", "--refresh"},
        2,
        {"--refresh goes with"}},
       {"exists", WithOptions(model, {"--out", "@a.json"}), 1, {"a.json", "--force"}},
       {"existsHtml", WithOptions(model, {"--html", "@a.html"}), 1, {"a.html", "--force"}},
       {"oneFile",
        WithOptions(model, {"--out", "@x.json", "--html", "@./x.json"}),
        2,
        {"--out and --html name one file"}},
       {"noFolder", WithOptions(model, {"--trace", "@no/x"}), 1, {"no"}}},
      *dir_);
}

// Slices of a track follow each other, lie in their steps, and are all the calls.
TEST_F(ProfileFiles, TheTraceHasEveryCall) {
  const json trace = json::parse(Slurp(At("a.trace")));
  std::map<int, double> end;
  std::map<std::string, int> names;
  std::vector<std::pair<double, double>> steps;
  double flops = 0;
  int calls = 0;
  for (const json& e : trace["traceEvents"]) {
    EXPECT_EQ(e["pid"], 1);
    if (e["ph"] == "M") {
      ++names[e["name"]];
      EXPECT_TRUE(e["args"]["name"].is_string());
      continue;
    }
    ASSERT_EQ(e["ph"], "X") << e;
    const double begin = e["ts"], stop = begin + e["dur"].get<double>();
    double& last = end[e["tid"]];
    EXPECT_GE(begin, last - 1e-3) << e;  // a nanosecond of rounding
    last = stop;
    if (e["cat"] == "step") {
      steps.emplace_back(begin, stop);
      continue;
    }
    ++calls;
    ExpectKeys(e["args"], {"phase", "shape", "impl", "flops", "bytes"});
    flops += e["args"]["flops"].get<double>();
    EXPECT_TRUE(std::ranges::any_of(steps, [&](const auto& s) {
      return s.first <= begin + 1e-3 && stop <= s.second + 1e-3;
    })) << e;
  }
  EXPECT_EQ(names["process_name"], 1);
  EXPECT_EQ(names["thread_name"], static_cast<int>(end.size()));
  EXPECT_EQ(steps.size(), 6u);
  int64_t expected = 0;
  double expected_flops = 0;  // of what was bound, which is less than the capacity
  for (const json& node : made_["nodes"]) expected += node["calls"].get<int64_t>();
  for (const json& kind : made_["kinds"]) expected_flops += 6 * kind["flops"].get<double>();
  EXPECT_EQ(calls, expected);
  EXPECT_NEAR(flops, expected_flops, 1e-9 * flops);
}

// The page has the numbers of the kinds, all digits, and nothing from elsewhere.
TEST_F(ProfileFiles, ThePageHasTheNumbers) {
  const std::string html = Slurp(At("a.html"));
  for (const json& kind : made_["kinds"])
    EXPECT_NE(html.find("data-value=\"" + kind["ms"].dump() + "\""), std::string::npos) << kind;
  EXPECT_EQ(FirstMatch(html, "(<(script|link|img)[^>]*(src|href)=\"(http|//))"), "");
  EXPECT_NE(html.find("packed once, before the first run"), std::string::npos);
  const std::string begin = "data-chart=\"chart1\">";
  const size_t at = html.find(begin);
  if (at == std::string::npos) return;  // built without Chart.js
  const std::string text = html.substr(at + begin.size());
  const json chart = json::parse(text.substr(0, text.find("</script>")));
  std::map<std::string, json> sets;
  for (const json& set : chart["data"]["datasets"]) sets[set["label"]] = set["data"];
  EXPECT_TRUE(sets.contains("forward") && sets.contains("backward")) << chart;
  for (const json& point : sets["forward"]) {
    EXPECT_GT(point["x"], 0);
    EXPECT_GT(point["y"], 0);
    EXPECT_TRUE(point["name"].is_string());
  }
}

TEST_F(ProfileFiles, SweepsProducts) {
  const json sweep =
      GraftJson({"profile", "--sweep", "gemm m=7|64 n=33 k=40 threads=1 isa=avx2|sse4", "--csv",
                 At("s.csv")});
  ASSERT_EQ(sweep["rows"].size(), 4u);
  for (const json& row : sweep["rows"]) {
    EXPECT_GT(row["share_of_peak"], 0) << row;
    const double flops = 2e-6 * row["m"].get<double>() * 33 * 40;
    EXPECT_NEAR(row["gflops"].get<double>(), flops / row["ms"].get<double>(),
                1e-6 * row["gflops"].get<double>());
  }
  EXPECT_EQ(sweep["rows"][0]["isa"], "avx2");
  EXPECT_EQ(sweep["rows"][3]["isa"], "sse4");
  EXPECT_EQ(sweep["rows"][1]["m"], 64);
  std::istringstream csv(Slurp(At("s.csv")));
  int lines = 0;
  for (std::string line; std::getline(csv, line); ++lines)
    EXPECT_EQ(std::ranges::count(line, ','), 12) << line;
  EXPECT_EQ(lines, 5);
  const json some = GraftJson(
      {"profile", "--sweep", "gemm m=8 n=33 k=40 threads=1 dtype=f32|bf16", "--isa", "avx2"});
  EXPECT_EQ(some["rows"].size(), 1u);
  EXPECT_NE(some["left_out"].dump().find("avx2 has no instruction for products of bf16"),
            std::string::npos);
  if (!HasCells(CellType::kBf16)) return;
  const json both = GraftJson(
      {"profile", "--sweep", "gemm m=8 n=33 k=40 threads=1 dtype=f32|bf16 isa=avx512|avx2"});
  EXPECT_EQ(both["rows"].size(), 3u);
  EXPECT_EQ(both["left_out"].size(), 1u) << both["left_out"];
}

TEST_F(ProfileFiles, MistakesOfSweeps) {
  const auto sweep = [](const char* text) { return Words{"profile", "--sweep", text}; };
  std::vector<Mistake> table{
      {"empty", sweep(" "), 2, {"expected an operator", "gemm"}},
      {"nothing", sweep(""), 2, {"expected an operator", "gemm"}},
      {"operator", sweep("conv m=1"), 2, {"known: gemm"}},
      {"missing", sweep("gemm m=1 n=1"), 2, {"k= is missing"}},
      {"key", sweep("gemm m=1 n=1 k=1 thread=1"), 2, {"did you mean 'threads'"}},
      {"noValue", sweep("gemm m"), 2, {"KEY=VALUE"}},
      {"zero", sweep("gemm m=0 n=1 k=1"), 2, {"m=0", "from 1"}},
      {"negative", sweep("gemm m=-4 n=1 k=1"), 2, {"m=-4"}},
      {"fraction", sweep("gemm m=1.5 n=1 k=1"), 2, {"m=1.5"}},
      {"huge", sweep("gemm m=99999999999999999999 n=1 k=1"), 2, {"m=9999"}},
      {"hole", sweep("gemm m=1||2 n=1 k=1"), 2, {"m="}},
      {"again", sweep("gemm m=1 n=1 k=1 m=2"), 2, {"m is given twice"}},
      {"same", sweep("gemm m=8|8 n=1 k=1"), 2, {"there twice"}},
      {"dtype", sweep("gemm m=1 n=1 k=1 dtype=bf61"), 2, {"bf16"}},
      {"auto", sweep("gemm m=1 n=1 k=1 dtype=auto"), 2, {"dtype=auto"}},
      {"isa", sweep("gemm m=1 n=1 k=1 isa=avx3"), 2, {"avx3"}},
      {"threads", sweep("gemm m=1 n=1 k=1 threads=5000"), 2, {"threads=5000"}},
      {"memory", sweep("gemm m=100000 n=100000 k=1"), 2, {"GiB"}},
      {"dtypeOutside",
       {"profile", "--sweep", "gemm m=1 n=1 k=1", "--dtype", "bf16"},
       2,
       {"dtype=bf16"}},
      {"noCells",
       {"profile", "--sweep", "gemm m=1 n=1 k=1 dtype=bf16", "--isa", "sse4"},
       2,
       {"no instruction"}}};
  if (HasCells(CellType::kInt8))
    table.push_back({"int8", sweep("gemm m=1 n=1 k=5000 dtype=int8"), 2, {"4096", "5000"}});
  std::string many = "gemm n=1 k=1 m=1";
  for (int i = 2; i <= 5000; ++i) many += "|" + std::to_string(i);
  table.push_back({"many", {"profile", "--sweep", many}, 2, {"5000 points", "4096"}});
  ExpectMistakes(table, *dir_);
}

TEST_F(ProfileFiles, NumericsAreNearAndNotEqual) {
  const Emulation emulation;
  std::map<std::string, double> apart;
  for (const char* dtype : {"bf16", "int8"}) {
    const json profile = GraftJson(Work({"--steps", "1", "--dtype", dtype, "--numerics"}));
    std::map<std::string, int> in_f32;
    for (const json& node : profile["nodes"])
      if (const std::string refused = node["refused"]; node["op"] == "matmul")
        ++in_f32[refused.substr(std::min(refused.size(), refused.find(dtype)))];
    // And what is wider than it was asked to be, why.
    std::set<std::string> in_bf16;
    for (const json& node : profile["nodes"])
      if (const std::string impl = node["impl"]; impl.find(":bf16") != impl.npos && dtype[0] == 'i')
        in_bf16.insert(node["refused"]);
    if (dtype[0] == 'i') {
      EXPECT_THAT(in_bf16,
                  ::testing::ElementsAre(
                      "f32: --dtype asks for less; int8: no operand is a weight",
                      "f32: --dtype asks for less; int8: rounding goes through all blocks"));
    }
    EXPECT_GT(in_f32[fmt::format("{}: its weight trains and has a short side", dtype)], 5);
    EXPECT_GT(in_f32[fmt::format("{}: a gradient with a short side", dtype)], 5);
    EXPECT_EQ(in_f32[fmt::format("{}: equal pixels would be rounded alike", dtype)], 1);
    EXPECT_EQ(in_f32[""], 0) << profile["nodes"];
    const json& n = profile["numerics"];
    EXPECT_EQ(n["dtype"], dtype);
    EXPECT_GT(n["cosine"], 0.9) << n;
    EXPECT_GT(n["logits_relative"], 0) << n;
    EXPECT_LT(n["logits_relative"], 0.2) << n;
    double share = 0, least = -1;
    for (const json& g : n["gradients"]) {
      share += g["share"].get<double>();
      EXPECT_GE(g["cosine"], least) << "not in order: " << g;
      least = g["cosine"];
    }
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_GT(n["gradients"].size(), 10u);
    share = 0;
    for (const json& layer : n["layers"]) share += layer["share"].get<double>();
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_LT(n["layers"].size(), n["gradients"].size());
    apart[dtype] = 1 - n["cosine"].get<double>();
  }
  EXPECT_GT(apart["bf16"], 0);
  EXPECT_GT(apart["int8"], apart["bf16"]);
}

// The true gradient of a key's bias is zero; what is computed of it is rounding, and comes last.
TEST_F(ProfileFiles, NumericsBeginWithWhatHasAShare) {
  const Emulation emulation;
  const json profile = GraftJson({"profile", "--model", kNano, "--method", "bitfit", "--steps", "1",
                                  "--batch-size", "2", "--dtype", "int8", "--numerics"});
  bool rounding = false;
  for (const json& g : profile["numerics"]["gradients"]) {
    const bool key = g["tensor"].get<std::string>().ends_with("attn.k.bias");
    EXPECT_TRUE(key || !rounding) << g;
    rounding = rounding || key;
  }
  EXPECT_TRUE(rounding);
}

}  // namespace
}  // namespace graft::cli::cli_profile_files_test
