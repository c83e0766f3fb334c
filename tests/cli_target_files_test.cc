// Tests regression and several labels at once: merged models, adapters, files of transformers,
// images, and what is refused.
#include "runtime/io/safetensors.h"
#include "tests/cli_targets_testing.h"

namespace graft::cli::cli_target_files_test {
namespace {

class TargetFiles : public Targets {};

TEST_F(TargetFiles, MergedModelsAndAdaptersKnowTheirTask) {
  for (const auto& [run, type] :
       {std::pair("run", "regression"), {"several", "multi_label_classification"}}) {
    const std::string fused = At(run + std::string("_fused")),
                      adapter = At(run + std::string("_a"));
    const Words text{"--text", "film b b"};
    const auto predict = [&](Words args) {
      args.insert(args.begin(), "predict");
      args.insert(args.end(), text.begin(), text.end());
      return GraftJson(args)["predictions"][0];
    };
    const json expected = predict({"--run", At(run)});
    GraftJson({"fuse", "--run", At(run), "--out", fused});
    EXPECT_EQ(Config(fused)["problem_type"], type);
    EXPECT_EQ(predict({"--model", fused}).dump(), expected.dump());
    GraftJson({"export", "--run", At(run), "--format", "graft", "--out", adapter});
    EXPECT_EQ(predict({"--model", *model_, "--adapter", adapter}).dump(), expected.dump());
    // Training goes on from such a head, unless it is to do something else.
    const std::string task = type == std::string("regression") ? "regression" : "multi-label";
    const std::string data = task == "regression" ? "numbers" : "names";
    const Words more{"--model", fused, "--epochs", "1", "--method", "linear"};
    const Outcome on = Graft(Args(task, data, "on" + task, more));
    EXPECT_NE(on.out.find("training goes on from the head"), std::string::npos) << on.out << on.err;
    const std::string other = task == "regression" ? "multi-label" : "regression";
    const Outcome fresh =
        Graft(Args(other, other == "regression" ? "numbers" : "names", "fresh" + task, more));
    EXPECT_NE(fresh.out.find("has a head for --task " + task), std::string::npos)
        << fresh.out << fresh.err;
  }
}

// Labels are those of the head, whatever the order in which the data name them.
TEST_F(TargetFiles, LabelsInAnotherOrder) {
  const std::string fused = At("ordered"), turned = At("turned");
  GraftJson({"fuse", "--run", At("several"), "--out", fused});
  fs::copy(At("names"), turned);
  Spill(turned + "/labels.txt", "b\na\n");
  std::vector<double> losses;
  for (const char* data : {"names", "turned"})
    losses.push_back(
        GraftJson(Args("multi-label", data, std::string("order_") + data,
                       {"--model", fused, "--lr", "1e-9", "--epochs", "1"}))["final_train_loss"]);
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
  EXPECT_EQ(Config(At("order_turned"))["labels"], Config(At("order_names"))["labels"]);
  EXPECT_LT(losses[0], 0.5);  // or the order would not tell
}

TEST_F(TargetFiles, AdaptersOfPeftKnowTheirTask) {
  for (const auto& [task, data] : {std::pair("regression", "numbers"), {"multi-label", "names"}}) {
    const std::string run = At(std::string("lora_") + task), out = run + "_peft";
    GraftJson(
        Args(task, data, std::string("lora_") + task, {"--method", "lora(r=2)", "--epochs", "1"}));
    GraftJson({"export", "--run", run, "--format", "hf-peft", "--out", out});
    const auto predict = [&](const Words& of) {
      Words args{"predict", "--text", "film b b"};
      args.insert(args.end(), of.begin(), of.end());
      return GraftJson(args)["predictions"][0];
    };
    const json a = predict({"--run", run}), b = predict({"--model", *model_, "--adapter", out});
    EXPECT_EQ(b.contains("values"), std::string(task) == "regression");
    EXPECT_EQ(a.dump(), b.dump());
  }
}

// A config.json of transformers tells the task by its problem_type; without any, one output is a
// regression.
TEST_F(TargetFiles, ProblemTypesOfTransformers) {
  const std::string model = At("problem");
  fs::copy(*model_, model);
  const json config = Config(model);
  const auto with = [&](const json& type) {
    json changed = config;
    if (!type.is_null()) changed["problem_type"] = type;
    Spill(model + "/config.json", changed.dump());
    return Graft({"predict", "--model", model, "--text", "film", "--json"});
  };
  EXPECT_TRUE(with("regression").json()["predictions"][0].contains("values"));
  EXPECT_TRUE(with("multi_label_classification").json()["predictions"][0].contains("labels"));
  for (const json& type : {json(), json("single_label_classification")})
    EXPECT_FALSE(with(type).json()["predictions"][0].contains("labels"));
  const Outcome wrong = with("ranking");
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.err.find("problem_type 'ranking'; known: regression, single_label"),
            std::string::npos)
      << wrong.err;
  // One output, of which nothing is said.
  GraftJson({"fuse", "--run", At("run"), "--out", At("one_output")});
  json one = Config(At("one_output"));
  one.erase("problem_type");
  Spill(At("one_output/config.json"), one.dump());
  const std::string weights = At("one_output/model.safetensors"), plain = At("plain.safetensors");
  {  // as others write it, without metadata of ours
    const ParamStore all = SafetensorsFile::Open(weights).LoadAll();
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, entry] : all.entries()) tensors.push_back(ToWrite(name, entry));
    WriteSafetensors(plain, tensors, {{"format", "pt"}});
  }
  fs::rename(plain, weights);
  EXPECT_TRUE(
      GraftJson({"predict", "--model", At("one_output"), "--text", "film"})["predictions"][0]
          .contains("values"));
}

TEST_F(TargetFiles, ImagesOfATable) {
  MakeData(At("shapes"));
  std::string scores = "file,score\n", names = "file,labels\n";
  std::istringstream list(Slurp(At("shapes/train800.txt")));
  for (std::string path, label; list >> path >> label;) {
    scores += fmt::format("{},{}\n", path, std::stod(label) / 2);
    names += fmt::format("{},{}\n", path, label == "0" ? "" : label == "1" ? "x" : "x|y");
  }
  Spill(At("shapes/labels.csv"), scores);
  const Words train{"--model", kNano, "--epochs", "2", "--lr", "1e-3"};
  const json trained = GraftJson(
      Args("regression", "shapes", "image_run", WithOptions(train, {"--columns", "file,score"})));
  EXPECT_EQ(trained["task"], "regression");
  const json p = GraftJson({"predict", "--run", At("image_run"), At("shapes/images")});
  EXPECT_TRUE(p["predictions"][0].contains("values"));
  EXPECT_EQ(GraftJson({"eval", "--run", At("image_run"), "--data", At("shapes")})["split"],
            "holdout");
  const json check = GraftJson({"data", "check", At("shapes"), "--task", "regression"});
  EXPECT_EQ(check["images"], true);
  EXPECT_EQ(check["splits"][0]["texts"], 48);
  Spill(At("shapes/labels.csv"), names);
  for (const char* augment : {"flip,mixup=0.4", ""})
    EXPECT_EQ(GraftJson(Args(
                  "multi-label", "shapes", fmt::format("images{}", *augment != 0),
                  WithOptions(train, *augment ? Words{"--augment", augment} : Words{})))["task"],
              "multi-label");
  Spill(At("shapes/labels.csv"), "file,score\nnone.png,1\nnot.png,2\n");
  ExpectMistakes({{"missing image",
                   {"data", "check", "@shapes", "--task", "regression"},
                   1,
                   {"none.png, which does not exist"}},
                  {"divided",
                   {"data", "split", "@shapes/labels.csv", "--task", "regression", "--holdout",
                    "0.5", "--out", "@lists"},
                   1,
                   {"a table of images", "--holdout"}}},
                 *dir_);
}

TEST_F(TargetFiles, Mistakes) {
  fs::create_directories(At("constant"));
  Spill(At("constant/train.csv"), "text,score\nfilm,1\na,1\n");
  fs::create_directories(At("whole"));
  Spill(At("whole/train.jsonl"), "{\"text\":\"a\",\"label\":[1,0]}\n");
  fs::create_directories(At("floats"));
  Spill(At("floats/train.csv"), "text,score\nfilm,0.5\na,1.5\n");
  fs::create_directories(At("pictures/cat"));
  Spill(At("pictures/cat/a.png"), "");
  const auto train = [&](const std::string& task, const std::string& data, const Words& more) {
    return WithOptions(Args(task, data, "fresh", {}), more);
  };
  const std::string r = "regression", m = "multi-label";
  ExpectMistakes(
      {{"task", train("regresion", "numbers", {}), 2, {"--task: 'regresion'", "'regression'"}},
       {"floats",
        {"train", "--model", *model_, "--data", "@floats", "--out", "@fresh"},
        1,
        {"train.csv:2", "'0.5' is no class", "hint: --task regression"}},
       {"whole arrays",
        {"train", "--model", *model_, "--data", "@whole", "--out", "@fresh"},
        2,
        {"arrays of whole numbers", "--task multi-label"}},
       {"constant", train(r, "constant", {}), 1, {"all 2 examples", "the same targets"}},
       {"smoothing",
        train(r, "numbers", {"--label-smoothing", "0.1"}),
        2,
        {"--label-smoothing: not with --task regression"}},
       {"weights",
        train(m, "names", {"--class-weights", "balanced"}),
        2,
        {"--class-weights: not with --task multi-label"}},
       {"calibration",
        train(m, "names", {"--method", "linear+calibration"}),
        2,
        {"--method: not with --task multi-label", "calibration"}},
       {"mixup",
        train(r, "numbers", {"--augment", "mixup=1"}),
        2,
        {"--augment: not with --task regression"}},
       {"words",
        train(r, "numbers", {"--head", "mlm", "--template", "{text} [MASK]", "--words", "a|b"}),
        2,
        {"--task regression: --head mlm chooses one class"}},
       {"objective",
        train(r, "numbers", {"--objective", "mlm"}),
        2,
        {"--task regression: of labelled data"}},
       {"metric of classes",
        train(r, "numbers", {"--best-metric", "accuracy"}),
        2,
        {"--best-metric: 'accuracy'; known of --task regression: mse, mae, r2"}},
       {"metric of numbers",
        train("classify", "names", {"--best-metric", "pearson"}),
        2,
        {"--best-metric: 'pearson'; known: accuracy"}},
       {"no table",
        train(r, "pictures", {"--model", kNano}),
        1,
        {"--task regression wants a table", "labels.csv"}},
       {"columns",
        {"eval", "--run", "@run", "--data", "@numbers", "--columns", "text,score|half"},
        1,
        {"gives 1 numbers", "has 2 columns"}},
       {"unknown label",
        {"eval", "--run", "@several", "--data", "@numbers", "--columns", "text,half"},
        1,
        {"unknown label"}},
       {"threshold",
        {"predict", "--run", "@run", "--text", "a", "--threshold", "0.3"},
        2,
        {"--threshold 0.3", "gives numbers"}},
       {"top",
        {"predict", "--run", "@run", "--text", "a", "--top", "2"},
        2,
        {"--top 2: of classes"}},
       {"top of a table",
        {"predict", "--run", "@several", "--text", "a", "--top", "1", "--out", "@p.csv"},
        2,
        {"--top 1", ".jsonl"}},
       {"check", {"data", "check", "@numbers", "--task", "x"}, 2, {"--task: 'x'"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_target_files_test
