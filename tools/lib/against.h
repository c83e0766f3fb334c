// Compares two evaluations of the same examples: eval --against.
#pragma once
#include <nlohmann/json.hpp>
#include <span>

#include "train/evaluator.h"

namespace graft {

struct Agreement {
  double same = 0;        // share of examples with the same most likely class
  double difference = 0;  // the largest of any two logits; NaN if a logit is
  double rms = 0;         // the root mean square of all
  double range = 0;       // from the smallest to the largest logit of the other evaluation
};
// Compares logits, both [n, classes].
Agreement Compare(std::span<const float> logits, std::span<const float> others, size_t n);

nlohmann::json AgainstJson(const std::string& dtype, const Metrics& other, const Agreement& a);
// A line such as "against f32: accuracy 81.20 % (81.40 %), same class for 99.80 % of the examples,
// ...".
std::string AgainstText(const std::string& dtype, const std::string& other_dtype,
                        const Metrics& mine, const Metrics& other, const Agreement& a);

}  // namespace graft
