#include "train/byte_ranges.h"

#include <algorithm>
#include <cmath>

#include "ops/hadamard.h"
#include "ops/low_cells.h"
#include "train/evaluator.h"

namespace graft {
namespace {

// A NaN stays.
void Widen(const float* min, const float* max, InputRanges* ranges) {
  const auto further = [](float to, float from, bool beyond) {
    return std::isnan(from) || !(beyond || std::isnan(to)) ? from : to;
  };
  for (size_t j = 0; j < ranges->min.size(); ++j) {
    float &least = ranges->min[j], &most = ranges->max[j];
    least = further(min[j], least, min[j] < least);
    most = further(max[j], most, max[j] > most);
  }
}

// Rows of k numbers as they are rounded.
std::vector<float> TransformedRows(std::span<const float> rows, size_t k) {
  std::vector<float> all(rows.begin(), rows.end());
  for (size_t i = 0; i < all.size(); i += k) Hadamard(&all[i], static_cast<int64_t>(k));
  return all;
}

struct Seen {
  InputRanges ranges;
  InputSums sums;
};

Seen NothingOf(size_t k) {
  const std::vector<float> zeros(k);
  return {{zeros, zeros}, {std::vector<int64_t>(k)}};
}

void Merge(const Seen& more, Seen* all) {
  Widen(more.ranges.min.data(), more.ranges.max.data(), &all->ranges);
  for (size_t j = 0; j < more.sums.sums.size(); ++j) all->sums.sums[j] += more.sums.sums[j];
  all->sums.rows += more.sums.rows;
}

// What one worker sees of one value. Ranges are of transformed rows if these get static scales.
void Look(const Tensor& x, bool static_scales, Seen* seen) {
  const size_t k = seen->sums.sums.size();
  const std::span<const float> rows(x.f32(), static_cast<size_t>(x.shape.size()));
  const std::vector<float> turned = static_scales ? TransformedRows(rows, k) : std::vector<float>();
  for (size_t i = 0; i < rows.size(); i += k) {
    const float* row = static_scales ? &turned[i] : &rows[i];
    Widen(row, row, &seen->ranges), seen->sums.Add(&rows[i]);
  }
}

// An input of a byte product, which the graph gives as an output; each input is watched once.
struct Watched {
  std::string output;
  ValueId value;
  Seen seen;
};
std::vector<Watched> Watch(Graph& g, std::span<const ByteProduct> products) {
  std::vector<Watched> watched;
  for (const ByteProduct& p : products) {
    if (std::ranges::find(watched, p.input, &Watched::value) != watched.end()) continue;
    const auto k = static_cast<size_t>(g.shape(p.input)[1].constant);
    watched.push_back({fmt::format("rows of {}", g.value(p.weight).name), p.input, NothingOf(k)});
    g.AddOutput(watched.back().output, p.input);
  }
  return watched;
}

void RunAll(Session& session, BatchSource& data, bool static_scales,
            std::vector<Watched>* watched) {
  const size_t workers = static_cast<size_t>(session.options().workers);
  std::vector<std::vector<Watched>> of_worker(workers, *watched);
  data.Start(InOrder(data));
  session.ParamsChanged();
  const size_t most = ExamplesAtOnce(data, session.options().capacity);
  while (data.remaining() > 0) {
    data.Take(std::min(most, data.remaining()));
    const std::vector<Counts> parts = data.Parts(session.options().capacity);
    ForEachPart(session, parts, [&](size_t i, int64_t first, int worker) {
      data.Fill(session, first, parts[i].sequences, worker);
      session.Run(parts[i], worker);
      for (Watched& w : of_worker[worker])
        Look(session.Output(w.output, worker), static_scales, &w.seen);
    });
  }
  for (const std::vector<Watched>& all : of_worker)
    for (size_t i = 0; i < all.size(); ++i) Merge(all[i].seen, &(*watched)[i].seen);
}

// Larger numbers than the largest count as that, so that sums of 2^28 rows have less than 63 bits.
constexpr float kSteps = 1 << 20, kLargest = 1 << 14;

}  // namespace

void InputSums::Add(const float* row) {
  for (size_t j = 0; j < sums.size(); ++j) {
    const float x = std::isnan(row[j]) ? 0 : std::clamp(row[j], -kLargest, kLargest);
    sums[j] += static_cast<int64_t>(std::lrint(x * kSteps));
  }
  ++rows;
}

std::vector<float> InputSums::Mean() const {
  std::vector<float> mean;
  const double all = static_cast<double>(std::max<int64_t>(rows, 1)) * kSteps;
  for (const int64_t sum : sums) mean.push_back(static_cast<float>(static_cast<double>(sum) / all));
  return mean;
}

std::vector<float> MissingOf(std::span<const float> weight, std::span<const float> mean,
                             const StaticBytes& bytes) {
  const size_t k = mean.size();
  const std::vector<float> rows = TransformedRows(weight, k), of_rows = TransformedRows(mean, k);
  std::vector<float> missing, row(k);
  for (size_t i = 0; i < rows.size(); i += k) {
    for (size_t j = 0; j < k; ++j)
      row[j] = bytes.factors.empty() ? rows[i + j] : rows[i + j] * bytes.factors[k + j];
    const float scale = ByteScale(row.data(), static_cast<int64_t>(k));
    double sum = 0;
    for (size_t j = 0; j < k; ++j) {
      const double x = bytes.factors.empty() ? of_rows[j] : double{of_rows[j]} * bytes.factors[j];
      sum += (double{row[j]} - double{scale} * ToByte(row[j], scale)) * x;
    }
    missing.push_back(static_cast<float>(sum / HadamardGain(static_cast<int64_t>(k))));
  }
  return missing;
}

// With 0.35, int8 logits of DeiT-Ti are nearer to those of f32 than with 0.2 or the authors' 0.5.
constexpr float kSmooth = 0.35f;

StaticBytes SmoothBytes(const InputRanges& ranges, std::span<const float> weight) {
  const size_t k = ranges.min.size();
  std::vector<float> largest(k), smooth(k, 1);
  for (size_t i = 0; i < weight.size(); ++i)
    largest[i % k] = std::max(largest[i % k], std::abs(weight[i]));
  float min = 0, max = 0;
  for (size_t j = 0; j < k; ++j) {
    const float most = std::max(-ranges.min[j], ranges.max[j]);
    if (most > 0 && largest[j] > 0)
      smooth[j] = std::pow(most, kSmooth) / std::pow(largest[j], 1 - kSmooth);
    min = std::min(min, ranges.min[j] / smooth[j]), max = std::max(max, ranges.max[j] / smooth[j]);
  }
  StaticBytes bytes;
  const float scale = max > min ? (max - min) / 255 : 1;
  bytes.zero = std::clamp<int64_t>(std::llround(-min / scale), 0, 255);
  for (const float t : smooth) bytes.factors.push_back(1 / (t * scale));
  for (const float t : smooth) bytes.factors.push_back(t * scale);
  return bytes;
}

Calibration Calibrate(const Graph& graph, ParamStore& params, const ModelConfig& config,
                      BatchSource& data, const std::string& memory_budget,
                      const PassOptions& passes, bool static_scales) {
  const PassOptions exact(passes.disabled);
  Graph g = graph;
  InferencePasses(exact).Run(g);
  const std::vector<ByteProduct> products = ByteProducts(g, passes.precision);
  std::vector<Watched> watched = Watch(g, products);
  Session session(g, params, InferenceOptions(g, params, config, data, memory_budget, exact));
  RunAll(session, data, static_scales, &watched);
  std::map<std::string, Seen> of_weight;  // which may stand in several products
  for (const ByteProduct& p : products) {
    const Seen& seen = std::ranges::find(watched, p.input, &Watched::value)->seen;
    const std::string& weight = g.value(p.weight).name;
    const auto [all, fresh] = of_weight.emplace(weight, seen);
    if (!fresh) Merge(seen, &all->second);
  }
  Calibration calibration;
  for (const auto& [weight, seen] : of_weight) {
    const InputRanges& ranges = seen.ranges;
    for (size_t j = 0; j < ranges.min.size(); ++j)
      if (!std::isfinite(ranges.min[j]) || !std::isfinite(ranges.max[j]))
        Fail(
            "calibration: what {} is multiplied by is not finite; a weight before it, or an "
            "example, is damaged",
            weight);
    const std::span<const float> w = params.values(weight);
    StaticBytes bytes;
    if (static_scales) bytes = SmoothBytes(ranges, TransformedRows(w, ranges.min.size()));
    calibration[weight] = {MissingOf(w, seen.sums.Mean(), bytes), bytes};
  }
  return calibration;
}

}  // namespace graft
