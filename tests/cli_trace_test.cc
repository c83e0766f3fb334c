// --trace of runs with dropout on every set of rows: the same masks and losses however a batch is
// cut, and a replay with the masks of the file gives the losses of the run.
#include <gmock/gmock.h>

#include "adapters/base_model.h"
#include "adapters/method_graph.h"
#include "ops/ops.h"
#include "runtime/io/npz.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"
#include "train/dataset.h"
#include "train/run_dir.h"

namespace graft::cli::cli_trace_test {
namespace {

struct Steps {
  std::vector<double> losses, rates;
};
Steps ReadSteps(const std::string& trace) {
  Steps steps;
  std::ifstream file(trace + "/loss.jsonl");
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json step = nlohmann::json::parse(line);
    steps.losses.push_back(step["loss"]), steps.rates.push_back(step["lr"]);
  }
  return steps;
}

// Every dropout of the graph becomes a product with an input of its stream's name.
Graph WithMasksGiven(Graph g) {
  for (NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    if (n.op != &kDropout) continue;
    const ValueId mask = g.AddInput(n.attrs.As<DropoutAttrs>().stream, g.type(n.in[0]));
    g.ReplaceUses(n.out[0], Mul(g, n.in[0], mask));
  }
  g.EraseDead();
  return g;
}

// The losses of the run again, with the batches, rates and masks of its trace.
std::vector<double> Replay(const std::string& run, const std::string& trace) {
  const RunConfig c = RunDir::Open(run).config();
  LoadedModel model = OpenAdapted(c);
  const Graph g = WithMasksGiven(
      MethodGraph(model.config, {.loss = true}, ParseMethod(c.method), model.params, 0));
  const ParamStore init = SafetensorsFile::Open(trace + "/init.safetensors").LoadAll();
  for (const auto& [name, entry] : init.entries())
    model.params.Set(name, entry.shape, entry.values());
  const std::unique_ptr<BatchSource> data = Dataset(c).Load(c.train_split, 0, model, c);
  TrainStep step(g, model.params, OptimizerOf(c),
                 Counts{c.batch_size, c.batch_size * data->longest()}, {}, {1, 1});
  const NpzFile batches = NpzFile::Open(trace + "/batches.npz");
  const NpzFile masks = NpzFile::Open(trace + "/masks.npz");
  const Steps recorded = ReadSteps(trace);
  std::vector<double> losses;
  for (size_t i = 0; i < recorded.rates.size(); ++i) {
    const std::string name = fmt::format("step_{:06}", i);
    std::vector<size_t> rows;
    for (float row : batches.Read(*batches.Find(name)).values)
      rows.push_back(static_cast<size_t>(row));
    data->Start(rows);
    data->Take(rows.size());
    for (const NpzFile::Array& array : masks.arrays()) {
      if (!array.name.starts_with(name)) continue;
      const std::vector<float> values = masks.Read(array).values;
      std::ranges::copy(values, step.session().Input(array.name.substr(name.size() + 1)).f32());
    }
    losses.push_back(step.Run(data->Parts(step.session().options().capacity),
                              static_cast<int64_t>(i), recorded.rates[i],
                              [&](int64_t first, int64_t count, int worker) {
                                data->Fill(step.session(), first, count, worker);
                              })
                         .loss);
  }
  return losses;
}

struct Case {
  const char *name, *model, *method;
  std::vector<std::string> more;
};

class Trace : public ::testing::TestWithParam<Case> {
 protected:
  std::string Data() {
    const std::string data = dir_ / "data";
    if (std::string(GetParam().model).starts_with("init:vit")) {
      MakeData(data);
      return data;
    }
    std::string text;
    for (int i = 0; i < 48; ++i) {
      for (int k = 0; k <= i * 7 % 10; ++k)
        text += fmt::format("{} ", char('a' + (i + 3 * k) % 20));
      text += fmt::format("{}\t{}\n", i % 2 ? "y" : "x", i % 2);
    }
    fs::create_directory(data);
    Spill(data + "/train.tsv", text);
    Spill(data + "/labels.txt", "crossed\nforked\n");
    return data;
  }
  // A run's directory, whose trace is beside it.
  std::string Run(const std::string& data, int micro_batch) {
    const std::string out = dir_ / fmt::format("run{}", micro_batch);
    std::vector<std::string> args = TrainArgs(data, out, GetParam().more);
    args[2] = GetParam().model, args[6] = GetParam().method;
    args[10] = "20";  // the last batch has 8 of 48
    for (const std::string& word :
         {std::string("--val-split"), std::string("none"), std::string("--lr"), std::string("1e-2"),
          std::string("--trace"), out + ".trace", std::string("--micro-batch"),
          std::to_string(micro_batch)})
      args.push_back(word);
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << o.err;
    return out;
  }
  TempDir dir_;
};

void ExpectNearLosses(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)  // sums in another order
    EXPECT_NEAR(a[i], b[i], 2e-5 * b[i]) << "step " << i;
}

TEST_P(Trace, MasksDoNotDependOnTheMicroBatchAndReplay) {
  const std::string data = Data(), whole = Run(data, 20);
  const std::vector<double> losses = ReadSteps(whole + ".trace").losses;
  const std::string masks = Slurp(whole + ".trace/masks.npz");
  ASSERT_EQ(losses.size(), 6u);
  for (int micro_batch : {1, 3}) {
    const std::string cut = Run(data, micro_batch) + ".trace";
    EXPECT_TRUE(Slurp(cut + "/masks.npz") == masks) << micro_batch;
    ExpectNearLosses(ReadSteps(cut).losses, losses);
  }
  ExpectNearLosses(Replay(whole, whole + ".trace"), losses);
}

// "features": nothing in front of the head trains or is random, so it is computed once.
INSTANTIATE_TEST_SUITE_P(
    Rows, Trace,
    ::testing::Values(
        Case{"vit", kNano, "lora(r=2,dropout=0.5,targets=*)", {}},
        Case{"bert", kNanoBert, "lora(r=2,dropout=0.5,targets=*)", {"--tokenizer", kVocabulary}},
        Case{"features",
             kNanoBert,
             "lora(r=2,dropout=0.5,targets=head)",
             {"--tokenizer", kVocabulary}}),
    [](const auto& info) { return info.param.name; });

// Trains with this method and gives the directory of the trace.
std::string TraceOf(const TempDir& dir, const std::string& name, const std::string& method) {
  const std::string run = dir / name, trace = run + ".trace";
  GraftJson({"train", "--model", kNano, "--data", dir / "data", "--method", method, "--epochs", "1",
             "--limit", "16", "--batch-size", "8", "--out", run, "--trace", trace});
  return trace;
}

// Masks of gradients, which no node of the model has, are drawn in each step, or fixed by the data.
TEST(TraceOfGradients, HasTheirMasks) {
  const TempDir dir;
  MakeData(dir / "data");
  for (const char* mode : {"f", "d"}) {
    const std::string trace = TraceOf(dir, mode, fmt::format("childtuning(mode={})", mode));
    const bool drawn = mode == std::string("f");
    const std::string name = "blocks.0.attn.q.weight";
    EXPECT_EQ(
        Slurp(trace + "/masks.npz").find("step_000001/childtuning." + name) != std::string::npos,
        drawn);
    EXPECT_EQ(
        Slurp(trace + "/init.safetensors").find("childtuning.mask." + name) != std::string::npos,
        !drawn);
  }
}

// Layers that have none train fully.
TEST(TraceOfGradients, OfTheLayersThatAreMeant) {
  const TempDir dir;
  MakeData(dir / "data");
  for (const char* mode : {"f", "d"}) {
    const std::string trace =
        TraceOf(dir, mode, fmt::format("childtuning(mode={},targets=attn.*)", mode));
    const std::string names = Slurp(trace + (*mode == 'f' ? "/masks.npz" : "/init.safetensors")),
                      mask = *mode == 'f' ? "step_000001/childtuning." : "childtuning.mask.";
    EXPECT_NE(names.find(mask + "blocks.0.attn.q.weight"), std::string::npos) << mode;
    EXPECT_EQ(names.find(mask + "blocks.0.mlp"), std::string::npos) << mode;
  }
}

}  // namespace
}  // namespace graft::cli::cli_trace_test
