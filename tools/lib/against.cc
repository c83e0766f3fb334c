#include "tools/lib/against.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/lib/report.h"

namespace graft {

Agreement Compare(std::span<const float> logits, std::span<const float> others, size_t n) {
  Agreement a;
  if (n == 0 || others.empty()) return a;
  const size_t classes = others.size() / n;
  size_t same = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto best = [&](std::span<const float> all) {
      const auto row = all.subspan(i * classes, classes);
      return std::ranges::max_element(row) - row.begin();
    };
    same += best(logits) == best(others);
  }
  double squares = 0;
  for (size_t i = 0; i < others.size(); ++i) {
    const double difference = std::abs(double{logits[i]} - double{others[i]});
    a.difference = std::max(a.difference, difference), squares += difference * difference;
  }
  a.rms = std::sqrt(squares / static_cast<double>(others.size()));
  if (std::isnan(a.rms)) a.difference = a.rms;
  const auto [least, most] = std::ranges::minmax_element(others);
  a.range = double{*most} - double{*least};
  a.same = static_cast<double>(same) / static_cast<double>(n);
  return a;
}

nlohmann::json AgainstJson(const std::string& dtype, const Metrics& other, const Agreement& a) {
  return {{"dtype", dtype},
          {"accuracy", other.accuracy},
          {"loss", other.loss},
          {"seconds", other.seconds},
          {"agreement", a.same},
          {"max_logit_difference", a.difference},
          {"rms_logit_difference", a.rms},
          {"logit_range", a.range}};
}

std::string AgainstText(const std::string& dtype, const std::string& other_dtype,
                        const Metrics& mine, const Metrics& other, const Agreement& a) {
  const double percent = a.range > 0 ? 100 / a.range : 0;
  return fmt::format(
      "against {}: its accuracy {}, loss {:.4f}; the same class for {} of the examples; logits "
      "differ by {:.2f} % of their range at most, {:.2f} % in root mean square; {} is {:.2f} times "
      "as fast",
      other_dtype, Percent(other.accuracy), other.loss, Percent(a.same), percent * a.difference,
      percent * a.rms, dtype, other.seconds / std::max(mine.seconds, 1e-9));
}

}  // namespace graft
