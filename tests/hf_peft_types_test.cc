// Tests what peft has of our methods: adapters that it wrote, of the types that the other tests do
// not have, against its logits in double; every method of the registry, which is written and read
// again or refused; and mistakes in such files.
#include "adapters/hf/peft_writer.h"
#include "adapters/in_part.h"
#include "adapters/method_graph.h"
#include "tests/fixture_testing.h"
#include "tests/peft_testing.h"

namespace graft::hf_peft_types_test {
namespace {

const std::string kForms = kFixtures + "peft_forms/";

Json Stored() { return ReadJson(kFixtures + "peft_forms.json", {.bytes = 1 << 20, .depth = 8}); }

OpenedModel OpenOn(const std::string& base, const std::string& adapter) {
  ModelChoice choice;
  choice.model = kFixtures + base, choice.adapter = adapter;
  return OpenModel(choice, InputKind::kDataset);
}

// In double, of the inputs that the fixtures have.
std::vector<double> Logits(OpenedModel& opened) {
  ParamStore& params = opened.model.params;
  const Graph g = InferenceGraph(opened.model.config, opened.method, params, opened.seed);
  InterpretOptions o{.leaves = {}, .params = &params};
  if (opened.model.is_bert()) {
    const Expected e("tiny_bert_expected.safetensors");
    for (const char* name : {"ids", "type_ids", "positions", "offsets"}) o.leaves[name] = e[name];
    o.counts = {4, static_cast<int64_t>(e["ids"].size())};
  } else {
    o.leaves["image"] = Expected("tiny_vit_expected.safetensors")["image"];
    o.counts = {3, 0};
  }
  return Interpret(g, o)[g.output("logits").i];
}

std::string Written(const OpenedModel& opened, const HfNaming& naming, const std::string& out) {
  const PeftPlan plan = PlanPeft(opened.method, opened.trained, naming, "base");
  WritePeft(out, plan, opened.model.params, {});
  return out;
}

void ExpectSameTensors(const std::string& before, const std::string& after) {
  const SafetensorsFile a = SafetensorsFile::Open(before + "/adapter_model.safetensors"),
                        b = SafetensorsFile::Open(after + "/adapter_model.safetensors");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const FileTensor& t : a.tensors()) {
    const FileTensor& other = b.Get(t.name);
    EXPECT_EQ(t.shape, other.shape) << t.name;
    EXPECT_TRUE(std::ranges::equal(a.bytes(t), b.bytes(other))) << t.name;
  }
}

struct Form {
  const char *name, *method;
  bool same;  // whether writing gives the same tensors
};

class PeftForms : public ::testing::TestWithParam<Form> {};

TEST_P(PeftForms, HaveTheLogitsOfPeftAndComeBack) {
  const Json stored = Stored()[GetParam().name];
  const std::string base = stored["base"], in = kForms + GetParam().name;
  OpenedModel opened = OpenOn(base, in);
  EXPECT_EQ(ToString(opened.method), GetParam().method);
  const std::vector<double> expected = stored["logits"].get<std::vector<double>>();
  EXPECT_LT(RelativeError(Logits(opened), expected), 1e-12);
  TempDir dir;
  const std::string out = Written(opened, opened.peft->naming, dir / "again");
  if (GetParam().same) ExpectSameTensors(in, out);
  OpenedModel again = OpenOn(base, out);
  EXPECT_LT(RelativeError(Logits(again), expected), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(
    Peft, PeftForms,
    ::testing::Values(Form{"glora_vit",
                           "glora(a=lora,b=lora,c=lora,d=vector,e=vector,head=frozen,qkv=apart,r=3,"
                           "targets=attn.k|attn.o|attn.q|attn.v|mlp.fc1|mlp.fc2)",
                           true},
                      Form{"glora_columns",
                           "glora(a=vector,b=vector,c=vector,d=constant,e=constant,head=frozen,"
                           "qkv=apart,r=8,targets=attn.q|mlp.fc2)",
                           true},
                      // What is off is written as 0, not as zeros of the weight's size.
                      Form{"glora_numbers",
                           "glora(a=constant,b=constant,c=none,d=none,e=none,head=frozen,qkv=apart,"
                           "r=8,targets=blocks.1.attn.k|blocks.1.attn.o|blocks.1.attn.q|"
                           "blocks.1.attn.v|blocks.1.mlp.fc1|blocks.1.mlp.fc2)",
                           false},
                      Form{"glora_bert",
                           "glora(a=lora,b=lora,c=lora,d=constant,e=constant,qkv=apart,r=2,"
                           "targets=attn.o|attn.q|mlp.fc2)",
                           true},
                      Form{"p_tuning", "prompt(pool=first,tokens=3)", true}),
    [](const auto& test) { return std::string(test.param.name); });

// --- every method

// Opens a term on a tiny model, with numbers in everything that trains.
OpenedModel Adapted(const std::string& base, const std::string& method) {
  OpenedModel opened;
  opened.model = LoadModel(kFixtures + base, "", 0);
  opened.method = ParseMethod(method), opened.seed = 3;
  opened.facts.method = method;
  const Graph g = MethodGraph(opened.model.config, {}, opened.method, opened.model.params, 3);
  for (ValueId v : g.Trainable()) {
    const std::string& name = g.value(v).name;
    const auto size = static_cast<size_t>(opened.model.params.shape(name).size());
    FillNormal({opened.model.params.Mutable(name), size}, {MakeKey(5, Purpose::kData, name)}, 0,
               0.2);
    opened.trained.push_back(name);
  }
  return opened;
}

// What one writes and the other reads is the same function, but for one rounding of a prefix.
void ExpectThereAndBack(const std::string& base, const std::string& method) {
  SCOPED_TRACE(base + ", " + method);
  OpenedModel opened = Adapted(base, method);
  const std::vector<double> expected = Logits(opened);
  ReduceMethod(&opened);
  TempDir dir;
  OpenedModel again = OpenOn(base, Written(opened, HfNamingFor(opened.model, 5), dir / "adapter"));
  EXPECT_LT(RelativeError(Logits(again), expected), 1e-6);
}

// peft trains biases beside a LoRA only: the layer that gets an empty one keeps its bias below it.
TEST(PeftTypes, BiasesOfALayerWithAnEmptyLora) {
  const LoadedModel model = LoadModel(kFixtures + "tiny_bert_hf", "", 0);
  const Method method = ParseMethod("bitfit");
  ParamStore params = model.params;
  const Graph g = MethodGraph(model.config, {}, method, params, 0);
  std::vector<std::string> trained;
  for (const ValueId v : g.Trainable()) trained.push_back(g.value(v).name);
  const PeftPlan plan = PlanPeft(method, trained, HfNamingFor(model, 5), "base");
  ASSERT_TRUE(plan.zero_lora);
  std::vector<std::string> below;
  for (const PeftOnModel::Tensor& t : plan.tensors)
    if (t.key.ends_with(".base_layer.bias")) below.push_back(t.key);
  EXPECT_EQ(below, std::vector<std::string>{"base_model.model." + plan.zero_lora->name +
                                            ".base_layer.bias"});
}

TEST(PeftTypes, EveryMethodIsWrittenOrRefused) {
  // Terms with the options that peft has.
  const std::map<std::string, std::vector<std::string>> written{
      {"lora", {"lora(r=2)"}},
      {"ln", {"ln"}},
      {"bitfit", {"bitfit", "bitfit+ln", "bitfit+lora(r=2)"}},
      {"glora",
       {"glora(r=2)", "glora(r=2,qkv=apart)", "glora(a=vector,b=lora_3,c=lora_2,d=none,e=vector)",
        "glora(a=constant,b=none,c=none,d=constant,e=none)",
        "glora(a=none,b=vector,c=vector,d=vector,e=constant)",
        "glora(targets=attn.q|mlp.fc1)+glora(a=constant,b=constant,c=none,e=none,targets=attn.o)",
        "glora(r=2)+ln"}},
      {"prompt", {"prompt(tokens=2,pool=first)"}},
      {"ptuning2", {"ptuning2(tokens=2,shift=true)"}},
      {"prefix", {"prefix(tokens=2,mlp=5,shift=true)", "prefix(tokens=2,mlp=0,shift=true)"}}};
  for (const MethodRecord* record : AllMethods()) {
    const std::string name(record->name);
    EXPECT_EQ(written.contains(name), !record->peft.empty()) << name;
    if (!record->peft.empty()) {
      for (const std::string& method : written.at(name)) {
        ExpectThereAndBack("tiny_bert_hf", method);
        if (record->peft.find("texts") == std::string_view::npos)
          ExpectThereAndBack("tiny_vit_hf", method);
      }
      continue;
    }
    const LoadedModel model = LoadModel(kFixtures + "tiny_bert_hf", "", 0);
    const std::string refused = MessageOf([&] {
      PlanPeft({{name, {}}}, {"head.weight"}, HfNamingFor(model, 5), "base");
    });
    EXPECT_THAT(refused, HasSubstr(fmt::format("peft has no method '{}'", name)));
    EXPECT_THAT(refused, HasSubstr("--format graft"));
  }
}

TEST(PeftTypes, MethodsThatOneAdapterCannotBe) {
  for (const auto& [method, says] :
       {std::pair("lora(r=2)+glora(r=2,targets=mlp.fc1)", "peft has no adapter that is"),
        {"glora(r=2)+bitfit", "peft has no adapter that is"},
        {"glora(r=2,blocks=1)", "option 'blocks' of 'glora'"},
        {"lora(r=2)+ssf", "peft has no method 'ssf'"},
        {"nf4+lora(r=2)", "peft has no method 'nf4'"}}) {
    const LoadedModel model = LoadModel(kFixtures + "tiny_vit_hf", "", 0);
    EXPECT_THAT(MessageOf([&] {
                  PlanPeft(ParseMethod(method), {"head.weight"}, HfNamingFor(model, 5), "base");
                }),
                HasSubstr(says))
        << method;
  }
}

// --- mistakes

class GloraFiles : public HfPeft {
 protected:
  static Json Config() {
    return {{"peft_type", "GLORA"},   {"r", 2},
            {"config_A_B", "lora"},   {"config_C", "none"},
            {"config_D_E", "vector"}, {"target_modules", {"query"}}};
  }
  static std::string Key(int block, const std::string& part) {
    return "base_model.model." + Layer4(block, "attention.attention.query.glora_" + part);
  }
  static Tensors All() {
    Tensors t;
    for (int block : {0, 1}) {
      for (const char* part : {"A", "B"}) {
        t.Add(Key(block, fmt::format("{}.Xd", part)), {kWidth, 2});
        t.Add(Key(block, fmt::format("{}.Xu", part)), {2, kWidth});
      }
      for (const char* part : {"D.X", "E.X"}) t.Add(Key(block, part), {kWidth});
    }
    return t;
  }
};

TEST_F(GloraFiles, AreReadUnderTheAdaptersName) {
  const std::string method = MethodOf(Config(), All());
  Tensors named = All();
  for (const char* part : {"A", "B", "D", "E"})
    named.Rename(fmt::format("glora_{}.", part), fmt::format("glora_{}.default.", part));
  EXPECT_EQ(MethodOf(Config(), named), method);
}

TEST_F(GloraFiles, MistakesAreNamed) {
  struct {
    const char *field, *value, *says;
  } const configs[] = {
      {"bias", "\"all\"", "bias = 'all' in a GLORA adapter"},
      {"config_A_B", "\"lorra\"", "config_A_B = 'lorra'; known: lora, vector, constant, none"},
      {"config_C", "\"constant\"", "config_C = 'constant'"},
      {"config_D_E", "\"lora\"", "config_D_E = 'lora'"},
      {"r", "0", "'r'"},
      {"lora_alpha", "3", "does not support lora_alpha"},
      {"target_modules", "\"all-linear\"", "'all-linear' in a GLORA adapter"},
      {"target_modules", "[\"classifier\"]", "which is no dense layer of a block"},
      {"config_A_B", "\"vector\"", "has shape [24,2]"},
      {"config_C", "\"vector\"", "no tensor for"},
  };
  for (const auto& c : configs) {
    Json config = Config();
    config[c.field] = Json::parse(c.value);
    EXPECT_THAT(Refused(config, All()), HasSubstr(c.says)) << c.field << " = " << c.value;
  }
  const auto with = [&](const std::string& part, const std::vector<int64_t>& shape) {
    Tensors t = All();
    t.Add(Key(0, part), shape);
    return Refused(Config(), t);
  };
  EXPECT_THAT(with("A.Xd", {kWidth, 3}), HasSubstr("has shape [24,3]"));
  EXPECT_THAT(with("F.X", {kWidth}), HasSubstr("is nothing that adapter_config.json"));
  EXPECT_THAT(with("A.Xe", {kWidth}), HasSubstr("is nothing that adapter_config.json"));
  EXPECT_THAT(with("D.Xd", {kWidth}), HasSubstr("is nothing that adapter_config.json"));
  EXPECT_THAT(with("A.a.b.X", {kWidth}), HasSubstr("is nothing that adapter_config.json"));
  EXPECT_THAT(with("A", {kWidth}), HasSubstr("is nothing that adapter_config.json"));
  // Zeros stand for what is off; other numbers there would be left out.
  EXPECT_THAT(with("C.zeros", {kWidth, 1}), HasSubstr("is nothing that adapter_config.json"));
  Tensors less = All();
  less.Remove(Key(1, "B.Xu"));
  EXPECT_THAT(Refused(Config(), less), HasSubstr("no tensor for"));
}

}  // namespace
}  // namespace graft::hf_peft_types_test
