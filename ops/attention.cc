// Records of attention and attention_grad; the kernels are in attention_kernel.cc, those of low
// precision in low_attention.cc.
//
// For sequence i, head h and its columns: keys are the rows of k in sequence i, then the prefix.
//   s = scale q k' + mask,  lse = log sum exp s,  p = exp(s - lse),  context = p v
//   dp = dcontext v',  delta = sum(dcontext context),  ds = p (dp - delta)
//   dq = scale ds k,  dk = scale ds' q,  dv = p' dcontext
// A query all of whose keys are masked with -inf, or that has none: context 0, lse -inf, no
// gradient.
#include <cmath>
#include <limits>

#include "ops/attention_record.h"

namespace graft {
namespace {

template <class P>
void ExpectAttention(Types in, const P& p, bool gradient) {
  const AttentionInputs<P> at(p, gradient);
  ExpectInputs(in, at.count);
  ExpectMatrix(in[kQ], "q");
  ExpectMatrix(in[kK], "k");
  if (!(in[kV] == in[kK])) Fail("v: expected {}, found {}", ToString(in[kK]), ToString(in[kV]));
  ExpectSameCols(in[kQ], "q", in[kK], "k");
  const Dim width = in[kQ].shape[1];
  if (p.heads < 1 || !width.fixed() || width.constant % p.heads != 0)
    Fail("{} columns do not divide into {} heads", ToString(width), p.heads);
  ExpectOffsets(in[kQOffsets], "q_offsets");
  ExpectOffsets(in[kKvOffsets], "kv_offsets");
  if (!(in[kQOffsets] == in[kKvOffsets]))
    Fail("q_offsets are {} but kv_offsets {}", ToString(in[kQOffsets]), ToString(in[kKvOffsets]));
  if (p.mask && !(in[at.mask] == F32({in[kK].shape[0], 1})))
    Fail("mask: expected f32[{},1], found {}", ToString(in[kK].shape[0]), ToString(in[at.mask]));
  if (p.prefix) {
    ExpectMatrix(in[at.prefix], "prefix_k");
    ExpectSameCols(in[at.prefix], "prefix_k", in[kK], "k");
    if (!in[at.prefix].shape[0].fixed()) Fail("prefix_k: its rows depend on the batch");
    if (!(in[at.prefix + 1] == in[at.prefix]))
      Fail("prefix_v: expected {}, found {}", ToString(in[at.prefix]), ToString(in[at.prefix + 1]));
  }
}

TensorType LseType(Types in, int64_t heads) { return F32({in[kQ].shape[0], heads}); }

std::vector<TensorType> InferAttention(Types in, const Attrs& attrs) {
  const AttentionAttrs& p = attrs.As<AttentionAttrs>();
  ExpectAttention(in, p, false);
  return {in[kQ], LseType(in, p.heads)};
}

std::vector<TensorType> InferAttentionGrad(Types in, const Attrs& attrs) {
  const AttentionGradAttrs& p = attrs.As<AttentionGradAttrs>();
  ExpectAttention(in, p, true);
  const AttentionInputs<AttentionGradAttrs> at(p, true);
  if (!(in[at.context] == in[kQ]) || !(in[at.dcontext] == in[kQ]))
    Fail("context and dcontext: expected {}, found {} and {}", ToString(in[kQ]),
         ToString(in[at.context]), ToString(in[at.dcontext]));
  if (!(in[at.lse] == LseType(in, p.heads)))
    Fail("lse: expected {}, found {}", ToString(LseType(in, p.heads)), ToString(in[at.lse]));
  if (p.want.find_first_not_of("qkvp") != std::string::npos || (Wants(p, 'p') && !p.prefix))
    Fail("want: expected letters of '{}', found '{}'", p.prefix ? "qkvp" : "qkv", p.want);
  auto wanted = [&](char what, size_t input) { return Wants(p, what) ? in[input] : F32({0, 0}); };
  std::vector<TensorType> out{wanted('q', kQ), wanted('k', kK), wanted('v', kV)};
  if (p.prefix) out.insert(out.end(), {wanted('p', at.prefix), wanted('p', at.prefix + 1)});
  return out;
}

// --- references ---

// A key of a query: input and row, and what is added to its score.
struct Key {
  size_t k, v, row;
  double mask;
};

// Calls f(query row, first column of the head, head, keys, scores).
template <class P, class F>
void EachQuery(const ReferenceArgs& a, const P& p, const F& f) {
  const AttentionInputs<P> at(p, false);
  const size_t width = static_cast<size_t>(a.in_shape[kQ][1]);
  const size_t heads = static_cast<size_t>(p.heads), d = width / heads;
  for (int64_t i = 0; i < SequencesOf(a.in_shape[kQOffsets]); ++i) {
    const Segment queries = SegmentOf(a.in[kQOffsets].data(), i, a.in_shape[kQ][0]);
    const Segment rows = SegmentOf(a.in[kKvOffsets].data(), i, a.in_shape[kK][0]);
    std::vector<Key> keys;
    for (size_t r = static_cast<size_t>(rows.begin); r < static_cast<size_t>(rows.end); ++r)
      keys.push_back({kK, kV, r, p.mask ? a.in[at.mask][r] : 0});
    if (p.prefix)
      for (size_t r = 0; r < static_cast<size_t>(a.in_shape[at.prefix][0]); ++r)
        keys.push_back({at.prefix, at.prefix + 1, r, 0});
    for (size_t q = static_cast<size_t>(queries.begin); q < static_cast<size_t>(queries.end); ++q)
      for (size_t h = 0; h < heads; ++h) {
        std::vector<double> scores;
        for (const Key& key : keys) {
          double dot = 0;
          for (size_t c = 0; c < d; ++c)
            dot += a.in[kQ][q * width + h * d + c] * a.in[key.k][key.row * width + h * d + c];
          scores.push_back(p.scale * dot + key.mask);
        }
        f(q, h * d, h, keys, scores);
      }
  }
}

void RefAttention(const ReferenceArgs& a) {
  const AttentionAttrs& p = a.attrs.As<AttentionAttrs>();
  const size_t width = static_cast<size_t>(a.in_shape[kQ][1]);
  const size_t heads = static_cast<size_t>(p.heads), d = width / heads;
  EachQuery(a, p, [&](size_t q, size_t col, size_t h, auto& keys, auto& scores) {
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (double s : scores)
      if (!std::isnan(most) && (std::isnan(s) || s > most)) most = s;
    a.out[1][q * heads + h] = most;
    if (std::isinf(most) && most < 0) return;
    for (double s : scores) sum += std::exp(s - most);
    const double lse = a.out[1][q * heads + h] = most + std::log(sum);
    for (size_t j = 0; j < keys.size(); ++j)
      for (size_t c = 0; c < d; ++c)
        a.out[0][q * width + col + c] +=
            std::exp(scores[j] - lse) * a.in[keys[j].v][keys[j].row * width + col + c];
  });
}

void RefAttentionGrad(const ReferenceArgs& a) {
  const AttentionGradAttrs& p = a.attrs.As<AttentionGradAttrs>();
  const AttentionInputs<AttentionGradAttrs> at(p, true);
  const size_t width = static_cast<size_t>(a.in_shape[kQ][1]);
  const size_t heads = static_cast<size_t>(p.heads), d = width / heads;
  // Results by input: dk of a key in input kK is result kK, of a prefix key result 3.
  auto add = [&](char what, size_t result, size_t index, double x) {
    if (Wants(p, what)) a.out[result][index] += x;
  };
  EachQuery(a, p, [&](size_t q, size_t col, size_t h, auto& keys, auto& scores) {
    const double* dcontext = &a.in[at.dcontext][q * width + col];
    const double lse = a.in[at.lse][q * heads + h];
    if (std::isinf(lse) && lse < 0) return;
    double delta = 0;
    for (size_t c = 0; c < d; ++c) delta += dcontext[c] * a.in[at.context][q * width + col + c];
    for (size_t j = 0; j < keys.size(); ++j) {
      const size_t row = keys[j].row * width + col;
      const bool own = keys[j].k == kK;
      const double prob = std::exp(scores[j] - lse);
      double dprob = 0;
      for (size_t c = 0; c < d; ++c) dprob += dcontext[c] * a.in[keys[j].v][row + c];
      const double ds = p.scale * prob * (dprob - delta);
      for (size_t c = 0; c < d; ++c) {
        add('q', 0, q * width + col + c, ds * a.in[keys[j].k][row + c]);
        add(own ? 'k' : 'p', own ? 1 : 3, row + c, ds * a.in[kQ][q * width + col + c]);
        add(own ? 'v' : 'p', own ? 2 : 4, row + c, prob * dcontext[c]);
      }
    }
  });
}

// --- gradient ---

std::vector<ValueId> AttentionGradient(const GradientArgs& v) {
  const AttentionAttrs& p = v.attrs.As<AttentionAttrs>();
  const AttentionInputs<AttentionAttrs> at(p, false);
  std::vector<ValueId> d(v.in.size());
  if (v.cotangent[1].valid()) Fail("attention has no gradient through its lse");
  if (p.mask && v.need[at.mask]) Fail("attention has no gradient for its mask");
  std::string want;
  if (v.need[kQ]) want += 'q';
  if (v.need[kK]) want += 'k';
  if (v.need[kV]) want += 'v';
  if (p.prefix && (v.need[at.prefix] || v.need[at.prefix + 1])) want += 'p';
  if (want.empty()) return d;
  std::vector<ValueId> in(v.in.begin(), v.in.end());
  in.insert(in.end(), {v.out[0], v.out[1], v.cotangent[0]});
  const ValueList grads = v.g.Add(
      kAttentionGrad, std::move(in), AttentionGradAttrs{p.heads, p.scale, p.mask, p.prefix, want});
  for (size_t i : {kQ, kK, kV})
    if (v.need[i]) d[i] = grads[i];
  for (size_t i = 0; i < (p.prefix ? 2 : 0); ++i)
    if (v.need[at.prefix + i]) d[at.prefix + i] = grads[3 + i];
  return d;
}

// --- samples ---

struct Case {
  const char* label;
  int64_t heads, width;
  std::vector<int32_t> q_offsets, kv_offsets;
  bool mask = false;
  int64_t prefix = 0;
  const char* want = "qkv";
};

std::vector<Case> Cases() {
  Case bench{"bench", 3, 192, {}, {}};
  for (int32_t i = 0; i <= 4; ++i) bench.q_offsets.push_back(i * 197);
  bench.kv_offsets = bench.q_offsets;
  return {{"one", 1, 1, {0, 1}, {0, 1}},
          {"odd", 2, 6, {0, 4, 4, 7}, {0, 4, 4, 7}, false, 0, "qv"},
          {"prime", 3, 39, {0, 17, 30}, {0, 17, 30}, false, 0, "k"},
          {"first_rows", 2, 8, {0, 1, 2, 3}, {0, 3, 8, 9}, false, 0, "v"},
          {"prefix", 2, 10, {0, 4, 4, 7}, {0, 4, 5, 8}, false, 3, "qp"},
          {"prefix_all", 2, 64, {0, 19, 43}, {0, 19, 43}, false, 5, "qkvp"},
          {"empty", 2, 6, {0}, {0}},
          bench};
}

// The mask has no gradient, so generic gradient checks see it in attention_grad only.
std::vector<Case> GradCases() {
  std::vector<Case> cases = Cases();
  cases.push_back({"mask", 2, 6, {0, 4, 4, 7}, {0, 4, 4, 7}, true, 2, "qkv"});
  return cases;
}

std::vector<SampleInput> SampleInputs(const Case& c) {
  const int64_t rq = c.q_offsets.back(), rk = c.kv_offsets.back();
  std::vector<SampleInput> in{{{rq, c.width}},
                              {{rk, c.width}},
                              {{rk, c.width}},
                              Indices(c.q_offsets),
                              Indices(c.kv_offsets)};
  if (c.mask) in.push_back({{rk, 1}});
  if (c.prefix) in.insert(in.end(), 2, {{c.prefix, c.width}});
  return in;
}
double SampleScale(const Case& c) {
  return 1 / std::sqrt(static_cast<double>(c.width) / static_cast<double>(c.heads));
}

std::vector<Sample> AttentionSamples() {
  std::vector<Sample> samples;
  for (const Case& c : Cases())
    samples.push_back(
        {c.label, SampleInputs(c), AttentionAttrs{c.heads, SampleScale(c), c.mask, c.prefix > 0}});
  return samples;
}

// Contexts and lse are not those of q, k and v: the formula holds for any.
std::vector<Sample> AttentionGradSamples() {
  std::vector<Sample> samples;
  for (const Case& c : GradCases()) {
    std::vector<SampleInput> in = SampleInputs(c);
    const int64_t rq = c.q_offsets.back();
    in.insert(in.end(), {{{rq, c.width}}, {{rq, c.heads}, 3, 4}, {{rq, c.width}}});
    samples.push_back({c.label, std::move(in),
                       AttentionGradAttrs{c.heads, SampleScale(c), c.mask, c.prefix > 0, c.want}});
  }
  return samples;
}

std::vector<ErrorSample> AttentionErrors() {
  const TensorType x = F32({7, 6}), offsets = I32({3});
  return {
      {{x, x, x, offsets, offsets},
       AttentionAttrs{.heads = 4},
       "6 columns do not divide into 4 heads"},
      {{x, x, F32({7, 5}), offsets, offsets},
       AttentionAttrs{},
       "v: expected f32[7,6], found f32[7,5]"},
      {{x, x, x, offsets, I32({4})},
       AttentionAttrs{},
       "q_offsets are i32[3] but kv_offsets i32[4]"},
      {{x, x, x, offsets, offsets, F32({7})},
       AttentionAttrs{.mask = true},
       "mask: expected f32[7,1], found f32[7]"},
      {{x, x, x, offsets, offsets}, AttentionAttrs{.prefix = true}, "expected 7 inputs, found 5"}};
}

std::vector<ErrorSample> AttentionGradErrors() {
  const TensorType x = F32({7, 6}), offsets = I32({3}), lse = F32({7, 2});
  const AttentionGradAttrs p{.heads = 2, .want = "qp"};
  return {
      {{x, x, x, offsets, offsets, x, lse, x}, p, "want: expected letters of 'qkv', found 'qp'"},
      {{x, x, x, offsets, offsets, x, F32({7, 3}), x},
       p,
       "lse: expected f32[7,2], found f32[7,3]"}};
}

}  // namespace

constinit const OpDef kAttention{.name = "attention",
                                 .default_attrs = +[] { return Attrs(AttentionAttrs{}); },
                                 .infer = InferAttention,
                                 .reference = RefAttention,
                                 .prepare = PrepareAttention<AttentionAttrs, false, CellType::kF32>,
                                 .gradient = AttentionGradient,
                                 .cost = AttentionCost<AttentionAttrs>,
                                 .samples = AttentionSamples,
                                 .error_samples = AttentionErrors,
                                 .rtol = 1e-5,
                                 .cancels = true};

// Not differentiable: nobody trains through a gradient of attention.
constinit const OpDef kAttentionGrad{
    .name = "attention_grad",
    .default_attrs = +[] { return Attrs(AttentionGradAttrs{}); },
    .infer = InferAttentionGrad,
    .reference = RefAttentionGrad,
    .prepare = PrepareAttention<AttentionGradAttrs, true, CellType::kF32>,
    .cost = AttentionGradCost<AttentionGradAttrs>,
    .samples = AttentionGradSamples,
    .error_samples = AttentionGradErrors,
    .rtol = 1e-5,
    .cancels = true};

}  // namespace graft
