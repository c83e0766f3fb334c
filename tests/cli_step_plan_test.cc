// graft plan: what it says of a training before it, against what profile and train find.
#include <map>

#include "ops/gemm_core.h"
#include "tests/cli_data_testing.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_step_plan_test {
namespace {

using nlohmann::json;

// Rows by method.
std::map<std::string, json> RowsOf(const json& plan) {
  std::map<std::string, json> rows;
  for (const json& row : plan["methods"]) rows[row["method"]] = row;
  return rows;
}

TEST(StepPlan, IsWhatProfileFinds) {
  for (const char* model : {"init:vit_nano_patch8_64", "init:bert_tiny"}) {
    const bool texts = std::string(model) == "init:bert_tiny";
    Words plan{"plan", "--model",   model,       "--batch-size", "8",     "--classes",
               "3",    "--methods", "lora(r=4)", "full",         "linear"};
    if (texts) plan.insert(plan.end(), {"--length", "32"});
    const json found = GraftJson(plan);
    ExpectKeys(found, {"peak_gflops", "efficiency", "threads", "batch_size"});
    EXPECT_TRUE(found["examples"].is_null());
    EXPECT_GT(found["efficiency"].get<double>(), 0);
    const auto rows = RowsOf(found);
    for (const auto& [method, row] : rows) {
      SCOPED_TRACE(std::string(model) + " " + method);
      Words profile{"profile", "--model",  model,  "--batch-size", "8", "--classes",
                    "3",       "--method", method, "--steps",      "1"};
      if (texts) profile.insert(profile.end(), {"--length", "32"});
      const json measured = GraftJson(profile);
      EXPECT_TRUE(row["problem"].is_null());
      EXPECT_EQ(row["trainable_parameters"], measured["trainable_parameters"]);
      EXPECT_EQ(row["micro_batch"], measured["micro_batch"]);
      if (!texts) {
        EXPECT_EQ(row["planned_bytes"], measured["planned_bytes"]);
      }
      const double flops =
          measured["gflops"].get<double>() * measured["step_ms"].get<double>() * 1e6;
      EXPECT_NEAR(row["flops_per_step"].get<double>(), flops, 1e-6 * flops);
      EXPECT_GT(row["step_seconds"].get<double>(), 0);
      EXPECT_TRUE(row["epoch_seconds"].is_null());
    }
    EXPECT_GT(rows.at("full")["flops_per_step"], rows.at("lora(r=4)")["flops_per_step"]);
    EXPECT_GT(rows.at("full")["needed_bytes"], rows.at("linear")["needed_bytes"]);
  }
}

// What the products of a method are in; and of hardly any work in int8 nothing can be measured.
TEST(StepPlan, PrecisionOfItsProducts) {
  const Emulation emulation;
  const Words plan{"plan",     "--model", "init:bert_tiny", "--batch-size", "2",
                   "--length", "32",      "--methods",      "lora",         "full",
                   "--dtype",  "int8",    "--json"};
  const Outcome o = Graft(plan);
  const json found = json::parse(o.out);
  EXPECT_EQ(RowsOf(found).at("lora")["dtype"], "int8");
  EXPECT_EQ(RowsOf(found).at("full")["dtype"], "bf16");
  EXPECT_NE(o.err.find("note: full: --dtype int8: no product"), std::string::npos) << o.err;
  EXPECT_NE(found["low_efficiency"], found["efficiency"]);
  for (const char* kept : {"*", "blocks.*"}) {
    const Outcome most = Graft(WithOptions(plan, {"--keep", kept}));
    const json of_most = json::parse(most.out);
    EXPECT_EQ(of_most["low_efficiency"], of_most["efficiency"]) << kept;
    EXPECT_EQ(most.err.find("its products in") == std::string::npos, kept == std::string("*"));
  }
}

// Of the smallest memory that holds so many bytes of a thread.
double BytesPerSecond(double bytes, const json& profile, const json& plan) {
  const json& machine = profile["machine"];
  const std::map<std::string, double> sizes{
      {"L1", machine["l1d_bytes"]},
      {"L2", machine["l2_bytes"]},
      {"L3", machine["l3_bytes"].get<double>() / plan["threads"].get<double>()}};
  for (const json& level : plan["levels"])
    if (const auto size = sizes.find(level["level"]); size != sizes.end() && bytes <= size->second)
      return 1e9 * level["gb_per_second"].get<double>();
  return 1e9 * plan["peak_gb_per_second"].get<double>();
}

// Adds up the seconds of a step over the nodes that a profile lists, each at the peak of its
// numbers or of its memory.
double SecondsOf(const json& profile, const json& plan) {
  std::map<std::string, double> peaks{{"bf16", plan["peak_gflops_bf16"]},
                                      {"int8", plan["peak_gflops_int8"]}};
  const double runs = plan["batch_size"].get<double>() / profile["micro_batch"].get<double>();
  double seconds = 0;
  for (const json& node : profile["nodes"]) {
    if (node["phase"] == "once") continue;
    const std::string impl = node["impl"], cell = impl.substr(impl.rfind(':') + 1);
    const bool low = peaks.contains(cell);
    const double peak = low ? peaks[cell] : plan["peak_gflops"].get<double>();
    const double bytes = node["bytes"];
    const double one = std::max(node["flops"].get<double>() / (peak * 1e9),
                                bytes / BytesPerSecond(bytes, profile, plan));
    seconds += (node["phase"] == "update" ? one : one * runs) /
               plan[low ? "low_efficiency" : "efficiency"].get<double>();
  }
  return seconds;
}

// Emulated products have a share of the peak of their own.
TEST(StepPlan, OfAnEmulatedPrecision) {
  const Emulation emulation;
  const json found = GraftJson({"plan", "--model", "init:vit_nano_patch8_64", "--batch-size", "8",
                                "--methods", "linear", "--dtype", "int8"});
  EXPECT_EQ(found["dtype"], "int8");
  EXPECT_NE(found["low_efficiency"], found["efficiency"]);
}

TEST(StepPlan, OfAPrecision) {
  for (const std::string dtype : {"bf16", "int8"}) {
    const bool has = HasCells(dtype == "bf16" ? CellType::kBf16 : CellType::kInt8);
    const Words precision{"--dtype", dtype, "--keep", "fc1"};
    const Words plan{"plan",
                     "--model",
                     "init:vit_nano_patch8_64",
                     "--batch-size",
                     "8",
                     "--classes",
                     "3",
                     "--methods",
                     "linear",
                     "lora(r=4)",
                     "full"};
    const json found = GraftJson(WithOptions(plan, precision));
    EXPECT_EQ(found["dtype"], has ? dtype : "f32");
    EXPECT_EQ(found["keep"], has ? "fc1" : "");
    for (const auto& [method, row] : RowsOf(found)) {
      SCOPED_TRACE(dtype + " " + method);
      const json profile =
          GraftJson(WithOptions({"profile", "--model", "init:vit_nano_patch8_64", "--batch-size",
                                 "8", "--classes", "3", "--method", method, "--steps", "1"},
                                precision));
      EXPECT_EQ(row["planned_bytes"], profile["planned_bytes"]);
      const double seconds = SecondsOf(profile, found);
      EXPECT_NEAR(row["step_seconds"].get<double>(), seconds, 1e-6 * seconds);
    }
    const Outcome text = Graft(WithOptions(plan, precision));
    EXPECT_EQ(text.out.find("GFLOP/s in f32, ") != std::string::npos &&
                  text.out.find(" in " + dtype + "; ") != std::string::npos,
              has)
        << text.out;
    EXPECT_EQ(text.out.find("f32 instead") != std::string::npos, !has) << text.out;
  }
}

TEST(StepPlan, EveryMethodHasARowOrAReason) {
  const json plan = GraftJson({"plan", "--model", kNano, "--batch-size", "8"});
  const auto rows = RowsOf(plan);
  EXPECT_GT(rows.size(), 25u);
  int planned = 0;
  for (const auto& [method, row] : rows) planned += row["problem"].is_null();
  EXPECT_GT(planned, 20);
  EXPECT_NE(rows.at("forget")["problem"].get<std::string>().find("run"), std::string::npos);
  EXPECT_TRUE(rows.at("forget")["flops_per_step"].is_null());
  const Outcome text =
      Graft({"plan", "--model", kNano, "--batch-size", "8", "--methods", "bitfit", "bbt"});
  for (const char* words : {"bitfit", "GFLOP a step", "without a plan\n  bbt: "})
    EXPECT_NE(text.out.find(words), std::string::npos) << text.out;
}

TEST(StepPlan, OfADataSet) {
  const TempDir dir;
  MakeData(dir / "data");
  const json plan = GraftJson({"plan", "--model", kNano, "--data", dir / "data", "--batch-size",
                               "16", "--methods", "linear", "full"});
  EXPECT_EQ(plan["examples"], 48);
  EXPECT_EQ(plan["steps_per_epoch"], 3);
  const auto rows = RowsOf(plan);
  EXPECT_GT(rows.at("linear")["features_seconds"].get<double>(), 0);
  EXPECT_TRUE(rows.at("full")["features_seconds"].is_null());
  EXPECT_NEAR(rows.at("full")["epoch_seconds"].get<double>(),
              3 * rows.at("full")["step_seconds"].get<double>(), 1e-9);
  const json trained =
      GraftJson(WithOptions(TrainArgs(dir / "data", dir / "run"), {"--method", "full"}));
  EXPECT_EQ(trained["trainable_parameters"], rows.at("full")["trainable_parameters"]);
  EXPECT_EQ(trained["planned_bytes"], rows.at("full")["planned_bytes"]);
  for (const char* dtype : {"bf16", "int8"}) {
    const Words low{"--dtype", dtype, "--method", "lora(r=2)"};
    const json run =
        GraftJson(WithOptions(TrainArgs(dir / "data", dir / (std::string("run-") + dtype)), low));
    const json again = GraftJson({"plan", "--model", kNano, "--data", dir / "data", "--batch-size",
                                  "16", "--methods", "lora(r=2)", "--dtype", dtype});
    EXPECT_EQ(run["planned_bytes"], RowsOf(again).at("lora(r=2)")["planned_bytes"]) << dtype;
  }
  // Texts count by the tokens that they have.
  const std::string bert = MakeBert(dir);
  Fill(dir, "texts", {{"train.csv", Rows(40, ",", "text,label\n")}});
  const json texts =
      GraftJson({"plan", "--model", bert, "--data", dir / "texts", "--methods", "lora"});
  EXPECT_EQ(texts["examples"], 32);
  EXPECT_EQ(texts["batch_size"], 16);
  EXPECT_GT(RowsOf(texts).at("lora")["epoch_seconds"].get<double>(), 0);
}

TEST(StepPlan, Mistakes) {
  const TempDir dir;
  MakeData(dir / "data");
  ExpectMistakes(
      {{"no model", {"plan", "--batch-size", "8"}, 2, {"plan needs --model"}},
       {"no batch", {"plan", "--model", kNano}, 2, {"--data, or --batch-size"}},
       {"method",
        {"plan", "--model", kNano, "--batch-size", "8", "--methods", "lorra"},
        2,
        {"'lorra'", "'lora'"}},
       {"length",
        {"plan", "--model", kNano, "--batch-size", "8", "--length", "9"},
        2,
        {"--length goes with a model that reads texts"}},
       {"length of data",
        {"plan", "--model", kNano, "--data", "@data", "--length", "9"},
        2,
        {"--length 9"}},
       {"limit",
        {"plan", "--model", kNano, "--batch-size", "8", "--limit", "9"},
        2,
        {"--limit: goes with --data"}},
       {"positions",
        {"plan", "--model", "init:bert_tiny", "--batch-size", "8", "--length", "999"},
        2,
        {"has 512 positions"}},
       {"no data", {"plan", "--model", kNano, "--data", "@none"}, 1, {"does not exist"}}},
      dir);
}

}  // namespace
}  // namespace graft::cli::cli_step_plan_test
