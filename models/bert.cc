#include "models/bert.h"

#include <algorithm>

#include "models/transformer.h"
#include "ops/row_sets.h"

namespace graft {

void CheckConfig(const BertConfig& c, const std::string& where) {
  auto positive = [&](const char* name, int64_t value, int64_t most) {
    if (value < 1 || value > most) Fail("{}: {} = {}, expected 1 to {}", where, name, value, most);
  };
  positive("vocab", c.vocab, 1 << 24);
  positive("positions", c.positions, 1 << 20);
  positive("types", c.types, 1 << 16);
  positive("width", c.width, 65536);
  positive("depth", c.depth, 1024);
  positive("heads", c.heads, c.width);
  positive("mlp_width", c.mlp_width, 1 << 20);
  positive("classes", c.classes, 1 << 20);
  if (c.width % c.heads) Fail("{}: width {} is not divisible by {} heads", where, c.width, c.heads);
  if (!(c.eps > 0 && c.eps < 1))
    Fail("{}: eps = {}, expected a small positive number", where, c.eps);
  for (double rate : {c.hidden_dropout, c.attention_dropout, c.classifier_dropout})
    if (!(rate >= 0 && rate < 1)) Fail("{}: dropout {}, expected 0 to below 1", where, rate);
  CheckActivation(c.activation, where);
  if (c.activation == "swiglu") Fail("{}: activation 'swiglu': a BERT has no gated MLP", where);
  const std::vector<std::string> pools{"pooler", "cls", "mean"};
  if (std::find(pools.begin(), pools.end(), c.pool) == pools.end())
    Fail("{}: pool '{}'; known: {}", where, c.pool, fmt::join(pools, ", "));
}

namespace {

class BertBuilder {
 public:
  BertBuilder(const BertConfig& config, const BertBuild& build) : c_(config), b_(build) {}

  Graph Build() {
    auto tokens = [&](const char* name) {
      return g_.AddInput(name, {DType::kI32, {Dim::Tokens()}});
    };
    const ValueId ids = tokens("ids"), types = tokens("type_ids"), positions = tokens("positions");
    offsets_ = g_.AddInput("offsets", {DType::kI32, {Dim(1, 1, 0)}});
    if (b_.hidden_dropout > 0 || b_.classifier_dropout > 0) g_.AddInput("rng", {DType::kI32, {2}});
    ValueId x = Embed(ids, types, positions);
    for (int64_t i = 0; i < c_.depth; ++i) x = Block(x, i);
    g_.SetName(x, "hidden");
    if (b_.head == BertHead::kNone) {
      g_.SetOutput("hidden", x);
      g_.SetOutput("pooled", Pool(x));
    } else {
      Finish(b_.head == BertHead::kClassifier ? Classifier(x) : MaskedLm(x));
    }
    return std::move(g_);
  }

 private:
  void Finish(ValueId logits) {
    g_.SetOutput("logits", logits);
    if (!b_.loss) return;
    Scope scope(g_, "loss");
    const bool words = b_.head == BertHead::kMaskedLm;
    ValueId losses = TaskLosses(g_, logits, words ? kClassify : c_.task, b_.label_smoothing);
    if (b_.loss_weights)
      losses = Mul(g_, losses, g_.AddInput("weights", {DType::kF32, {g_.shape(logits)[0], 1}}));
    g_.SetOutput("losses", losses);
  }

  // The dropout's stream has the name of the scope.
  ValueId Drop(ValueId x, double p, const std::string& stream) {
    return p > 0 ? rows_.Drop(x, {p, false, b_.seed, stream}) : x;
  }

  ValueId Embed(ValueId ids, ValueId types, ValueId positions) {
    Scope scope(g_, "embed");
    auto rows = [&](const char* name, int64_t count, ValueId which) {
      Scope table(g_, name);
      return GatherRows(g_, g_.AddParam(g_.scope + ".weight", {count, c_.width}), which);
    };
    const ValueId words = rows("word", c_.vocab, ids), kinds = rows("type", c_.types, types);
    const ValueId sum = Add(g_, Add(g_, words, kinds), rows("position", c_.positions, positions));
    return Drop(Norm(g_, sum, "norm", c_.eps), b_.hidden_dropout, "embed.dropout");
  }

  ValueId Block(ValueId x, int64_t i) {
    Scope scope(g_, fmt::format("blocks.{}", i));
    if (i == 0) Edge(g_, "h0", x);
    const BlockShape shape{c_.width, c_.heads, c_.mlp_width, c_.eps, c_.activation};
    return PostNormBlock(g_, x, offsets_, shape, [&](ValueId branch, std::string_view edge) {
      if (b_.hidden_dropout <= 0) return branch;
      const std::string name = fmt::format("{}_dropped", edge);
      return Edge(g_, name, Drop(branch, b_.hidden_dropout, g_.scope + "." + name));
    });
  }

  ValueId Pool(ValueId x) {
    ValueId pooled;
    {
      Scope scope(g_, "pool");
      pooled = c_.pool == "mean" ? SegmentMean(g_, x, offsets_)
                                 : GatherRows(g_, x, FirstRows(g_, offsets_));
    }
    if (c_.pool == "pooler") {
      const ValueId dense = Dense(g_, pooled, "pooler", c_.width);
      Scope scope(g_, "pooler");
      pooled = g_.Add1(kTanh, {dense});
    }
    g_.SetName(pooled, "pooled");
    return pooled;
  }

  ValueId Classifier(ValueId x) {
    ValueId pooled = Pool(x);
    if (b_.classifier_dropout > 0) {
      Scope scope(g_, "head");
      pooled = Drop(pooled, b_.classifier_dropout, "head.dropout");
    }
    return Dense(g_, pooled, "head", c_.classes);
  }

  ValueId MaskedLm(ValueId x) {
    Scope scope(g_, "mlm");
    if (b_.mask_rows > 0)
      x = GatherRows(g_, x, g_.AddInput("rows", {DType::kI32, {Dim::Sequences(b_.mask_rows)}}));
    x = Activate(g_, Dense(g_, x, "dense", c_.width), c_.activation);
    x = Norm(g_, x, "norm", c_.eps);
    Scope decoder(g_, "decoder");
    const ValueId words = g_.FindLeaf("embed.word.weight");
    const ValueId bias = g_.AddParam("mlm.bias", {c_.vocab});
    if (b_.label_words.empty()) return Linear(g_, x, words, bias);
    // The mean of logits is the logit of mean rows.
    const ValueId rows = MeanRows(g_, words, b_.label_words);
    const ValueId biases = MeanRows(g_, bias, b_.label_words);
    g_.SetName(rows, "mlm.words.weight"), g_.SetName(biases, "mlm.words.bias");
    return Linear(g_, x, rows, biases);
  }

  const BertConfig& c_;
  const BertBuild& b_;
  Graph g_;
  RowSets rows_{g_};
  ValueId offsets_;
};

}  // namespace

Graph BuildBert(const BertConfig& config, const BertBuild& build) {
  CheckConfig(config, "bert");
  if (build.attention_dropout > 0)
    Fail(
        "dropout of attention probabilities ({}) is not supported; hint: set it to 0 and use "
        "hidden dropout",
        build.attention_dropout);
  for (double rate : {build.hidden_dropout, build.classifier_dropout})
    if (!(rate >= 0 && rate < 1)) Fail("dropout {}: expected 0 to below 1", rate);
  if (build.mask_rows < 0) Fail("mask_rows = {}: expected 0 or more", build.mask_rows);
  return BertBuilder(config, build).Build();
}

void InitBert(const BertConfig& config, ParamStore& params, uint64_t seed) {
  const bool fresh = !params.Has("embed.word.weight");
  InitMissing(BuildBert(config), params, seed);
  if (fresh) std::fill_n(params.Mutable("embed.word.weight"), config.width, 0.0f);
  params.Freeze();
}

namespace {

void CheckTable(std::span<const int32_t> numbers, int64_t rows, const char* what) {
  for (size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] < 0 || numbers[i] >= rows)
      Fail("token {}: {} {} is outside the model's table of {}", i, what, numbers[i], rows);
}

}  // namespace

void CheckTokens(const BertConfig& config, const TokenRows& t) {
  const size_t n = t.ids.size();
  if (t.type_ids.size() != n || t.positions.size() != n)
    Fail("{} ids, {} type ids, {} positions: expected equally many", n, t.type_ids.size(),
         t.positions.size());
  CheckTable(t.ids, config.vocab, "id");
  CheckTable(t.type_ids, config.types, "type id");
  CheckTable(t.positions, config.positions, "position");
  if (t.offsets.empty() || t.offsets.front() != 0 || t.offsets.back() != static_cast<int64_t>(n) ||
      !std::ranges::is_sorted(t.offsets))
    Fail("offsets: expected to go from 0 to {} without a step back", n);
}

namespace {

struct BertSize {
  const char* name;
  int64_t width, depth, heads;
};
// The sizes of google/bert_uncased_L-.._H-.._A-.. and nreimers/MiniLM-L..-H384-uncased.
constexpr BertSize kSizes[] = {{"bert_tiny", 128, 2, 2},   {"bert_mini", 256, 4, 4},
                               {"bert_small", 512, 4, 8},  {"bert_medium", 512, 8, 8},
                               {"bert_base", 768, 12, 12}, {"bert_large", 1024, 24, 16},
                               {"minilm_l6", 384, 6, 12},  {"minilm_l12", 384, 12, 12}};

}  // namespace

std::vector<std::string> BertNames() {
  std::vector<std::string> names;
  for (const BertSize& size : kSizes) names.emplace_back(size.name);
  return names;
}

BertConfig BertByName(const std::string& name) {
  for (const BertSize& size : kSizes)
    if (name == size.name) {
      BertConfig c;
      c.width = size.width, c.depth = size.depth, c.heads = size.heads;
      c.mlp_width = 4 * size.width;
      return c;
    }
  Fail("no architecture '{}'{}", name, DidYouMean(name, BertNames()));
}

}  // namespace graft
