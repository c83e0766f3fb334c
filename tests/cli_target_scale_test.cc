// Numbers of any unit are learnt alike, and everything that is said of them is in their unit.
#include <cmath>

#include "tests/cli_targets_testing.h"

namespace graft::cli::cli_target_scale_test {
namespace {

class TargetScale : public Targets {
 protected:
  // Prices and lengths of the texts of Targets, whose scores spread by about a half.
  static void SetUpTestSuite() {
    Targets::SetUpTestSuite();
    fs::create_directories(At("prices"));
    for (const auto& [split, first, count] :
         {std::tuple("train", 0, 64), {"dev", 64, 24}, {"test", 88, 32}}) {
      std::string table = "text,price,share\n";
      for (const Row& r : MakeRows(first, count))
        table += fmt::format("{},{},{}\n", r.text, 3e5 + 1.6e5 * r.score, 1e-3 * r.score - 2);
      Spill(At("prices") + fmt::format("/{}.csv", split), table);
    }
  }
  static Words Prices(const std::string& out, const Words& more = {}) {
    return Args("regression", "prices", out, WithOptions({"--columns", "text,price"}, more));
  }
  static json Eval(const Words& of) {
    Words args{"eval", "--data", At("prices"), "--split", "dev", "--columns", "text,price"};
    args.insert(args.end(), of.begin(), of.end());
    return GraftJson(args);
  }
  static std::string Weights(const std::string& run, const std::string& which = "last") {
    return Slurp(At(run) + "/" + which + ".safetensors");
  }
};

// A price is learnt as well as the score that it is made of, number by number.
TEST_F(TargetScale, AnyUnitIsLearntAlike) {
  const json scores = GraftJson(Args("regression", "numbers", "scores"));
  const Outcome told = Graft(Prices("prices_run"));
  ASSERT_EQ(told.code, 0) << told.err;
  EXPECT_NE(told.out.find("note: 'price' (mean "), std::string::npos) << told.out;
  EXPECT_NE(told.out.find("is standardised while training"), std::string::npos) << told.out;
  const std::vector<json> a = Metrics("scores"), b = Metrics("prices_run");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    // Targets differ by roundings, 1e-7 after an epoch, which training magnifies a hundredfold
    // every few epochs: with AVX2 2e-5 after six, 1.6e-3 after fourteen.
    for (const char* key : {"train_loss", "val_r2", "val_loss"})
      EXPECT_NEAR(a[i][key].get<double>(), b[i][key].get<double>(), i < 5 ? 1e-4 : 5e-3) << key;
  }
  EXPECT_GT(b.back()["val_r2"].get<double>(), 0.7);
  // The loss is of standardised numbers, the measures are of prices.
  const double per = b[0]["val_mse"].get<double>() / b[0]["val_loss"].get<double>();
  for (const json& line : b)
    EXPECT_NEAR(line["val_mse"].get<double>() / line["val_loss"].get<double>(), per, 1e-3 * per);
  EXPECT_GT(per, 1e9);
}

TEST_F(TargetScale, WhatIsSavedIsAPlainModel) {
  const json trained = GraftJson(Prices("saved", {"--epochs", "5"}));
  const json best = Eval({"--run", At("saved")});
  EXPECT_NEAR(best["mse"].get<double>(), trained["best"].get<double>(),
              1e-4 * trained["best"].get<double>());
  EXPECT_NEAR(best["loss"].get<double>(), best["mse"].get<double>(),
              1e-6 * best["mse"].get<double>());
  GraftJson({"fuse", "--run", At("saved"), "--out", At("saved_fused")});
  EXPECT_EQ(Eval({"--model", At("saved_fused")})["mse"], best["mse"]);
  GraftJson({"export", "--run", At("saved"), "--format", "graft", "--out", At("saved_a")});
  EXPECT_EQ(Eval({"--model", *model_, "--adapter", At("saved_a")})["mse"], best["mse"]);
  const json p = GraftJson({"predict", "--run", At("saved"), "--text", "film b"})["predictions"][0];
  EXPECT_NEAR(p["values"][0]["value"].get<double>(), 3e5, 2e5);
  // Training goes on from where it was, in the unit of the head.
  GraftJson(Prices("on", {"--model", At("saved_fused"), "--epochs", "1", "--lr", "1e-12"}));
  EXPECT_NEAR(Eval({"--run", At("on")})["mse"].get<double>(), best["mse"].get<double>(),
              1e-4 * best["mse"].get<double>());
  const json better = GraftJson(Prices("better", {"--model", At("saved_fused"), "--epochs", "10"}));
  EXPECT_LT(better["best"].get<double>(), trained["best"].get<double>());
  // A head that stays as it is has its unit already.
  const Words frozen{"--model", At("saved_fused"), "--method", "ln(head=frozen)", "--epochs", "1"};
  const Outcome o = Graft(Prices("frozen", frozen));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.out.find("standardised"), std::string::npos) << o.out;
  EXPECT_NEAR(Metrics("frozen")[0]["val_loss"].get<double>(),
              Metrics("frozen")[0]["val_mse"].get<double>(), 1e3);
}

TEST_F(TargetScale, ResumesToTheSameBits) {
  const Words common{"--epochs", "3", "--save-every", "1", "--method", "lora(r=2)"};
  GraftJson(Prices("whole", common));
  SignalAt(Prices("killed", common), At("killed/last.safetensors"), SIGKILL);
  // What is there meanwhile is in the unit of the targets, too.
  const json now = GraftJson({"predict", "--run", At("killed"), "--checkpoint", "last", "--text",
                              "film b"})["predictions"][0];
  EXPECT_NEAR(now["values"][0]["value"].get<double>(), 3e5, 2e5);
  GraftJson({"train", "--resume", At("killed")});
  for (const char* which : {"last", "best"})
    EXPECT_EQ(Weights("killed", which), Weights("whole", which)) << which;
  // Weights that were lost are made again of the state, in the unit of the targets.
  fs::remove(At("killed/last.safetensors"));
  GraftJson({"train", "--resume", At("killed")});
  EXPECT_EQ(Weights("killed"), Weights("whole"));
  GraftJson(Prices("again", WithOptions(common, {"--threads", "3"})));
  EXPECT_EQ(Weights("again"), Weights("whole"));
  GraftJson({"train", "--config", At("whole/config.json"), "--out", At("repeated")});
  EXPECT_EQ(Weights("repeated"), Weights("whole"));
}

// Without the field, as configurations of earlier versions are, nothing is scaled.
TEST_F(TargetScale, AnEarlierRunStaysAsItWas) {
  GraftJson(Prices("new", {"--epochs", "1"}));
  EXPECT_EQ(Config(At("new"))["scale_targets"], true);
  EXPECT_EQ(Config(At("several"))["scale_targets"], false);
  fs::create_directories(At("early"));
  json config = Config(At("new"));
  config.erase("scale_targets");
  Spill(At("early/config.json"), config.dump());
  const Outcome o = Graft({"train", "--resume", At("early")});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.out.find("standardised"), std::string::npos) << o.out;
  EXPECT_NEAR(Metrics("early")[0]["val_loss"].get<double>(),
              Metrics("early")[0]["val_mse"].get<double>(), 1e5);
}

// Each column counts alike in the loss, whatever its unit is.
TEST_F(TargetScale, ColumnsOfOtherUnits) {
  GraftJson(Prices("two", {"--columns", "text,price|share"}));
  const json eval = GraftJson({"eval", "--run", At("two"), "--data", At("prices")});
  ASSERT_EQ(eval["per_column"].size(), 2u);
  for (const json& column : eval["per_column"])
    EXPECT_GT(column["r2"].get<double>(), 0.6) << column.dump();
  EXPECT_EQ(eval["per_column"][0]["name"], "price");
  EXPECT_LT(eval["per_column"][1]["mae"].get<double>(), 1e-3);
}

TEST_F(TargetScale, OfOtherMethodsToo) {
  for (const char* method : {"linear", "lora(r=2)", "childtuning", "nf4+lora(r=2)"}) {
    SCOPED_TRACE(method);
    const std::string run = std::string("by ") + method;
    const json trained = GraftJson(Prices(run, {"--method", method, "--epochs", "2"}));
    const double best = trained["best"];
    EXPECT_NEAR(Eval({"--run", At(run)})["mse"].get<double>(), best, 1e-3 * best);
    EXPECT_LT(best, 1e11);
  }
}

}  // namespace
}  // namespace graft::cli::cli_target_scale_test
