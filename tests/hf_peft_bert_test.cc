// Adapters of Hugging Face peft on a BERT: which modules a config means there, what is refused, and
// that writing gives back what was read.
#include <gmock/gmock.h>

#include "adapters/adapter_file.h"
#include "adapters/base_hash.h"
#include "adapters/hf/peft_writer.h"
#include "adapters/method_graph.h"
#include "adapters/unmerge.h"
#include "runtime/io/atomic_file.h"
#include "tests/peft_testing.h"
#include "train/evaluator.h"

namespace graft::hf_peft_bert_test {
namespace {

using ::testing::ElementsAre;

const std::string kBert = kFixtures + "tiny_bert_hf";

std::string Layer(int block, const std::string& name, const std::string& prefix = "bert.") {
  return fmt::format("{}encoder.layer.{}.{}", prefix, block, name);
}

Json Classifier(const Json& targets) {
  return {{"peft_type", "LORA"},
          {"task_type", "SEQ_CLS"},
          {"r", 2},
          {"lora_alpha", 6},
          {"target_modules", targets}};
}

Tensors QueryAndValue(const std::string& prefix = "bert.") {
  Tensors t;
  for (int block : {0, 1})
    for (const char* name : {"attention.self.query", "attention.self.value"})
      t.Lora(Layer(block, name, prefix), kWidth, kWidth, 2);
  return t;
}

class HfPeftBert : public HfPeft {
 protected:
  HfPeftBert() { model_ = LoadModel(kBert, "", 0); }
  OpenedModel OpenOn(const std::string& base, const std::string& adapter) {
    ModelChoice choice;
    choice.model = base, choice.adapter = adapter;
    return OpenModel(choice, InputKind::kDataset);
  }
};

// modules_to_save may leave the head out: peft adds it for SEQ_CLS.
TEST_F(HfPeftBert, AClassifierBringsItsHead) {
  Tensors t = QueryAndValue();
  t.Whole("classifier", {4, kWidth});
  const PeftOnModel fitted = Fit(Write(Classifier({"query", "value"}), t));
  EXPECT_EQ(ToString(fitted.method), "lora(alpha=6,r=2,targets=attn.q|attn.v)");
  EXPECT_EQ(fitted.classes, 4);
  EXPECT_EQ(fitted.naming.transformers, 0);  // the same names in every release
  EXPECT_THAT(Refused(Classifier({"query", "value"}), QueryAndValue()),
              HasSubstr("no tensor for 'head.bias'"));
}

TEST_F(HfPeftBert, NamesOfTheBareBackbone) {
  Json config = Classifier({"query", "value"});
  config["task_type"] = "FEATURE_EXTRACTION";
  EXPECT_EQ(MethodOf(config, QueryAndValue("")),
            "lora(alpha=6,head=frozen,r=2,targets=attn.q|attn.v)");
}

// The pooler is a dense layer like any other; the masked-LM head is another class's.
TEST_F(HfPeftBert, AllLinearHasThePooler) {
  Tensors t = QueryAndValue();
  t.Whole("classifier", {3, kWidth});
  for (int block : {0, 1}) {
    t.Lora(Layer(block, "attention.self.key"), kWidth, kWidth, 2);
    t.Lora(Layer(block, "attention.output.dense"), kWidth, kWidth, 2);
    t.Lora(Layer(block, "intermediate.dense"), kMlp, kWidth, 2);
    t.Lora(Layer(block, "output.dense"), kWidth, kMlp, 2);
  }
  t.Lora("bert.pooler.dense", kWidth, kWidth, 2);
  const std::string all =
      "lora(alpha=6,r=2,targets=attn.k|attn.o|attn.q|attn.v|mlp.fc1|mlp.fc2|pooler)";
  EXPECT_EQ(MethodOf(Classifier("all-linear"), t), all);
  EXPECT_EQ(MethodOf(Classifier({"query", "key", "value", "dense"}), t), all);
  EXPECT_THAT(Refused(Classifier({"word_embeddings"}), t), HasSubstr("which is no dense layer"));
}

TEST_F(HfPeftBert, OtherTasksAreRefused) {
  Json config = Classifier({"query"});
  for (const char* task : {"TOKEN_CLS", "QUESTION_ANS", "CAUSAL_LM"}) {
    config["task_type"] = task;
    EXPECT_THAT(Refused(config, QueryAndValue()), HasSubstr(fmt::format("task_type '{}'", task)));
  }
}

TEST_F(HfPeftBert, WritingGivesBackWhatWasRead) {
  Tensors lora = QueryAndValue(), norms;
  lora.Whole("classifier", {3, kWidth}), norms.Whole("classifier", {3, kWidth});
  lora.Add("base_model.model.bert.pooler.dense.weight", {kWidth, kWidth});
  lora.Add("base_model.model.bert.pooler.dense.bias", {kWidth});
  for (const char* part : {"weight", "bias"}) {
    const auto add = [&](const std::string& norm) {
      norms.Add(fmt::format("base_model.model.{}.ln_tuning_layers.{}", norm, part), {kWidth});
    };
    add("bert.embeddings.LayerNorm");
    for (int block : {0, 1})
      add(Layer(block, "attention.output.LayerNorm")), add(Layer(block, "output.LayerNorm"));
  }
  Json with_pooler = Classifier({"query", "value"});
  with_pooler["modules_to_save"] = {"pooler"};
  const Json ln{
      {"peft_type", "LN_TUNING"}, {"task_type", "SEQ_CLS"}, {"target_modules", {"LayerNorm"}}};
  for (const auto& [config, tensors] : {std::pair(with_pooler, lora), std::pair(ln, norms)}) {
    const std::string in = Write(config, tensors), out = in + "-out";
    const OpenedModel opened = OpenOn(kBert, in);
    const PeftPlan plan = PlanPeft(opened.method, opened.trained, opened.peft->naming, "base");
    EXPECT_EQ(plan.config.task_type, "SEQ_CLS");
    WritePeft(out, plan, opened.model.params, {});
    const SafetensorsFile a = SafetensorsFile::Open(in + "/adapter_model.safetensors"),
                          b = SafetensorsFile::Open(out + "/adapter_model.safetensors");
    ASSERT_EQ(a.tensors().size(), b.tensors().size());
    for (const FileTensor& t : a.tensors())
      EXPECT_TRUE(std::ranges::equal(a.bytes(t), b.bytes(b.Get(t.name)))) << t.name;
    EXPECT_EQ(ToString(OpenOn(kBert, out).method), ToString(opened.method));
  }
}

// The rows in front of the text are one matrix, and the head has keys without "model.".
TEST_F(HfPeftBert, PromptsComeAndGo) {
  for (const auto& [type, columns, method] :
       {std::tuple("PROMPT_TUNING", kWidth, "prompt(pool=first,tokens=3)"),
        std::tuple("PREFIX_TUNING", 4 * kWidth, "ptuning2(shift=true,tokens=3)")}) {
    Tensors t;
    t.Add("prompt_embeddings", {3, columns});
    t.Add("base_model.classifier.weight", {4, kWidth}), t.Add("base_model.classifier.bias", {4});
    const Json config{{"peft_type", type},         {"task_type", "SEQ_CLS"},
                      {"num_virtual_tokens", 3},   {"token_dim", kWidth},
                      {"num_layers", 2},           {"prompt_tuning_init", "RANDOM"},
                      {"num_attention_heads", 2},  {"num_transformer_submodules", 1},
                      {"prefix_projection", false}};
    const std::string in = Write(config, t), out = in + "-out";
    const OpenedModel opened = OpenOn(kBert, in);
    EXPECT_EQ(ToString(opened.method), method);
    EXPECT_EQ(Classes(opened.model.config), 4);
    WritePeft(out, PlanPeft(opened.method, opened.trained, opened.peft->naming, "base"),
              opened.model.params, {});
    const SafetensorsFile a = SafetensorsFile::Open(in + "/adapter_model.safetensors"),
                          b = SafetensorsFile::Open(out + "/adapter_model.safetensors");
    ASSERT_EQ(a.tensors().size(), b.tensors().size());
    for (const FileTensor& f : a.tensors())
      EXPECT_TRUE(std::ranges::equal(a.bytes(f), b.bytes(b.Get(f.name)))) << f.name;
    EXPECT_EQ(ToString(OpenOn(kBert, out).method), method);
    // The second value of the first row belongs to the first layer's keys.
    const std::string first =
        type == std::string("PROMPT_TUNING") ? "prompt.tokens" : "blocks.0.attn.ptuning2_k";
    EXPECT_EQ(opened.model.params.shape(first), (Extents{3, kWidth}));
    ParamStore whole;
    a.Load(a.Get("prompt_embeddings"), "all", &whole);
    EXPECT_EQ(opened.model.params.values(first)[1], whole.values("all")[1]);
    Json other = config;
    other["num_virtual_tokens"] = 5;
    EXPECT_THAT(MessageOf([&] { OpenOn(kBert, Write(other, t)); }), HasSubstr("want [5,"));
    other = config, other["num_layers"] = 3;
    EXPECT_THAT(MessageOf([&] { OpenOn(kBert, Write(other, t)); }), HasSubstr("num_layers = 3"));
    t.Add("base_model.model.bert.x", {1});
    EXPECT_THAT(MessageOf([&] { OpenOn(kBert, Write(config, t)); }), HasSubstr("bert.x"));
  }
  const auto plan = [&](const char* method) {
    return MessageOf([&] { PlanPeft(ParseMethod(method), {}, HfNamingFor(model_, 5), "base"); });
  };
  EXPECT_THAT(plan("prompt"), HasSubstr("prompt(pool=first)"));
  EXPECT_THAT(plan("ptuning2"), HasSubstr("ptuning2(shift=true)"));
  EXPECT_THAT(plan("prefix"), HasSubstr("prefix(shift=true)"));
  EXPECT_THAT(plan("prefix(shift=true)"), HasSubstr("still has the MLP"));
  EXPECT_THAT(plan("prompt(pool=first)+ln"), HasSubstr("a prompt alone"));
}

// peft gives no LoRA to a module that it saves whole: the head's is inside of the saved weight.
TEST_F(HfPeftBert, ALoraOfTheHeadGoesIntoItsWeight) {
  AdapterFacts config;
  config.model = kBert, config.labels = {"a", "b", "c", "d"};
  const LoadedModel model = OpenAdapted(config);
  const auto logits = [&](const LoadedModel& of, const Method& method, ParamStore& params) {
    Evaluator evaluator(InferenceGraph(of.config, method, params, 0, false), params,
                        {.capacity = {8, 256}});
    return evaluator.Logits(*MakeRandomData(8, of, 3));
  };
  for (const char* text :
       {"lora(r=2,targets=*)", "lora(alpha=3,bias=lora_only,r=2,rslora=true,targets=*)",
        "lora(alpha=6,head=frozen,r=2,targets=head)+lora(r=4,targets=attn.q)"}) {
    const Method method = ParseMethod(text);
    ParamStore params = model.params;
    const Graph g = MethodGraph(model.config, {}, method, params, 0);
    std::set<std::string> trained{"head.weight", "head.bias"};
    for (const std::string& name : params.names()) {
      if (!name.ends_with(".lora_b") && !name.ends_with(".lora_a")) continue;
      const auto size = static_cast<size_t>(params.shape(name).size());
      FillNormal({params.Mutable(name), size}, {MakeKey(5, Purpose::kData, name)}, 0, 0.3);
      trained.insert(name);
    }
    for (ValueId v : g.Trainable()) trained.insert(g.value(v).name);
    const std::string out = dir_ / fmt::format("head-{}", trained.size());
    const PeftPlan plan =
        PlanPeft(method, {trained.begin(), trained.end()}, HfNamingFor(model, 5), "base");
    EXPECT_EQ(plan.config.modules_to_save, std::vector<std::string>{"classifier"});
    EXPECT_EQ(plan.folds.size(), 1u);
    WritePeft(out, plan, params, {});
    EXPECT_EQ(SafetensorsFile::Open(out + "/adapter_model.safetensors")
                  .Find("base_model.model.classifier.lora_A.weight"),
              nullptr);
    OpenedModel again = OpenOn(kBert, out);
    const std::vector<float> expected = logits(model, method, params),
                             found = logits(again.model, again.method, again.model.params);
    ASSERT_EQ(found.size(), 32u);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5) << text;
  }
}

// "output.dense" would mean attention's, too.
TEST_F(HfPeftBert, EndingsMeanOneLayer) {
  const auto plan = [&](const char* method) {
    ParamStore params = model_.params;
    const Graph g = MethodGraph(model_.config, {}, ParseMethod(method), params, 0);
    std::vector<std::string> trained;
    for (ValueId v : g.Trainable()) trained.push_back(g.value(v).name);
    return PlanPeft(ParseMethod(method), trained, HfNamingFor(model_, 5), "base");
  };
  EXPECT_THAT(plan("lora(targets=mlp.fc2)").config.target.names,
              ElementsAre("0.output.dense", "1.output.dense"));
  EXPECT_THAT(plan("lora(targets=attn.o)").config.target.names,
              ElementsAre("attention.output.dense"));
  EXPECT_THAT(plan("lora(targets=attn.o|mlp.fc2)").config.target.names,
              ElementsAre("output.dense"));
  EXPECT_THAT(plan("lora(targets=pooler)").config.target.names, ElementsAre("pooler.dense"));
  EXPECT_THAT(plan("ln").config.target.names, ElementsAre("LayerNorm"));
  EXPECT_EQ(plan("lora+bitfit").config.bias, "all");
}

TEST_F(HfPeftBert, AnotherBaseIsRefused) {
  Tensors t = QueryAndValue();
  t.Whole("classifier", {3, kWidth});
  const std::string adapter =
      Write(Classifier({"query", "value"}), t, {{"graft.base_sha256", BaseHash(kBert)}});
  EXPECT_EQ(OpenOn(kBert, adapter).method.size(), 1u);
  ParamStore params = model_.params;
  params.Mutable("embed.word.weight")[7] += 1;
  SaveModel(model_, params, dir_ / "other", {});
  EXPECT_THAT(MessageOf([&] { OpenOn(dir_ / "other", adapter); }), HasSubstr("another base"));
}

// Our own file says how the texts are pooled and cut, and where it lies.
TEST_F(HfPeftBert, OurAdapterKeepsPoolingAndLength) {
  AdapterFacts config;
  config.model = kBert, config.method = "lora(r=2)", config.labels = {"a", "b", "c", "d"};
  config.pool = "mean", config.max_length = 16;
  LoadedModel model = OpenAdapted(config);
  const Graph g = MethodGraph(model.config, {}, ParseMethod(config.method), model.params, 0);
  std::vector<std::string> trained;
  for (ValueId v : g.Trainable()) trained.push_back(g.value(v).name);
  dir_.Write("own/adapter.safetensors", "");
  const std::string path = dir_ / "own/adapter.safetensors";
  WriteAdapter(path, model.params, trained, ModelMetadata(model, config), 3);
  EXPECT_TRUE(LooksLikeAdapter(dir_ / "own"));
  EXPECT_FALSE(LooksLikeAdapter(kBert));
  EXPECT_EQ(ArchitectureName(AdapterFile::Open(path).architecture), ArchitectureName(model.config));
  const OpenedModel opened = OpenOn(kBert, dir_ / "own");
  EXPECT_EQ(opened.model.bert().pool, "mean");
  EXPECT_EQ(opened.facts.max_length, 16);
  EXPECT_EQ(opened.labels(), config.labels);
  EXPECT_EQ(opened.trained.size(), trained.size());
}

// A bare backbone gets a head and with it other names; the kept base holds only what is nowhere in
// the merged model.
TEST_F(HfPeftBert, UndoingKeepsTheNamesOfTheBackbone) {
  LoadedModel bare = model_;
  bare.params.Erase("head.weight"), bare.params.Erase("head.bias");
  bare.root = "", bare.file = nullptr;
  const std::string base = dir_ / "bare", fused = dir_ / "fused", again = dir_ / "again";
  SaveModel(bare, bare.params, base, {{"note", "kept"}});
  LoadedModel merged = LoadModel(base, "", 0);
  AdaptClasses(merged, {"x", "y"}, 0);
  ParamStore params = merged.params;
  params.Mutable("blocks.1.attn.q.weight")[5] += 1;
  SaveModel(merged, params, fused, {});
  KeepBase(base, fused);
  EXPECT_TRUE(SafetensorsModel::Open(fused).files()[0].Find("bert.pooler.dense.weight"));
  const SafetensorsFile kept = SafetensorsFile::Open(KeptBasePath(fused));
  ASSERT_EQ(kept.tensors().size(), 1u);
  EXPECT_EQ(kept.tensors()[0].name, "encoder.layer.1.attention.self.query.weight");
  UndoFuse(fused, again);
  EXPECT_EQ(ReadFile(again + "/model.safetensors", 1 << 20),
            ReadFile(base + "/model.safetensors", 1 << 20));
  EXPECT_EQ(ReadFile(again + "/config.json", 1 << 20), ReadFile(base + "/config.json", 1 << 20));
}

}  // namespace
}  // namespace graft::hf_peft_bert_test
