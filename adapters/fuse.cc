#include "adapters/fuse.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "adapters/method_graph.h"
#include "peft/merge.h"
#include "runtime/fold.h"
#include "runtime/rng.h"
#include "runtime/text.h"

namespace graft {
namespace {

FuseProof Compare(const std::vector<float>& before, const std::vector<float>& after,
                  int64_t classes) {
  const size_t width = static_cast<size_t>(classes);
  if (before.empty() || before.size() % width != 0 || before.size() != after.size())
    Fail("proof of a merge: expected logits [n,{}] twice, found {} and {} numbers", classes,
         before.size(), after.size());
  FuseProof proof;
  double largest = 0, most = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(before[i]) - after[i]);
    // A NaN compares false with everything, so it must be taken explicitly and then stay.
    if (!std::isnan(most) && !(difference <= most)) most = difference;
    largest = std::max(largest, static_cast<double>(std::fabs(before[i])));
  }
  proof.max_abs_logit_difference = most;
  proof.relative_error = most / std::max(largest, 1e-30);
  proof.n = static_cast<int64_t>(before.size() / width);
  for (size_t row = 0; row < before.size(); row += width) {
    const auto top = [&](const std::vector<float>& l) {
      const auto begin = l.begin() + static_cast<ptrdiff_t>(row);
      return std::max_element(begin, begin + classes) - begin;
    };
    proof.top1_agreement += top(before) == top(after);
  }
  proof.top1_agreement /= static_cast<double>(proof.n);
  return proof;
}

// The merged weights with as much noise added as rounding in f32 may have left in them.
ParamStore RoundedOtherwise(const Graph& canonical, const ParamStore& params,
                            const ParamStore& merged, const std::vector<std::string>& base,
                            uint64_t seed) {
  ParamStore noisy = merged;
  ProveMerge(canonical, params, merged, base,
             [&](const std::string& name, auto, std::span<const double> magnitude) {
               std::vector<float> noise(magnitude.size());
               FillUniform(noise, {MakeKey(seed, Purpose::kData, name)}, -0x1p-23, 0x1p-23);
               float* values = noisy.Mutable(name);
               for (size_t i = 0; i < noise.size(); ++i)
                 values[i] += noise[i] * static_cast<float>(magnitude[i]);
             });
  noisy.Freeze();
  return noisy;
}

void RoundWeights(const Graph& plain, FileDType type, ParamStore* params) {
  for (const std::string& name : plain.ParamNames()) {
    std::vector<float> rounded(params->values(name).begin(), params->values(name).end());
    RoundTo(type, rounded);
    const std::span<const float> exact = params->values(name);
    if (std::ranges::equal(rounded, exact)) continue;
    for (size_t i = 0; i < rounded.size(); ++i)
      if (std::isinf(rounded[i]) && !std::isinf(exact[i]))
        Fail("{} holds {:g}, beyond the range of {}; hint: bf16 or f32", name, exact[i],
             ToString(type));
    params->Set(name, params->shape(name), rounded);
  }
}

// What stays, for people: a method's parameter by its name, and what was computed of several by the
// layer that reads it.
std::string WhatStays(const Graph& g, const std::string& name) {
  if (!name.starts_with("folded.")) return fmt::format("'{}'", name);
  const UserList& users = g.users(g.FindLeaf(name));
  return fmt::format(
      "what it adds at '{}', for which the plain model has no place (such as a bias, where it has "
      "none),",
      users.empty() ? name : g.node(users[0]).scope);
}

[[noreturn]] void CannotFold(const Method& method, const Graph& g,
                             const std::vector<std::string>& left) {
  std::string why;
  for (const MethodTerm& term : method)
    if (const MethodRecord& record = FindMethod(term.name); record.folds != Folds::kYes)
      why += fmt::format("; {}: {}", record.name, record.why);
  const std::string more = left.size() > 1 ? fmt::format(" and {} more", left.size() - 1) : "";
  throw Error(fmt::format("method '{}' cannot be folded: {}{} would stay{}", ToString(method),
                          WhatStays(g, left[0]), more, why),
              ErrorKind::kNotFoldable);
}

// The plain model. What it computes of its parameters alone, such as the decoder rows of label
// words, is folded, as it is in the merged model.
Graph Plain(const ModelConfig& config, ParamStore& params) {
  Graph plain = BuildModel(config);
  FoldConstants(plain, params);
  return plain;
}

// A masked-LM head reads the means of its label words' rows, and a file has the rows: what a merge
// has added to the bias of a class is added to those of all its words.
void SpreadOverWords(const ModelConfig& config, ParamStore* params) {
  constexpr const char* kMeans = "mlm.words.bias";
  const auto* bert = std::get_if<BertConfig>(&config);
  if (!bert || bert->label_words.empty() || !params->Has(kMeans)) return;
  ParamStore before = *params;
  Plain(config, before);
  if (constexpr const char* kRows = "mlm.words.weight";
      !std::ranges::equal(params->values(kRows), before.values(kRows)))
    throw Error(
        "a matrix behind the logits of label words cannot be folded: a file has the embeddings of "
        "these words, which texts read, too",
        ErrorKind::kNotFoldable);
  const std::span<const float> merged = params->values(kMeans), was = before.values(kMeans);
  if (std::ranges::equal(merged, was)) return;
  const std::span<const float> rows = params->values("mlm.bias");
  std::vector<float> bias(rows.begin(), rows.end());
  std::map<size_t, size_t> class_of;
  size_t row = 0, k = 0;
  const auto add = [&] {
    const float shift = merged[k] - was[k];
    const auto [at, is_new] = class_of.emplace(row, k);
    if (is_new) bias[row] += shift;
    if (const size_t other = at->second; merged[other] - was[other] != shift)
      throw Error(fmt::format("the label words of classes {} and {} share a word, whose bias "
                              "cannot move for one of them alone",
                              other, k),
                  ErrorKind::kNotFoldable);
  };
  for (const char c : bert->label_words) {  // "3+17,4|9"
    if (c >= '0' && c <= '9') {
      row = 10 * row + static_cast<size_t>(c - '0');
      continue;
    }
    add();
    row = 0, k += c == '|';
  }
  add();
  params->Set("mlm.bias", params->shape("mlm.bias"), bias);
}

Graph PlainOf(const ModelConfig& config, ParamStore params) { return Plain(config, params); }

class Fusing {
 public:
  Fusing(const ModelConfig& config, const Method& method, ParamStore& params,
         const LogitsOf& logits, const FuseOptions& options)
      : classes_(Classes(config)),
        params_(params),
        logits_(logits),
        options_(options),
        canonical_(InferenceGraph(config, method, params, options.seed, false)),
        written_(BuildModel(config)),
        plain_(PlainOf(config, params)),
        graph_(canonical_),
        fused_{params, {}} {
    const MergeResult merged = MergeIntoPlain(config, graph_, fused_.params);
    if (!merged.left.empty()) CannotFold(method, graph_, merged.left);
    nodes_before_ = merged.nodes_before, nodes_after_ = merged.nodes_after;
  }

  FusedWeights Run() {
    if (ToText(graph_) != ToText(plain_))
      throw Error(
          fmt::format("the fused graph is not that of the plain model; nothing was written:\n{}",
                      DiffText(plain_, graph_)),
          ErrorKind::kProof);
    const std::vector<float> before = logits_(canonical_, params_);
    fused_.proof = Prove(before);
    if (options_.weights != FileDType::kF32) {
      RoundWeights(written_, options_.weights, &fused_.params);
      const FuseProof rounded = Compare(before, logits_(written_, fused_.params), classes_);
      if (std::isnan(rounded.relative_error))
        Fail("logits are not finite with weights in {}", ToString(options_.weights));
      fused_.proof.max_abs_logit_difference = rounded.max_abs_logit_difference;
      fused_.proof.relative_error = rounded.relative_error;
      fused_.proof.top1_agreement = rounded.top1_agreement;
    }
    return std::move(fused_);
  }

 private:
  FuseProof Prove(const std::vector<float>& before) {
    // Of the parameters that are written, and not of what was computed of them on the way.
    const std::vector<float> after = logits_(written_, fused_.params);
    FuseProof proof = Compare(before, after, classes_);
    proof.nodes_before = nodes_before_, proof.nodes_after = nodes_after_;
    proof.merge = ProveMerge(canonical_, params_, fused_.params, plain_.ParamNames());
    proof.merged_error = proof.relative_error;
    double bound = kFuseTolerance;
    for (uint64_t draw = 0; draw < 2 && !(proof.merged_error <= kFuseTolerance); ++draw) {
      ParamStore noisy =
          RoundedOtherwise(canonical_, params_, fused_.params, plain_.ParamNames(), draw);
      const double error = Compare(after, logits_(graph_, noisy), classes_).relative_error;
      proof.rounding_error = std::max(proof.rounding_error, error);
      bound = std::max(bound, kMostTimesRounding * proof.rounding_error);
    }
    if (!(proof.merged_error <= bound))
      throw Error(
          fmt::format("the merge is not proved: logits differ by {:.3g} relative (bound {:g}) on "
                      "{} inputs; nothing was written",
                      proof.merged_error, bound, proof.n),
          ErrorKind::kProof);
    return proof;
  }

  int64_t classes_;
  ParamStore& params_;
  const LogitsOf& logits_;
  FuseOptions options_;
  Graph canonical_, written_, plain_, graph_;
  FusedWeights fused_;
  size_t nodes_before_ = 0, nodes_after_ = 0;
};

}  // namespace

MergeResult MergeIntoPlain(const ModelConfig& config, Graph& g, ParamStore& params) {
  const MergeResult merged = Merge(g, params, PlainOf(config, params).ParamNames());
  if (merged.left.empty()) SpreadOverWords(config, &params);
  return merged;
}

FusedWeights Fuse(const ModelConfig& config, const Method& method, ParamStore& params,
                  const LogitsOf& logits, const FuseOptions& options) {
  return Fusing(config, method, params, logits, options).Run();
}

}  // namespace graft
