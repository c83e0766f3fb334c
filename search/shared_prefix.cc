#include "search/shared_prefix.h"

#include <algorithm>
#include <set>

#include "runtime/io/sha256.h"
#include "runtime/op.h"
#include "train/features.h"

namespace graft {
namespace {

// Less than a block of the deepest models; what comes before is computed sooner than it is kept.
constexpr double kWorthwhile = 0.03;

std::string HashOf(const std::string& text) { return Sha256Hex(std::as_bytes(std::span(text))); }

// By value: a hash of everything that decides it, but for the examples and their number.
std::vector<std::string> KeysOf(const Graph& g, const ParamStore& params) {
  GRAFT_CHECK(g.Leaves(Role::kState).empty(), "not a graph of inference");
  std::vector<std::string> keys(g.num_values());
  for (const ValueId v : g.Leaves(Role::kInput))
    keys[v.i] = HashOf("input " + g.value(v).name + " " + ToString(g.type(v)));
  for (const ValueId v : g.Leaves(Role::kParam))
    keys[v.i] = HashOf("parameter " + ToString(g.type(v)) + " " +
                       Sha256Hex(params.Get(g.value(v).name).bytes()));
  for (const NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    std::string text = fmt::format("{} {{{}}}", n.op->name, n.attrs.ToString());
    for (const ValueId v : n.in) text += " " + keys[v.i];
    for (size_t i = 0; i < n.out.size(); ++i)
      keys[n.out[i].i] = HashOf(fmt::format("{} {} {}", i, ToString(g.type(n.out[i])), text));
  }
  return keys;
}

// How many of the first prefixes of both are the same.
size_t Agree(const std::vector<Prefix>& a, const std::vector<Prefix>& b) {
  size_t n = 0;
  while (n < std::min(a.size(), b.size()) && a[n].key == b[n].key) ++n;
  return n;
}

size_t SizeOfExample(const Graph& g, ValueId v) {
  return static_cast<size_t>(At(g.shape(v), {1, 0}).size());
}

}  // namespace

std::vector<Prefix> PrefixesOf(const Graph& g, const ParamStore& params) {
  constexpr std::string_view kInputs[] = {"image"};
  std::vector<CutPoint> cuts = CutPoints(g, kInputs);
  std::erase_if(cuts, [](const CutPoint& c) { return c.work < kWorthwhile; });
  std::vector<Prefix> prefixes;
  if (cuts.empty()) return prefixes;
  const std::vector<std::string> keys = KeysOf(g, params);
  for (const CutPoint& cut : cuts) prefixes.push_back({cut, keys[cut.value.i]});
  return prefixes;
}

void SharedPrefixes::Expect(std::vector<std::vector<Prefix>> candidates) {
  expected_ = std::move(candidates), next_ = 0;
  kept_.clear(), held_bytes_ = 0;
}

// How many of the next candidate's prefixes, from the shortest to the longest, are done.
size_t SharedPrefixes::Held() const {
  size_t n = Own().size();
  while (n > 0 && !kept_.contains(Own()[n - 1].key)) --n;
  return n;
}

// Up to which of its prefixes later candidates agree with the next one, beyond the first `from`.
std::vector<size_t> SharedPrefixes::Wanted(size_t from) const {
  std::set<size_t> wanted;
  for (size_t later = next_ + 1; later < expected_.size(); ++later)
    if (const size_t n = Agree(Own(), expected_[later]); n > from) wanted.insert(n);
  return {wanted.begin(), wanted.end()};
}

// Computes the values of prefix `to` from those of `from` (0: from the examples), if there is room.
bool SharedPrefixes::Keep(const Graph& g, ParamStore& params, size_t from, size_t to) {
  const Prefix& prefix = Own()[to - 1];
  const size_t size = SizeOfExample(g, prefix.cut.value);
  const size_t bytes = size * data_.size() * sizeof(float);
  if (bytes > bound_ - held_bytes_) return false;
  Graph piece = CutAt(g, prefix.cut.value).frozen;
  BatchSource* source = &data_;
  if (from > 0) {
    piece = CutAt(piece, Own()[from - 1].cut.value).rest;
    source = kept_.at(Own()[from - 1].key).features.get();
  }
  Session session(piece, params, options_);
  Features features;
  features.size = size;
  features.values.resize(size * data_.size());
  FillFeatures(&features, session, *source, {}, {}, group_);
  kept_[prefix.key] = {MakeFeatureData(std::move(features), data_), bytes};
  held_bytes_ += bytes;
  return true;
}

void SharedPrefixes::DropUnwanted() {
  std::erase_if(kept_, [&](const auto& entry) {
    for (size_t later = next_; later < expected_.size(); ++later)
      if (std::ranges::count(expected_[later], entry.first, &Prefix::key) > 0) return false;
    held_bytes_ -= entry.second.bytes;
    return true;
  });
}

Metrics SharedPrefixes::Measure(const Graph& g, ParamStore& params) {
  GRAFT_CHECK(next_ < expected_.size(), "a candidate that nobody expects");
  size_t from = Held();
  if (from > 0) shared_passes_ += Own()[from - 1].cut.work;
  passes_ += 1;
  for (const size_t to : Wanted(from))
    if (Keep(g, params, from, to)) from = to;
  const Graph rest = from > 0 ? CutAt(g, Own()[from - 1].cut.value).rest : g;
  BatchSource& source = from > 0 ? *kept_.at(Own()[from - 1].key).features : data_;
  // The graph is optimised; optimised again, it stays as it is.
  Evaluator evaluator(rest, params, options_);
  evaluator.ShareWith(group_);
  const Metrics metrics = evaluator.Run(source);
  ++next_;
  DropUnwanted();
  return metrics;
}

}  // namespace graft
