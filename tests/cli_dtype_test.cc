// --dtype and --keep: runs, evaluations and predictions in bf16 and int8. What this CPU has no
// instruction for is emulated, as a user may ask for (GRAFT_EMULATE); without that it is f32, and
// the command says so.
#include <limits>

#include "ops/gemm_core.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_dtype_test {
namespace {

class Dtype : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    emulation_ = new Emulation;
    dir_ = new TempDir;
    MakeData(At("images"));
  }
  static void TearDownTestSuite() {
    delete dir_;
    delete emulation_;
  }
  // A command without emulation.
  static Outcome Plain(const Words& args) {
    delete emulation_;
    const Outcome o = Graft(args);
    emulation_ = new Emulation;
    return o;
  }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Train(const std::string& out, const Words& more = {}) {
    return WithOptions({"train", "--model", kNano, "--data", At("images"), "--method", "lora(r=2)",
                        "--epochs", "2", "--batch-size", "8", "--out", At(out)},
                       more);
  }
  static nlohmann::json Config(const std::string& run) {
    return nlohmann::json::parse(Slurp(At(run) + "/config.json"));
  }
  static std::string Weights(const std::string& run) {
    return Slurp(At(run) + "/last.safetensors");
  }
  static bool Has(const std::string& dtype) {
    return HasCells(dtype == "bf16" ? CellType::kBf16 : CellType::kInt8);
  }
  static TempDir* dir_;
  static Emulation* emulation_;
};
TempDir* Dtype::dir_ = nullptr;
Emulation* Dtype::emulation_ = nullptr;

TEST_F(Dtype, ARunHasItsOwn) {
  GraftJson(Train("f32"));
  EXPECT_EQ(Config("f32")["dtype"], "f32");
  for (const std::string dtype : {"bf16", "int8"}) {
    const Outcome o = Graft(Train(dtype, {"--dtype", dtype}));
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_EQ(Config(dtype)["dtype"], dtype);
    EXPECT_NE((o.out + o.err).find("products  in " + dtype), std::string::npos) << o.err;
    EXPECT_EQ((o.out + o.err).find("GRAFT_EMULATE") == std::string::npos, Has(dtype)) << o.err;
    EXPECT_NE(Weights(dtype), Weights("f32"));
    GraftJson(Train(dtype + "-3", {"--dtype", dtype, "--threads", "3"}));
    EXPECT_EQ(Weights(dtype), Weights(dtype + "-3"));
    const std::string plan = Slurp(At(dtype) + "/plan.json");
    EXPECT_NE(plan.find("gemm_core:" + dtype), std::string::npos);
    EXPECT_EQ(plan.find(":emulated") == std::string::npos, Has(dtype));
    const Outcome plain = Plain(Train(dtype + "-plain", {"--dtype", dtype}));
    EXPECT_EQ((plain.out + plain.err).find("f32 instead") == std::string::npos, Has(dtype));
    EXPECT_EQ(Config(dtype + "-plain")["dtype"], Has(dtype) ? dtype : "f32");
    EXPECT_EQ(Weights(dtype + "-plain"), Weights(Has(dtype) ? dtype : "f32"));
  }
}

// What it takes from the run on resume is its precision, too.
TEST_F(Dtype, AResumedRunGoesOnInIt) {
  GraftJson(Train("whole",
                  {"--dtype", "bf16", "--epochs", "3", "--schedule", "constant", "--warmup", "0"}));
  GraftJson(Train("part",
                  {"--dtype", "bf16", "--epochs", "2", "--schedule", "constant", "--warmup", "0"}));
  GraftJson({"train", "--resume", At("part"), "--epochs", "3"});
  EXPECT_EQ(Weights("whole"), Weights("part"));
  // In f32 it would be another run.
  if (Has("bf16")) return;
  const std::string before = Weights("part");
  const Outcome o = Plain({"train", "--resume", At("part"), "--epochs", "4"});
  EXPECT_EQ(o.code, 1) << o.out;
  EXPECT_NE(o.err.find("the run is in bf16"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("GRAFT_EMULATE=1"), std::string::npos) << o.err;
  EXPECT_EQ(Weights("part"), before);
}

TEST_F(Dtype, ALowerTargetHasNone) {
  const Outcome o = Plain(Train("avx2", {"--dtype", "bf16", "--isa", "avx2"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE((o.out + o.err).find("f32 instead"), std::string::npos) << o.out << o.err;
  GraftJson(Train("avx2-f32", {"--isa", "avx2"}));
  EXPECT_EQ(Weights("avx2"), Weights("avx2-f32"));
}

TEST_F(Dtype, EvalAgainstAnother) {
  GraftJson(Train("e"));
  const Words eval{"eval", "--run", At("e"), "--data", At("images"), "--split", "test"};
  const nlohmann::json f32 = GraftJson(eval);
  EXPECT_EQ(f32["dtype"], "f32");
  const nlohmann::json json = GraftJson(WithOptions(eval, {"--dtype", "int8", "--against", "f32"}));
  EXPECT_EQ(json["dtype"], "int8");
  const nlohmann::json& against = json["against"];
  EXPECT_EQ(against["accuracy"], f32["accuracy"]);
  EXPECT_EQ(against["loss"], f32["loss"]);
  EXPECT_GT(against["agreement"], 0.7);
  EXPECT_GT(against["max_logit_difference"], 0);
  EXPECT_LT(against["max_logit_difference"].get<double>(),
            0.05 * against["logit_range"].get<double>());
  EXPECT_LE(against["rms_logit_difference"], against["max_logit_difference"]);
  EXPECT_GT(against["rms_logit_difference"], 0);
  const Outcome told = Graft(WithOptions(eval, {"--dtype", "int8", "--against", "f32"}));
  EXPECT_NE(told.out.find("images), in int8"), std::string::npos) << told.out;
  EXPECT_NE(told.out.find("int8 is "), std::string::npos) << told.out;
}

// A precision beside itself loses nothing, which says nothing; and where the CPU has no instruction
// both are f32.
TEST_F(Dtype, EvalAgainstItself) {
  GraftJson(Train("e2"));
  const Words eval{"eval", "--run", At("e2"), "--data", At("images"), "--split", "test"};
  ExpectRefused(WithOptions(eval, {"--against", "f32"}), 2, "both are f32");
  ExpectRefused(WithOptions(eval, {"--dtype", "int8", "--against", "int8"}), 2, "both are int8");
  GraftJson(
      WithOptions(eval, {"--dtype", "int8", "--calibrate", At("images"), "--against", "int8"}));
  const Outcome o = Plain(WithOptions(eval, {"--against", "int8", "--isa", "avx2"}));
  EXPECT_EQ(o.code, 2) << o.out;
  EXPECT_NE(o.err.find("both are f32"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("dtype int8: f32 instead"), std::string::npos) << o.err;
}

// What examples tell is the same for any number of threads, and brings numbers nearer to those of
// f32; static scales are something else.
TEST_F(Dtype, Calibrated) {
  GraftJson(Train("c"));
  const Words eval{"eval",    "--run", At("c"),       "--data",     At("images"), "--split", "test",
                   "--dtype", "int8",  "--calibrate", At("images"), "--against",  "f32"};
  const Outcome told = Graft(eval);
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_NE((told.out + told.err).find("calibrated: "), std::string::npos);
  const nlohmann::json json = GraftJson(eval);
  EXPECT_GT(json["calibrated_products"], 0);
  const nlohmann::json scales = GraftJson(WithOptions(eval, {"--static-scales", ""}));
  EXPECT_EQ(scales["calibrated_products"], json["calibrated_products"]);
  EXPECT_NE(scales["loss"], json["loss"]);
  const nlohmann::json& against = json["against"];
  for (const nlohmann::json& a : {against, scales["against"]}) {
    EXPECT_GT(a["max_logit_difference"], 0);
    EXPECT_LT(a["max_logit_difference"].get<double>(), 0.1 * a["logit_range"].get<double>());
  }
  nlohmann::json threads = GraftJson(WithOptions(eval, {"--threads", "3"}));
  EXPECT_EQ(threads["loss"], json["loss"]);
  const nlohmann::json rows = GraftJson({"eval", "--run", At("c"), "--data", At("images"),
                                         "--split", "test", "--dtype", "int8", "--against", "f32"});
  EXPECT_LT(against["rms_logit_difference"], rows["against"]["rms_logit_difference"]);
  EXPECT_NE(rows["loss"], json["loss"]);
  EXPECT_EQ(rows["calibrated_products"], 0);
  const Outcome lower = Plain({"eval", "--run", At("c"), "--data", At("images"), "--split", "test",
                               "--dtype", "int8", "--calibrate", At("images"), "--isa", "avx2"});
  EXPECT_EQ(lower.code, 0) << lower.err;
  EXPECT_NE((lower.out + lower.err).find("nothing is in int8"), std::string::npos) << lower.out;
  const nlohmann::json predicted =
      GraftJson({"predict", "--run", At("c"), At("images"), "--dtype", "int8", "--calibrate",
                 At("images"), "--calibrate-limit", "8"});
  EXPECT_EQ(predicted["failed"], 0);
  EXPECT_EQ(predicted["dtype"], "int8");
}

// A model that makes numbers that are not finite has no ranges, whichever kind these are.
TEST_F(Dtype, CalibrationOfADamagedModel) {
  GraftJson(Train("d"));
  GraftJson({"fuse", "--run", At("d"), "--out", At("fused.safetensors")});
  const SafetensorsFile file = SafetensorsFile::Open(At("fused.safetensors"));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<TensorToWrite> tensors;
    std::vector<std::byte> damaged;
    for (const FileTensor& t : file.tensors()) {
      std::span<const std::byte> bytes = file.bytes(t);
      if (t.name == "blocks.0.mlp.fc1.weight") {
        damaged.assign(bytes.begin(), bytes.end());
        std::memcpy(damaged.data(), &bad, sizeof bad);
        bytes = damaged;
      }
      tensors.push_back({t.name, t.dtype, t.shape, bytes});
    }
    ASSERT_FALSE(damaged.empty());
    WriteSafetensors(At("bad.safetensors"), tensors, file.metadata());
    // Before the first step it is not the rate.
    ExpectRefused(
        {"train", "--model", At("bad.safetensors"), "--data", At("images"), "--preprocess",
         "vtab,resize=32", "--method", "linear", "--epochs", "1", "--out", At("of_bad")},
        5, "nothing had been learned yet, so weights of " + At("bad.safetensors"));
    ExpectRefused({"predict", "--model", At("bad.safetensors"), At("images/images/test/000000.png"),
                   "--dtype", "int8", "--calibrate", At("images")},
                  1, "is multiplied by is not finite");
  }
}

// What a method or --keep leaves no product in is not what is told. Attention alone is in bf16
// here.
TEST_F(Dtype, WhatNoProductIsIn) {
  const Words whole = Train("whole_int8", {"--method", "full", "--dtype", "int8"});
  const Outcome told = Graft(WithOptions(whole, {"--json", ""}));
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_NE(told.err.find("no product of this model and method is in int8; what can be is in bf16"),
            std::string::npos)
      << told.err;
  const std::string run = At("whole_int8");
  const auto summary = nlohmann::json::parse(Slurp(run + "/summary.json"));
  const nlohmann::json again = GraftJson({"train", "--resume", run});  // nothing is left to do
  EXPECT_EQ(nlohmann::json::parse(told.out)["dtype"], "bf16");
  for (const char* key : {"dtype", "peak_memory_bytes"}) EXPECT_EQ(again[key], summary[key]) << key;
  EXPECT_EQ(again["dtype"], "bf16");
  EXPECT_EQ(Config("whole_int8")["dtype"], "int8");

  GraftJson(Train("k"));
  const Words eval{"eval", "--run",   At("k"), "--data", At("images"), "--split",
                   "test", "--dtype", "int8",  "--keep", "*",          "--json"};
  ExpectRefused(WithOptions(eval, {"--against", "f32"}), 2, "both are f32");
  const Outcome kept = Graft(WithOptions(eval, {"--calibrate", At("images")}));
  EXPECT_EQ(kept.code, 0) << kept.err;
  EXPECT_NE(kept.err.find("nothing is in int8, so it is not read"), std::string::npos) << kept.err;
  EXPECT_NE(kept.err.find("is in int8; all are in f32"), std::string::npos) << kept.err;
  EXPECT_EQ(nlohmann::json::parse(kept.out)["dtype"], "f32");
  EXPECT_EQ(nlohmann::json::parse(kept.out)["calibrated_products"], 0);
  ExpectRefused(
      {"profile", "--model", kNano, "--steps", "1", "--numerics", "--dtype", "int8", "--keep", "*"},
      2, "--numerics compares with f32; --dtype int8: no product");
  for (const Words& command : {Words{"predict", "--run", At("k"), At("images")},
                               Words{"profile", "--model", kNano, "--steps", "1"}}) {
    const Outcome o = Graft(WithOptions(command, {"--dtype", "bf16", "--keep", "*", "--json", ""}));
    EXPECT_EQ(nlohmann::json::parse(o.out)["dtype"], "f32") << o.err;
    EXPECT_NE(o.err.find("is in bf16; all are in f32"), std::string::npos) << o.err;
  }
}

// Of what fell back to f32, too, the settings make the same run again.
TEST_F(Dtype, ARunIsRepeatedFromItsSettings) {
  for (const char* dtype : {"auto", "bf16"}) {
    const std::string first = std::string("first_") + dtype, second = first + "_again";
    EXPECT_EQ(Plain(Train(first, {"--dtype", dtype, "--keep", "blocks.0.*"})).code, 0);
    const Outcome o = Plain({"train", "--config", At(first) + "/config.json", "--out", At(second)});
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_EQ(Weights(first), Weights(second));
    EXPECT_EQ(Config(first)["keep"], Has("bf16") ? "blocks.0.*" : "");
  }
}

TEST_F(Dtype, ProfileNamesTheKernels) {
  const nlohmann::json json =
      GraftJson({"profile", "--model", kNano, "--steps", "1", "--dtype", "bf16", "--keep", "fc1"});
  std::map<std::string, std::string> impl;
  for (const auto& node : json["nodes"])
    if (node["op"].get<std::string>().ends_with("matmul")) impl[node["scope"]] = node["impl"];
  EXPECT_EQ(impl["blocks.0.mlp.fc2"], Has("bf16") ? "gemm_core:bf16" : "gemm_core:bf16:emulated");
  EXPECT_EQ(impl["blocks.0.mlp.fc1"], "gemm_core:packed");
}

// What is to be looked at is missing; where nothing is in int8, it is not looked at, and that is
// said.
TEST_F(Dtype, CalibrationByNothing) {
  const Words predict{"predict",     "--model",  kNano,     At("images/images/test/000000.png"),
                      "--calibrate", At("none"), "--dtype", "int8"};
  ExpectRefused(predict, 1, At("none"));
  const Outcome o = Plain(predict);
  EXPECT_EQ(o.code, Has("int8") ? 1 : 0) << o.err;
  EXPECT_NE((o.out + o.err).find(At("none")), std::string::npos) << o.out << o.err;
}

TEST_F(Dtype, Mistakes) {
  const Words profile{"profile", "--model", kNano};
  ExpectMistakes(
      {{"unknown", WithOptions(profile, {"--dtype", "fp8"}), 2, {"--dtype 'fp8'", "bf16"}},
       {"near", WithOptions(profile, {"--dtype", "int4"}), 2, {"did you mean 'int8'"}},
       {"noPass",
        WithOptions(profile, {"--dtype", "int8", "--disable-pass", "low_precision"}),
        2,
        {"--disable-pass low_precision leaves all in f32", "--dtype int8"}},
       {"keepAlone", WithOptions(profile, {"--keep", "fc1"}), 2, {"--keep goes with --dtype"}},
       {"keepEmpty",
        WithOptions(profile, {"--dtype", "bf16", "--keep", "a||b"}),
        2,
        {"--keep 'a||b'", "empty word"}},
       {"fuse",
        {"fuse", "--run", "r", "--out", "o", "--dtype", "bf16"},
        2,
        {"fuse computes in f32"}},
       {"calibrateF32",
        {"predict", "--model", kNano, "a.png", "--calibrate", At("images"), "--dtype", "bf16"},
        2,
        {"--calibrate", "goes with --dtype int8"}},
       {"calibrateSeveral",
        {"predict", "--model", kNano, "a.png", "--calibrate", At("images"), "--dtype", "int8",
         "--adapter", "x", "--adapter", "y"},
        2,
        {"found 2 adapters"}},
       {"keepNothing",
        {"predict", "--model", kNano, At("images/images/test/000000.png"), "--dtype", "int8",
         "--keep", "head|attnn"},
        2,
        {"--keep", "'attnn'; did you mean 'attn"}},
       {"keepNothingOfTrain",
        Train("kt", {"--dtype", "bf16", "--keep", "blocks.99.*"}),
        2,
        {"--keep", "'blocks.99.*'"}},
       {"against",
        {"eval", "--model", kNano, "--data", "d", "--against", "f16"},
        2,
        {"--against 'f16'"}},
       {"calibrateLimit",
        {"predict", "--model", kNano, "a.png", "--dtype", "int8", "--calibrate-limit", "5"},
        2,
        {"--calibrate-limit 5", "goes with --calibrate"}},
       {"calibrateLimitAsItIs",
        {"predict", "--model", kNano, "a.png", "--dtype", "int8", "--calibrate-limit", "64"},
        2,
        {"--calibrate-limit 64", "goes with --calibrate"}},
       {"staticScales",
        {"eval", "--model", kNano, "--data", "d", "--dtype", "int8", "--static-scales"},
        2,
        {"--static-scales", "goes with --calibrate"}},
       {"keepNothingOfPlan",
        {"plan", "--model", kNano, "--batch-size", "4", "--methods", "linear", "--dtype", "int8",
         "--keep", "classifier"},
        2,
        {"no scope 'classifier'", "--graph text"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_dtype_test
