// The unified view (He et al. 2022, arXiv 2110.04366, table 1): a change dh of some h, by choices.
//
//   form         prefix    softmax(q P_k') P_v, q the queries of the attention: site heads
//                lora      x Wd' Wu'
//                adapter   act(h Wd' + bd) Wu' + bu: site attn or ffn
//                parallel  act(x Wd' + bd) Wu' + bu
//   site         heads     h the context in front of Wo, x what attention reads
//                attn      h the attention's branch (lora: what q and v give), x likewise
//                ffn       h the MLP's branch, x the stream in front of it
//   composition  add h + dh;  scaled h + s dh;  gated (1 - l) h + l dh, of a prefix, whose share l
//                of the softmax is each query's and head's own
//
//   prefix tuning: prefix, heads, gated;   LoRA: lora, attn, scaled;   adapters: adapter, add;
//   parallel adapter: parallel, ffn, add (scaled: scaled);   multi-head: parallel, heads, add
#include "ops/ops.h"
#include "peft/bottleneck.h"
#include "peft/methods/methods.h"
#include "peft/methods/prefix.h"

namespace graft {
namespace {

struct UnifiedSite {
  std::string name;  // of the parameters: "blocks.3.mlp.unified"
  ValueId h, x;
  UserList users;  // that read h + dh in h's place
};

constexpr const char *kUsualScale = "4", *kUsualAct = "relu";

class Unified {
 public:
  explicit Unified(const MethodArgs& a)
      : a_(a),
        form_(a.Choice("form", {"prefix", "adapter", "lora", "parallel"})),
        site_(a.Choice("site", {"attn", "ffn", "heads"})),
        composition_(a.Choice("composition", {"add", "scaled", "gated"})),
        r_(a.Int("r", 1, 65536)) {
    const auto refuse = [&](const char* expected) {
      FailUsage("form={}, site={}, composition={}: expected {}", form_, site_, composition_,
                expected);
    };
    if (form_ == "prefix" && (site_ != "heads" || composition_ != "gated"))
      refuse("site=heads and composition=gated, which the softmax brings");
    if (form_ != "prefix" && composition_ == "gated") refuse("add or scaled");
    if (form_ == "adapter" && site_ == "heads") refuse("site=attn or ffn");
    // What is not used is checked, too: a mistake is found, and an option without effect is one.
    if (a.Text("scale") != "learned") a.Number("scale", -1e6, 1e6);
    if (composition_ != "scaled" && a.Text("scale") != kUsualScale)
      FailUsage("option 'scale' goes with composition=scaled, found {}", composition_);
    CheckActivation(a.Text("act"));
    if ((form_ == "lora" || form_ == "prefix") && a.Text("act") != kUsualAct)
      FailUsage("option 'act' goes with an adapter, found form={}", form_);
  }

  int Apply() {
    if (form_ == "prefix") return AddStoredKeys(a_, r_, "unified", Normals(0, 1), 0);
    int count = 0;
    for (const UnifiedSite& site : Sites()) {
      Compose(site);
      ++count;
    }
    return count;
  }

  int64_t Count() const {
    const HostShape host = ShapeOf(a_.g);
    if (form_ == "prefix") return 2 * host.depth * r_ * host.width;
    int64_t count = 0;
    for (const UnifiedSite& site : Sites()) {
      const int64_t in = Columns(Input(site)), out = Columns(site.h);
      count += form_ == "lora" ? r_ * (in + out) : BottleneckCount(in, out, r_);
      count += composition_ == "scaled" && a_.Text("scale") == "learned";
    }
    return count;
  }

 private:
  int64_t Columns(ValueId v) const { return a_.g.shape(v)[1].constant; }
  ValueId Input(const UnifiedSite& site) const { return form_ == "adapter" ? site.h : site.x; }

  std::vector<UnifiedSite> Sites() const {
    const Graph& g = a_.g;
    std::vector<UnifiedSite> sites;
    if (site_ == "attn" && form_ == "lora") {
      for (ValueId v : BlockLayers(g, {"attn.q", "attn.v"})) {
        const Node& n = g.node(g.value(v).producer);
        sites.push_back({n.scope + ".unified", v, n.in[0], g.users(v)});
      }
      return sites;
    }
    for (const BlockSite& block : FindBlocks(g)) {
      if (site_ == "heads") {
        const ValueId c = g.node(block.attention).out[0];
        sites.push_back({fmt::format("blocks.{}.attn.unified", block.number), c,
                         AttentionInput(g, block), g.users(c)});
      } else {
        const Join join = FindJoin(g, block, site_ == "ffn" ? Branch::kMlp : Branch::kAttention);
        const ValueId x = site_ == "ffn" ? join.stream : AttentionInput(g, block);
        sites.push_back({join.scope + ".unified", join.branch, x, {join.sum}});
      }
    }
    return sites;
  }

  ValueId Change(const UnifiedSite& site) const {
    Graph& g = a_.g;
    const ValueId x = Input(site);
    if (form_ != "lora") {
      BottleneckShape shape = BottleneckOf(a_, site.name);
      shape.out = Columns(site.h);
      return Bottleneck(a_, x, shape);
    }
    const ValueId down = NewParam(a_, site.name + "_down", {r_, Columns(x)}, KaimingUniform());
    const ValueId up = NewParam(a_, site.name + "_up", {Columns(site.h), r_}, Zeros());
    return Matmul(g, Matmul(g, x, down, false, true), up, false, true);
  }

  void Compose(const UnifiedSite& site) const {
    Graph& g = a_.g;
    const std::string before = g.scope, name = g.value(site.h).name;
    g.scope = site.name.substr(0, site.name.rfind('.'));
    const ValueId dh = Change(site);
    const ValueId y =
        Add(g, site.h, composition_ == "scaled" ? Scaled(a_, dh, site.name, "scale") : dh);
    if (site_ == "heads") g.SetName(site.h, ""), g.SetName(y, name);  // the edge c
    g.ReplaceUsesIn(site.h, y, site.users);
    g.scope = before;
  }

  const MethodArgs& a_;
  const std::string form_, site_, composition_;
  const int64_t r_;
};

PassReport ApplyUnified(const MethodArgs& a) {
  PassReport report = StartReport(a, "unified");
  report.rewrites = Unified(a).Apply();
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kUnifiedMethod{
    .name = "unified",
    .summary = "prefix, adapter, LoRA and parallel adapter by four choices (He et al. 2022)",
    .equation = "h -> h + dh, h + s dh, or (1 - l) h + l dh",
    .formula = "prefix 2LrD; lora r (in + out) a site; others r (in + out + 1) + out a site",
    .source = "He et al. 2022, arXiv 2110.04366, table 1",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"form", "parallel", "prefix, adapter, lora, parallel"},
              {"site", "ffn", "heads, attn, ffn"},
              {"composition", "add", "add, scaled, gated"},
              {"act", kUsualAct, "relu, gelu, gelu_tanh, silu, tanh, sigmoid, none"},
              {"r", "8", "width of the bottleneck, rank, or tokens of a prefix"},
              {"scale", kUsualScale, "s of composition=scaled: a number, or 'learned' from 1"}};
        },
    .apply = ApplyUnified,
    .count = +[](const MethodArgs& a) { return Unified(a).Count(); },
    .folds = Folds::kPart,
    .why = "form=lora at attn is part of the weights of q and v; the others stay",
    .learning_rate = 1e-3,
    .phase = MethodPhase::kTokens};

}  // namespace graft
