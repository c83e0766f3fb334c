#include "train/evaluator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "ops/ops.h"
#include "runtime/process_group.h"
#include "runtime/threads.h"
#include "train/budget.h"
#include "train/capacity.h"
#include "train/run_config.h"

namespace graft {

namespace {

Graph Optimised(Graph g, const PassOptions& passes) {
  InferencePasses(passes).Run(g);
  return g;
}

// The parts that are computed between two waits for the data, unless their examples take more bytes
// than kBytesAtOnce.
constexpr size_t kPartsAtOnce = 32, kBytesAtOnce = size_t{16} << 20;

size_t PartBytes(const BatchSource& data, const Counts& capacity) {
  return static_cast<size_t>(capacity.sequences) * data.ExampleBytes();
}

}  // namespace

size_t ExamplesAtOnce(const BatchSource& data, const Counts& capacity) {
  const size_t part = std::max<size_t>(PartBytes(data, capacity), 1);
  return static_cast<size_t>(capacity.sequences) *
         std::clamp<size_t>(kBytesAtOnce / part, 1, kPartsAtOnce);
}

size_t MeasuringBytes(const BatchSource& data) {
  const size_t columns = data.size() > 0 ? data.targets(0).size() : 0;
  // Bytes of an example's part in measuring one column: the loss; the column twice in float, in
  // double and as ranks; and its order.
  constexpr size_t kColumn =
      sizeof(float) + 2 * (sizeof(float) + 2 * sizeof(double)) + sizeof(size_t);
  return columns > 0 ? data.size() * (2 * columns * sizeof(float) + kColumn) : 0;
}

size_t InferenceBytes(const BatchSource& data, const Counts& capacity) {
  const size_t part = PartBytes(data, capacity);
  const size_t most = std::max(part, std::min(kPartsAtOnce * part, kBytesAtOnce));
  return data.HeldBytes() + std::min(most, data.size() * data.ExampleBytes());
}

std::vector<size_t> InOrder(const BatchSource& data) {
  std::vector<size_t> order(data.size());
  std::iota(order.begin(), order.end(), size_t{0});
  return order;
}

void ForEachPart(Session& session, std::span<const Counts> parts,
                 const std::function<void(size_t i, int64_t first, int worker)>& run,
                 ProcessGroup* group) {
  std::vector<int64_t> first{0};
  for (const Counts& part : parts) first.push_back(first.back() + part.sequences);
  if (group) group->Meet();
  const Piece own = group ? group->Mine(std::ssize(parts)) : Piece{0, std::ssize(parts)};
  ForEachRun(session, own.size, [&](int64_t index, int worker) {
    const size_t i = static_cast<size_t>(own.begin + index);
    run(i, first[i], worker);
  });
}

void ShareParts(std::span<const Counts> parts, ProcessGroup* group, size_t columns, float* rows) {
  if (!group) return;
  for (int rank = 0; rank < group->size(); ++rank) {
    const Piece piece = group->PieceOf(std::ssize(parts), rank);
    size_t count = 0;
    for (int64_t i = piece.begin; i < piece.begin + piece.size; ++i)
      count += static_cast<size_t>(parts[i].sequences) * columns;
    group->Broadcast(std::as_writable_bytes(std::span(rows, count)), rank);
    rows += count;
  }
}

Evaluator::Evaluator(const Graph& graph, ParamStore& params, const SessionOptions& options,
                     const PassOptions& passes)
    : session_(Optimised(graph, passes), params, options) {
  const ValueId rng = graph.FindLeaf("rng");
  GRAFT_CHECK(!rng.valid() || graph.users(rng).empty(), "an evaluation draws nothing");
  for (const GraphOutput& o : graph.outputs) {
    const Shape& shape = graph.shape(o.value);
    columns_[o.name] = shape.size() < 2 ? 1 : static_cast<size_t>(shape[1].constant);
  }
  has_targets_ = graph.FindLeaf("targets").valid();
  if (has_targets_)
    regression_ = graph.node(graph.value(graph.output("losses")).producer).op == &kSquaredError;
}

void Evaluator::Compute(const BatchSource& data, std::span<const Target> targets) {
  const std::vector<Counts> parts = data.Parts(session_.options().capacity);
  const auto run = [&](size_t i, int64_t first, int worker) {
    const int64_t count = parts[i].sequences;
    data.Fill(session_, first, count, worker);
    session_.Run(parts[i], worker);
    for (const Target& target : targets) {
      const Tensor rows = session_.Output(target.output, worker);
      std::copy_n(rows.f32(), rows.shape.size(),
                  target.rows + static_cast<size_t>(first) * columns_.at(target.output));
    }
  };
  ForEachPart(session_, parts, run, group_);
  for (const Target& target : targets)
    ShareParts(parts, group_, columns_.at(target.output), target.rows);
}

// Takes those examples out of a part of the order that cannot be read, and returns how many.
size_t Evaluator::LeaveOutBad(BatchSource& data, std::vector<size_t>* order, size_t begin,
                              size_t count) {
  std::vector<size_t> good;
  for (const size_t example : std::span(*order).subspan(begin, count)) {
    try {
      data.Start({example});
      data.Take(1);
      good.push_back(example);
    } catch (const Error& e) {
      bad_(example, e.what());
    }
  }
  const auto first = order->begin() + static_cast<ptrdiff_t>(begin);
  std::copy(good.begin(), good.end(), first);
  order->erase(first + std::ssize(good), first + static_cast<ptrdiff_t>(count));
  return count - good.size();
}

std::vector<std::vector<float>> Evaluator::Outputs(BatchSource& data,
                                                   std::span<const std::string> names) {
  std::vector<size_t> order = InOrder(data);
  data.Start(order);
  session_.ParamsChanged();
  std::vector<std::vector<float>> all;
  for (const std::string& name : names) all.emplace_back(data.size() * columns_.at(name));
  const size_t most = ExamplesAtOnce(data, session_.options().capacity);
  for (size_t done = 0; done < order.size();) {
    const size_t count = std::min(most, data.remaining());
    try {
      data.Take(count);
    } catch (const Error&) {
      if (!bad_ || LeaveOutBad(data, &order, done, count) == 0) throw;
      data.Start({order.begin() + static_cast<ptrdiff_t>(done), order.end()});
      continue;
    }
    std::vector<Target> targets;
    for (size_t i = 0; i < names.size(); ++i)
      targets.push_back({names[i], &all[i][done * columns_.at(names[i])]});
    Compute(data, targets);
    done += count;
    Report(data, done + data.size() - order.size());
  }
  for (size_t i = 0; i < names.size(); ++i) all[i].resize(order.size() * columns_.at(names[i]));
  return all;
}

std::vector<float> Evaluator::Logits(BatchSource& data) {
  const std::string logits[] = {"logits"};
  return std::move(Outputs(data, logits)[0]);
}

// Measures as it goes: logits of a whole vocabulary would be too large to be kept.
Metrics Evaluator::RunMasked(BatchSource& data) {
  const auto start = std::chrono::steady_clock::now();
  data.Start(InOrder(data));
  session_.ParamsChanged();
  const Counts capacity = session_.options().capacity;
  const size_t most = ExamplesAtOnce(data, capacity), vocabulary = columns_.at("logits");
  const size_t rows = static_cast<size_t>(data.mask_rows());
  struct Sum {
    int64_t n = 0, right = 0;
    double loss = 0;
  };
  Sum all;
  while (data.remaining() > 0) {
    data.Take(std::min(most, data.remaining()));
    const std::vector<Counts> parts = data.Parts(capacity);
    std::vector<Sum> sums(parts.size());
    const auto run = [&](size_t i, int64_t first, int worker) {
      const size_t count = static_cast<size_t>(parts[i].sequences) * rows;
      data.Fill(session_, first, parts[i].sequences, worker);
      session_.Run(parts[i], worker);
      const float* logits = session_.Output("logits", worker).f32();
      const float* losses = session_.Output("losses", worker).f32();
      const auto answers = data.answers().subspan(static_cast<size_t>(first) * rows, count);
      for (size_t r = 0; r < count; ++r) {
        if (answers[r] < 0) continue;
        const float* row = logits + r * vocabulary;
        ++sums[i].n, sums[i].loss += losses[r];
        sums[i].right += std::max_element(row, row + vocabulary) - row == answers[r];
      }
    };
    ForEachPart(session_, parts, run, group_);
    if (group_) group_->ShareRows(std::span(sums), std::ssize(sums));
    Report(data, data.size() - data.remaining());
    for (const Sum& sum : sums) all.n += sum.n, all.right += sum.right, all.loss += sum.loss;
  }
  Metrics m;
  m.n = all.n;
  m.accuracy = static_cast<double>(all.right) / static_cast<double>(std::max<int64_t>(all.n, 1));
  m.loss = all.loss / static_cast<double>(std::max<int64_t>(all.n, 1));
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

// Keeps all logits, as correlations and precisions want them at once.
Metrics Evaluator::RunTargets(BatchSource& data, std::vector<float>* all_logits) {
  const auto start = std::chrono::steady_clock::now();
  const std::string names[] = {"logits", "losses"};
  std::vector<std::vector<float>> outputs = Outputs(data, names);
  const std::vector<float>& logits = outputs[0];
  const size_t columns = columns_.at("logits");
  std::vector<float> targets;
  targets.reserve(logits.size());
  for (size_t i = 0; i < data.size(); ++i) {
    const std::span<const float> row = data.targets(i);
    targets.insert(targets.end(), row.begin(), row.end());
    if (each_) each_(i, std::span(logits).subspan(i * columns, columns));
  }
  Metrics m;
  m.n = std::ssize(data);
  for (const float loss : outputs[1]) m.loss += loss;
  m.loss /= static_cast<double>(std::max<int64_t>(m.n, 1));
  const bool finite = std::isfinite(m.loss);  // else nothing can be put in order
  if (finite && regression_) m.regression = MeasureRegression(targets, logits, columns);
  if (finite && !regression_) m.multi_label = MeasureLabels(targets, logits, columns);
  if (all_logits) *all_logits = std::move(outputs[0]);
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

Metrics Evaluator::Run(BatchSource& data, std::vector<float>* all_logits) {
  if (data.mask_rows() > 0) return RunMasked(data);
  if (has_targets_) return RunTargets(data, all_logits);
  const auto start = std::chrono::steady_clock::now();
  data.Start(InOrder(data));
  session_.ParamsChanged();
  const size_t most = ExamplesAtOnce(data, session_.options().capacity);
  const size_t classes = columns_.at("logits");
  ConfusionMatrix matrix(static_cast<int64_t>(classes));
  std::vector<float> logits(most * classes), losses(most);
  const Target targets[] = {{"logits", logits.data()}, {"losses", losses.data()}};
  Metrics m;
  for (size_t done = 0; done < data.size(); done += most) {
    const size_t count = std::min(most, data.remaining());
    data.Take(count);
    Compute(data, targets);
    Report(data, done + count);
    for (size_t i = 0; i < count; ++i) {
      const float* row = &logits[i * classes];
      matrix.Add(data.label(done + i), std::max_element(row, row + classes) - row);
      m.loss += losses[i];
      if (each_) each_(done + i, {row, classes});
    }
    if (all_logits)
      all_logits->insert(all_logits->end(), logits.begin(),
                         logits.begin() + static_cast<ptrdiff_t>(count * classes));
  }
  m.n = matrix.total();
  m.accuracy = Accuracy(matrix), m.mean_class_accuracy = MeanClassAccuracy(matrix);
  m.macro_f1 = MacroF1(matrix), m.matthews = MatthewsCorrelation(matrix);
  m.confusion = std::move(matrix);
  m.loss /= static_cast<double>(std::max<int64_t>(m.n, 1));
  m.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

SessionOptions InferenceOptions(const Graph& graph, ParamStore& params, const ModelConfig& config,
                                BatchSource& data, const std::string& memory_budget,
                                const PassOptions& passes, size_t held_bytes) {
  const int64_t n = static_cast<int64_t>(std::max<size_t>(data.size(), 1));
  const Counts wanted = ChooseCapacity(config, data.longest(), n);
  Graph optimised = graph;
  InferencePasses(passes).Run(optimised);
  const InferencePlan plan =
      OptionsWithinBudget(optimised, params, wanted, data.longest(), memory_budget,
                          held_bytes + InferenceBytes(data, wanted) +
                              (graph.FindLeaf("targets").valid() ? MeasuringBytes(data) : 0));
  if (!memory_budget.empty())
    data.UseSpare({.bytes = plan.spare_bytes, .budget = ParseBytes(memory_budget)});
  return plan.options;
}

}  // namespace graft
