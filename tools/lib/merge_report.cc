#include "tools/lib/merge_report.h"

#include <nlohmann/json.hpp>

#include "runtime/utf8.h"

namespace graft {
namespace {

constexpr std::pair<const char*, FileDType> kTypes[] = {
    {"f32", FileDType::kF32}, {"f16", FileDType::kF16}, {"bf16", FileDType::kBF16}};

}  // namespace

FileDType ParseWeights(const std::string& word, const LoadedModel& base) {
  std::vector<std::string> known{"base"};
  std::optional<FileDType> type;
  if (word == "base") type = StoredType(base);
  for (const auto& [name, t] : kTypes) {
    known.push_back(name);
    if (word == name) type = t;
  }
  if (!type) FailUsage("--weights: '{}'{}", word, DidYouMean(word, known));
  if (base.layout == Layout::kJax && type == FileDType::kBF16)
    FailUsage("--weights {}: an .npz knows no bf16; hint: f16 or f32", word);
  return *type;
}

nlohmann::json ProofJson(const FusedModel& fused) {
  const FuseProof& p = fused.proof;
  nlohmann::json json{{"max_abs_logit_difference", p.max_abs_logit_difference},
                      {"relative_error", p.relative_error},
                      {"top1_agreement", p.top1_agreement},
                      {"n", p.n},
                      {"nodes_before", p.nodes_before},
                      {"nodes_after", p.nodes_after},
                      {"places", p.merge.places},
                      {"merged_weights", p.merge.weights},
                      {"merged_weight_error", p.merge.weight_error},
                      {"merged_error", p.merged_error},
                      {"rounding_error", nullptr},
                      {"weights", ToLowerAscii(std::string(ToString(fused.weights)))}};
  if (!(p.merged_error <= kFuseTolerance)) json["rounding_error"] = p.rounding_error;
  return json;
}

std::vector<std::string> ProofLines(const FusedModel& fused, const std::string& inputs) {
  const FuseProof& p = fused.proof;
  const bool half = fused.weights != FileDType::kF32;
  std::vector<std::string> lines{
      fmt::format("graph: {} nodes -> {}, the same as the plain model's", p.nodes_before,
                  p.nodes_after),
      fmt::format("weights: {} merged at {} places, equal to those in double precision but for "
                  "rounding",
                  p.merge.weights, p.merge.places)};
  std::string explained = fmt::format("bound {:g}", kFuseTolerance);
  if (half)
    explained = fmt::format("weights rounded to {}; {:.3g} before",
                            ToLowerAscii(std::string(ToString(fused.weights))), p.merged_error);
  else if (!(p.merged_error <= kFuseTolerance))
    explained = fmt::format("as much as rounding makes: {:.3g} in f32", p.rounding_error);
  lines.push_back(fmt::format(
      "logits on {} {}: max difference {:.3g} ({:.3g} relative, {}), top-1 agreement {:.1f} %", p.n,
      inputs, p.max_abs_logit_difference, p.relative_error, explained, 100 * p.top1_agreement));
  return lines;
}

}  // namespace graft
