#include "runtime/passes.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <unordered_map>

#include "runtime/rewrite.h"
#include "runtime/text.h"
#include "runtime/verify.h"

namespace graft {

std::vector<std::string> PassManager::names() const {
  std::vector<std::string> names;
  for (const Pass& pass : passes_) names.push_back(pass.name);
  return names;
}

void PassManager::CheckName(const char* flag, const std::string& name) const {
  const std::vector<std::string> known = names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    FailUsage("{}: no pass '{}'{}", flag, name, DidYouMean(name, known));
}

void PassManager::Dump(const std::string& name, std::function<void(const std::string&)> print) {
  if (name != "*") CheckName("--pass", name);
  options_.dump = name, options_.print = std::move(print);
}

std::vector<PassReport> PassManager::Run(Graph& g) const {
  for (const std::string& name : options_.disabled) CheckName("--disable-pass", name);
  std::vector<PassReport> reports;
  std::string before_names;
  for (const Pass& pass : passes_) {
    if (options_.disabled.contains(pass.name)) continue;
    const bool dump = options_.print && (options_.dump == "*" || options_.dump == pass.name);
    const Graph before = dump ? g : Graph();
    const auto start = std::chrono::steady_clock::now();
    const size_t nodes_before = g.live_nodes();
    PassReport report;
    try {
      report = pass.run(g);
      VerifyStep(g);
    } catch (const Error& e) {
      throw Error(fmt::format("pass '{}': {} (passes before: {})", pass.name, e.what(),
                              before_names.empty() ? "none" : before_names),
                  e.kind);
    }
    report.name = pass.name;
    report.nodes_before = nodes_before;
    report.nodes_after = g.live_nodes();
    report.milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (dump) options_.print(fmt::format("--- pass '{}'\n{}", pass.name, DiffText(before, g)));
    before_names += (before_names.empty() ? "" : ", ") + pass.name;
    reports.push_back(std::move(report));
  }
  return reports;
}

namespace {

// Equal for nodes that compute the same, and hardly ever for others.
size_t HashOf(const Node& n) {
  size_t hash = std::hash<const OpDef*>()(n.op) + static_cast<size_t>(n.phase);
  for (ValueId v : n.in) hash = (std::rotl(hash, 7) ^ v.i) * 0x9E3779B97F4A7C15;
  return hash;
}

bool ComputeTheSame(const Node& a, const Node& b) {
  return a.op == b.op && a.phase == b.phase && a.in == b.in && a.attrs == b.attrs;
}

}  // namespace

PassReport ShareEqualNodes(Graph& g) {
  PassReport report{"share_equal", 0, g.live_nodes(), 0, 0};
  std::unordered_multimap<size_t, NodeId> seen;
  seen.reserve(g.live_nodes());
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.op->random) continue;
    const size_t hash = HashOf(n);
    const auto [begin, end] = seen.equal_range(hash);
    const auto same = std::find_if(
        begin, end, [&](const auto& other) { return ComputeTheSame(g.node(other.second), n); });
    if (same == end) {
      seen.emplace(hash, id);
      continue;
    }
    const ValueList from = n.out, to = g.node(same->second).out;
    for (size_t i = 0; i < from.size(); ++i) g.ReplaceUses(from[i], to[i]);
    ++report.rewrites;
  }
  g.EraseDead();
  report.nodes_after = g.live_nodes();
  return report;
}

namespace {

// The inputs of `n` of which other rows may be taken instead; nothing if the record's promise of
// independent rows does not hold for this node. A row vector or a scalar is read whole whatever the
// record says of matrices; a matmul with a transposed operand mixes rows, which shows in the types.
std::optional<std::vector<bool>> RowInputs(const Graph& g, const Node& n) {
  const Shape& result = g.shape(n.out[0]);
  if (n.op->row_inputs == 0 || result.empty()) return {};
  const Dim other_rows(1000003, 1009, 1013);  // no dimension of a model
  std::vector<bool> by_row;
  std::vector<TensorType> types;
  for (size_t i = 0; i < n.in.size(); ++i) {
    types.push_back(g.type(n.in[i]));
    Shape& shape = types.back().shape;
    by_row.push_back((n.op->row_inputs >> i & 1) && shape.size() == result.size() &&
                     shape[0] == result[0]);
    if (by_row[i]) shape[0] = other_rows;
  }
  try {
    TensorType expected = g.type(n.out[0]);
    expected.shape[0] = other_rows;
    if (n.op->infer(types, n.attrs)[0] == expected) return by_row;
  } catch (const Error&) {  // the operator does not take these
  }
  return {};
}

// A second gather of the same rows would be another reader of `matrix`, which keeps the first from
// sinking.
ValueId GatherOnce(Graph& g, const OpDef& gather, ValueId matrix, ValueId rows) {
  for (NodeId user : g.users(matrix))
    if (g.node(user).op == &gather && g.node(user).in == std::vector{matrix, rows})
      return g.node(user).out[0];
  return g.Add1(gather, {matrix, rows});
}

}  // namespace

PassReport SinkGather(Graph& g, const OpDef& gather, const SinkRule& special) {
  PassReport report{"sink_gather", 0, g.live_nodes(), 0, 0};
  // Walks up from each gather; a sunk gather leaves new gathers on the row inputs, which go on
  // sinking.
  std::vector<NodeId> work = g.TopoOrder();
  while (!work.empty()) {
    const NodeId id = work.back();
    work.pop_back();
    if (!g.node(id).op || g.node(id).op != &gather) continue;
    const ValueId picked = g.node(id).out[0], matrix = g.node(id).in[0], rows = g.node(id).in[1];
    const NodeId producer = g.value(matrix).producer;
    // Others that read all rows would make both computations necessary.
    if (!producer.valid() || g.users(matrix).size() != 1 || g.IsOutput(matrix)) continue;
    const Node maker = g.node(producer);
    if (maker.out[0] != matrix) continue;
    g.scope = maker.scope;
    ValueId replacement = special ? special(g, producer, rows) : ValueId{};
    if (!replacement.valid()) {
      const std::optional<std::vector<bool>> by_row = RowInputs(g, maker);
      bool others_unused = by_row.has_value();
      for (size_t i = 1; i < maker.out.size(); ++i) others_unused &= g.users(maker.out[i]).empty();
      if (!others_unused) continue;
      ValueList in = maker.in;
      for (size_t i = 0; i < in.size(); ++i)
        if ((*by_row)[i]) in[i] = GatherOnce(g, gather, in[i], rows);
      replacement = g.Add(*maker.op, in, maker.attrs, maker.built_at)[0];
    }
    g.SetName(replacement, g.value(matrix).name);
    g.ReplaceUses(picked, replacement);
    std::vector<NodeId> erased;
    EraseIfUnused(g, picked, erased);
    // All gathers are looked at again: one that had to stay may have lost the other reader.
    for (uint32_t n = 0; n < g.num_nodes(); ++n)
      if (g.node({n}).op == &gather) work.push_back({n});
    ++report.rewrites;
  }
  g.scope.clear();
  ShareEqualNodes(g);
  VerifyStep(g);
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace graft
