// Methods that hold others: GLoRA at some of its choices is LoRA, SSF (of dense layers) or BitFit
// (methods.md 22), the unified form is each method that the paper names. With parameters that
// correspond, in f64, the logits are the same.
#include <gtest/gtest.h>

#include <cmath>

#include "adapters/method_graph.h"
#include "autograd/gradient.h"
#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"
#include "tests/peft_cases.h"

namespace graft::superset_test {
namespace {

using Leaves = std::map<std::string, std::vector<double>>;

std::vector<double> Noise(size_t n, const std::string& stream) {
  std::vector<float> values(n);
  FillNormal(values, {MakeKey(5, Purpose::kData, stream)}, 0, 0.3);
  return {values.begin(), values.end()};
}

struct Pair {
  const char *general, *special;
  // Makes the leaves of the general method from those of the special one and the model.
  Leaves (*general_leaves)(const Leaves& special, const Leaves& model);
};

bool EndsWith(const std::string& text, std::string_view end) { return text.ends_with(end); }
std::string Scope(const std::string& name) { return name.substr(0, name.rfind('.')); }

// GLoRA has one layer of 3D outputs where a block has q, k and v, whose values stand one after the
// other.
void Put(Leaves& leaves, const std::string& scope, const std::string& name,
         const std::vector<double>& values, bool shared = false) {
  const bool three =
      EndsWith(scope, "attn.q") || EndsWith(scope, "attn.k") || EndsWith(scope, "attn.v");
  std::vector<double>& to =
      leaves[(three ? scope.substr(0, scope.size() - 1) + "qkv" : scope) + ".glora_" + name];
  if (shared) to.clear();
  to.insert(to.end(), values.begin(), values.end());
}

// Leaves come in the order of their names, and k stands before q.
constexpr const char* kOrder[] = {"attn.q", "attn.k", "attn.v", "attn.o", "mlp.fc1", "mlp.fc2"};
void ForLayers(const Leaves& leaves, std::string_view suffix,
               const std::function<void(const std::string& scope, const std::vector<double>&)>& f) {
  for (const char* layer : kOrder)
    for (const auto& [name, values] : leaves)
      if (EndsWith(name, suffix) && EndsWith(Scope(name), layer)) f(Scope(name), values);
}

Leaves FromLora(const Leaves& special, const Leaves&) {
  Leaves leaves;
  ForLayers(special, ".lora_a",
            [&](const std::string& s, const auto& v) { Put(leaves, s, "b_up", v, true); });
  ForLayers(special, ".lora_b",
            [&](const std::string& s, const auto& v) { Put(leaves, s, "b_down", v); });
  return leaves;
}

Leaves FromSsf(const Leaves& special, const Leaves&) {
  Leaves leaves;
  ForLayers(special, ".ssf_scale", [&](const std::string& s, std::vector<double> v) {
    for (double& x : v) x -= 1;
    Put(leaves, s, "a_down", v), Put(leaves, s, "d", v);
  });
  ForLayers(special, ".ssf_shift",
            [&](const std::string& s, const auto& v) { Put(leaves, s, "e", v); });
  return leaves;
}

Leaves FromBitFit(const Leaves& special, const Leaves& model) {
  Leaves leaves;
  ForLayers(special, ".bias", [&](const std::string& s, std::vector<double> v) {
    const std::vector<double>& base = model.at(s + ".bias");
    for (size_t i = 0; i < v.size(); ++i) v[i] -= base[i];
    Put(leaves, s, "e", v);
  });
  return leaves;
}

// Puts the same values under the names of the unified form.
template <const char* From, const char* To>
Leaves Renamed(const Leaves& special, const Leaves&) {
  Leaves leaves;
  for (const auto& [name, values] : special)
    if (const size_t at = name.find(From); at != name.npos)
      leaves[std::string(name).replace(at, std::string_view(From).size(), To)] = values;
  return leaves;
}
constexpr char kPrefix[] = ".prefix_", kParallel[] = ".parallel_", kUnified[] = ".unified_";
constexpr char kLoraA[] = ".lora_a", kLoraB[] = ".lora_b", kDown[] = ".unified_down",
               kUp[] = ".unified_up", kHoulsbyMlp[] = ".mlp.houlsby_", kMlp[] = ".mlp.unified_";
Leaves FromLoraToUnified(const Leaves& special, const Leaves& model) {
  Leaves leaves = Renamed<kLoraA, kDown>(special, model);
  leaves.merge(Renamed<kLoraB, kUp>(special, model));
  return leaves;
}

const Pair kPairs[] = {
    {"glora(r=2,a=none,b=lora,c=none,d=none,e=none,targets=attn.o|mlp.*)",
     "lora(r=2,targets=attn.o|mlp.*)", FromLora},
    {"glora(r=2,a=none,b=lora,c=none,d=none,e=none,targets=attn.q|attn.k|attn.v)",
     "lora(r=2,targets=attn.q|attn.k|attn.v)", FromLora},
    {"glora(a=vector,b=none,c=none,d=vector,e=vector)", "ssf(targets=attn.*|mlp.*)", FromSsf},
    {"glora(a=none,b=none,c=none,d=none,e=vector)", "bitfit", FromBitFit},
    {"unified(form=prefix,site=heads,composition=gated,r=3)", "prefix(tokens=3,mlp=0)",
     Renamed<kPrefix, kUnified>},
    {"unified(form=parallel,site=ffn,r=3)", "parallel(r=3)", Renamed<kParallel, kUnified>},
    {"unified(form=parallel,site=heads,r=3)", "parallel(r=3,site=attn)",
     Renamed<kParallel, kUnified>},
    {"unified(form=parallel,site=ffn,composition=scaled,scale=4,r=3)", "parallel(r=3,scale=4)",
     Renamed<kParallel, kUnified>},
    {"unified(form=lora,site=attn,composition=scaled,scale=2,r=3)", "lora(r=3,alpha=6)",
     FromLoraToUnified},
    {"unified(form=adapter,site=ffn,act=gelu,r=3)", "houlsby(r=3,act=gelu)",
     Renamed<kHoulsbyMlp, kMlp>},
};

class Superset : public ::testing::TestWithParam<std::tuple<size_t, bool>> {
 protected:
  static bool text() { return std::get<1>(GetParam()); }
  static const Pair& Row() { return kPairs[std::get<0>(GetParam())]; }
  static ModelConfig Config() { return text() ? ModelConfig(kTinyBert) : ModelConfig(kTiny); }
  static std::vector<double> Logits(const Graph& g, Leaves leaves) {
    if (text()) {
      leaves["ids"] = {2, 7, 9, 2, 11}, leaves["type_ids"] = {0, 0, 1, 0, 0};
      leaves["positions"] = {0, 1, 2, 0, 1}, leaves["offsets"] = {0, 3, 5};
    } else {
      leaves["image"] = Noise(2 * 3 * 64, "image");
    }
    const ParamStore none;
    const Values64 v = Interpret(
        g,
        {.counts = {2, text() ? 5 : 0}, .leaves = {leaves.begin(), leaves.end()}, .params = &none});
    return v[g.output("logits").i];
  }
  static Graph Build(const char* method) {
    ParamStore params;
    return InferenceGraph(Config(), ParseMethod(method), params, 1);
  }
};

TEST_P(Superset, AtItsChoicesItIsTheOther) {
  const Graph plain = BuildModel(Config()), special = Build(Row().special),
              general = Build(Row().general);
  Leaves model, mine;
  for (ValueId v : plain.Leaves(Role::kParam)) {
    const std::string& name = plain.value(v).name;
    model[name] = Noise(static_cast<size_t>(At(plain.shape(v), {}).size()), name);
  }
  const bool bitfit = std::string_view(Row().special) == "bitfit";
  const bool one_a = std::string_view(Row().special).find("attn.k") != std::string_view::npos;
  for (ValueId v : special.Leaves(Role::kParam)) {
    const std::string& name = special.value(v).name;
    const size_t size = static_cast<size_t>(At(special.shape(v), {}).size());
    const bool layer = name.find("attn.") != name.npos || name.find("mlp.") != name.npos;
    if (bitfit ? layer && EndsWith(name, ".bias") : !plain.FindLeaf(name).valid())
      mine[name] = Noise(size, one_a && EndsWith(name, "lora_a") ? "shared" : "method " + name);
    // Houlsby's adapter at attention does nothing here.
    if (name.find(".attn.houlsby_") != name.npos) mine[name].assign(size, 0);
  }
  ASSERT_FALSE(mine.empty());
  Leaves of_special = mine, of_general = Row().general_leaves(mine, model);
  ASSERT_FALSE(of_general.empty());
  for (const auto& [name, values] : of_general) {
    const ValueId leaf = general.FindLeaf(name);
    ASSERT_TRUE(leaf.valid()) << name;
    ASSERT_EQ(At(general.shape(leaf), {}).size(), std::ssize(values)) << name;
  }
  of_special.insert(model.begin(), model.end()), of_general.insert(model.begin(), model.end());
  const std::vector<double> a = Logits(special, of_special), b = Logits(general, of_general);
  const std::vector<double> base = Logits(plain, model);
  double change = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i], b[i], 1e-12 * std::max(1.0, std::fabs(a[i])));
    change = std::max(change, std::fabs(a[i] - base[i]));
  }
  EXPECT_GT(change, 1e-3);
}

// Deep prompts as tokens, and as the keys and values that they become: equal losses, and equal
// gradients of the prompts and of what trains beside them.
TEST(DeepPrompts, AsTokensAndAsKeysAndValues) {
  for (const char* beside : {"", "+lora(r=2)", "+bitfit"}) {
    std::map<std::string, std::map<std::string, std::vector<double>>> found;
    size_t nodes[2];
    for (const char* form : {"tokens", "keys"}) {
      ParamStore params;
      Graph g = MethodGraph(kTiny, {.loss = true},
                            ParseMethod(fmt::format("vpt-deep(tokens=3,form={}){}", form, beside)),
                            params, 1);
      InterpretOptions o{.counts = {2, 0}, .leaves = {}, .params = &params};
      for (ValueId v : g.Leaves(Role::kParam)) {
        const std::string& name = g.value(v).name;
        o.leaves[name] = Noise(static_cast<size_t>(At(g.shape(v), {}).size()), name);
      }
      o.leaves["image"] = Noise(2 * 3 * 64, "image"), o.leaves["labels"] = {1, 0};
      o.leaves["one"] = {1};
      const std::vector<ValueId> wrt = g.Trainable();
      const std::vector<ValueId> gradients = AddGradients(g, SumAll(g, g.output("losses")), wrt);
      const Values64 v = Interpret(g, o);
      found[form]["losses"] = v[g.output("losses").i];
      for (size_t i = 0; i < wrt.size(); ++i) found[form][g.value(wrt[i]).name] = v[gradients[i].i];
      nodes[form[0] == 'k'] = g.num_nodes();
    }
    EXPECT_NE(nodes[0], nodes[1]);  // two ways indeed
    ASSERT_EQ(found["tokens"].size(), found["keys"].size());
    for (const auto& [name, values] : found["tokens"]) {
      const std::vector<double>& other = found["keys"].at(name);
      double largest = 0;
      for (const double x : values) largest = std::max(largest, std::fabs(x));
      if (!EndsWith(name, ".attn.k.bias")) {  // which softmax does not see
        EXPECT_GT(largest, 1e-6) << name;
      }
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_NEAR(values[i], other[i], 1e-12 * std::max(1.0, largest)) << beside << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Superset,
                         ::testing::Combine(::testing::Range<size_t>(0, std::size(kPairs)),
                                            ::testing::Bool()));

}  // namespace
}  // namespace graft::superset_test
