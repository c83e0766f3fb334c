// Tests what graft profile reports for images and texts, for inference and training.
#include <sstream>

#include "tests/cli_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_profile_test {
namespace {

struct Case {
  const char* name;
  std::vector<std::string> args;
  double flops;  // of a step
  int64_t trainable;
};

// Multiply-adds of a transformer's blocks for one sequence of `rows`, both products of attention
// included.
double BlockFlops(double rows, double width, double depth, double mlp) {
  return 2 * depth * (rows * width * (4 * width + 2 * mlp) + 2 * rows * rows * width);
}

class Profile : public ::testing::TestWithParam<Case> {};

TEST_P(Profile, Reports) {
  std::vector<std::string> args{"profile", "--steps", "2", "--model"};
  args.insert(args.end(), GetParam().args.begin(), GetParam().args.end());
  const nlohmann::json json = GraftJson(args);
  ExpectKeys(json, {"step_ms", "step_ms_min", "examples_per_second", "gflops", "share_of_peak",
                    "peak_gflops", "planned_bytes", "peak_memory_bytes", "compile_ms", "threads",
                    "isa", "nodes", "trainable_parameters"});
  const double ms = json["step_ms"];
  EXPECT_LE(json["step_ms_min"], ms);
  EXPECT_NEAR(json["examples_per_second"].get<double>(), 5e3 / ms, 1e-6 * 5e3 / ms);
  // The blocks and a little more, but of the last one only keys, values and what the head reads:
  // of two blocks some six tenths are left.
  const double flops = json["gflops"].get<double>() * ms * 1e6;
  EXPECT_GT(flops, 0.5 * GetParam().flops);
  EXPECT_LT(flops, 1.5 * GetParam().flops);
  EXPECT_EQ(json["trainable_parameters"], GetParam().trainable);
  // Five sequences make an even number of micro-batches: one of two and three of one.
  double seconds = 0;
  for (const nlohmann::json& node : json["nodes"]) {
    if (node["op"] == "attention") {
      EXPECT_EQ(node["calls"], 2 * 4) << node;
    }
    seconds += node["seconds"].get<double>();
  }
  EXPECT_GT(seconds, 0);
}

// A step of training costs about twice inference: the weights are frozen.
INSTANTIATE_TEST_SUITE_P(
    Models, Profile,
    ::testing::Values(Case{"ImagesInference",
                           {"init:vit_nano_patch8_64", "--batch-size", "5", "--micro-batch", "2"},
                           5 * BlockFlops(65, 64, 4, 256),
                           0},
                      Case{"ImagesTraining",
                           {"init:vit_nano_patch8_64", "--batch-size", "5", "--micro-batch", "2",
                            "--method", "lora(r=2)", "--classes", "3"},
                           5 * 2 * BlockFlops(65, 64, 4, 256),
                           4 * 2 * 2 * (64 + 64) + 65 * 3},
                      Case{"TextsInference",
                           {"init:bert_tiny", "--batch-size", "5", "--micro-batch", "2", "--length",
                            "48"},
                           5 * BlockFlops(48, 128, 2, 512),
                           0},
                      Case{"TextsTraining",
                           {"init:bert_tiny", "--batch-size", "5", "--micro-batch", "2", "--length",
                            "48", "--method", "lora(r=2)", "--classes", "3"},
                           5 * 2 * BlockFlops(48, 128, 2, 512),
                           2 * 2 * 2 * (128 + 128) + 129 * 3}),
    [](const auto& info) { return std::string(info.param.name); });

// A training step has all phases but `once`; of a product, the shape tells the multiply-adds.
TEST(ProfileNodes, HaveAPhaseAShapeAndTimes) {
  const nlohmann::json json =
      GraftJson({"profile", "--model", "init:vit_nano_patch8_64", "--batch-size", "2",
                 "--micro-batch", "2", "--method", "full", "--classes", "3", "--steps", "3"});
  std::map<std::string, int> phases;
  int products = 0;
  double sum = 0;
  for (const nlohmann::json& node : json["nodes"]) {
    ++phases[node["phase"]];
    EXPECT_LE(node["ms_min"], node["ms"]) << node;
    EXPECT_GE(node["ms_spread"], 0) << node;
    sum += node["seconds"].get<double>();
    const std::string op = node["op"];
    if (op == "loss" || op == "cross_entropy") {
      EXPECT_EQ(node["phase"], "forward") << node;
    }
    if (op.ends_with("_grad")) {
      EXPECT_EQ(node["phase"], "backward") << node;
    }
    if (op == "adamw") {
      EXPECT_EQ(node["phase"], "update") << node;
    }
    if (op != "matmul") continue;
    ++products;
    double m = 0, n = 0, k = 0;
    ASSERT_EQ(std::sscanf(node["shape"].get<std::string>().c_str(), "%lfx%lfx%lf", &m, &n, &k), 3);
    EXPECT_GE(node["flops"].get<double>(), 2 * m * n * k) << node;
    EXPECT_LE(node["flops"].get<double>(), 2 * m * n * k + 30 * m * n) << node;
  }
  EXPECT_GT(phases["forward"], 20);
  EXPECT_GT(phases["backward"], phases["forward"]);
  EXPECT_GT(phases["update"], 10);
  EXPECT_GT(products, 40);
  EXPECT_LT(1e3 * sum, 1.5 * 3 * json["step_ms"].get<double>() + 50);
}

// The smallest budget is told by the refusal of a smaller one.
TEST(ProfileNodes, NamesWhatIsComputedTwice) {
  std::vector<std::string> args{"profile",
                                "--model",
                                "init:vit_nano_patch8_64",
                                "--batch-size",
                                "2",
                                "--micro-batch",
                                "2",
                                "--steps",
                                "1",
                                "--method",
                                "full",
                                "--memory-budget",
                                "1KiB"};
  const Outcome refused = Graft(args);
  const std::string smallest = FirstMatch(refused.err, "possible is ([0-9.]+MiB)");
  ASSERT_FALSE(smallest.empty()) << refused.err;
  const auto recomputed = [&](const std::string& budget) {
    args.back() = budget;
    const nlohmann::json json = GraftJson(args);
    int nodes = 0;
    for (const nlohmann::json& node : json["nodes"]) nodes += node["phase"] == "recompute";
    EXPECT_EQ(nodes, json["recomputed_nodes"]) << budget;
    return nodes;
  };
  EXPECT_EQ(recomputed("1GiB"), 0);
  EXPECT_GT(recomputed(smallest), 0);
}

// Half of the tokens of five texts is not a whole number of texts.
TEST(ProfileBudget, KeepsTextsWhole) {
  const auto micro_batch = [&](const char* budget) -> int64_t {
    return GraftJson({"profile", "--model", "init:bert_tiny", "--method", "lora", "--batch-size",
                      "20", "--micro-batch", "5", "--length", "301", "--steps", "1",
                      "--memory-budget", budget})["micro_batch"];
  };
  EXPECT_EQ(micro_batch("1GiB"), 5);
  const int64_t less = micro_batch("30MiB");
  EXPECT_LT(less, 5);
  EXPECT_GE(less, 1);
}

TEST(ProfileText, NamesTheCostliestNodes) {
  const Outcome o = Graft(
      {"profile", "--model", "init:bert_tiny", "--steps", "1", "--batch-size", "2", "--top", "3"});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("texts/s"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("forward "), std::string::npos) << o.out;
  // Columns do not shift: what is below the word ms ends where the word ends.
  std::vector<std::string> lines;
  std::istringstream text(o.out);
  for (std::string line; std::getline(text, line);)
    if (!lines.empty() || line.starts_with("phase")) lines.push_back(line);
  ASSERT_GE(lines.size(), 4u) << o.out;
  const size_t end = lines[0].find(" ms ") + 3;
  for (size_t i = 1; i <= 3; ++i) {
    EXPECT_TRUE(lines[i].starts_with("forward") && lines[i].size() > end) << lines[i];
    EXPECT_TRUE(isdigit(lines[i][end - 1]) && lines[i][end] == ' ') << lines[i];
  }
}

}  // namespace
}  // namespace graft::cli::cli_profile_test
