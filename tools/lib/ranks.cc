#include "tools/lib/ranks.h"

#include <algorithm>
#include <cstdint>

namespace graft {
namespace {

constexpr double kBendWidth = 8;
constexpr int kSweeps = 12;

class Ranks {
 public:
  Ranks(const std::vector<BoxSize>& boxes, const std::vector<Arrow>& edges, const Spacing& spacing)
      : spacing_(spacing),
        real_(boxes.size()),
        sizes_(boxes),
        above_(boxes.size()),
        below_(boxes.size()) {
    AssignRanks(edges);
    for (const Arrow& e : edges) Connect(e);
    for (size_t i = 0; i < rank_.size(); ++i) {
      if (rows_.size() <= rank_[i]) rows_.resize(rank_[i] + 1);
      rows_[rank_[i]].push_back(i);
    }
    position_.resize(rank_.size());
    for (const auto& row : rows_) Number(row);
  }
  Arrangement Run() {
    for (int sweep = 0; sweep < kSweeps; ++sweep) Order(sweep % 2 == 0);
    Pack();
    for (int sweep = 0; sweep < kSweeps; ++sweep) Align(sweep % 2 == 0);
    return Result();
  }

 private:
  void AssignRanks(const std::vector<Arrow>& edges);
  void Connect(const Arrow& edge);
  void Number(const std::vector<size_t>& row) {
    for (size_t i = 0; i < row.size(); ++i) position_[row[i]] = static_cast<double>(i);
  }
  void Order(bool down);
  void Pack();
  void Align(bool down);
  double Mean(const std::vector<size_t>& of, const std::vector<double>& value,
              double otherwise) const {
    if (of.empty()) return otherwise;
    double sum = 0;
    for (size_t i : of) sum += value[i];
    return sum / static_cast<double>(of.size());
  }
  // How far the middles of two neighbours in a row must be apart.
  double Distance(size_t a, size_t b) const {
    return (sizes_[a].width + sizes_[b].width) / 2 + spacing_.gap;
  }
  Arrangement Result() const;

  Spacing spacing_;
  size_t real_;
  std::vector<BoxSize> sizes_;  // boxes, then bends
  std::vector<std::vector<size_t>> above_, below_, rows_, chains_;
  std::vector<size_t> rank_;
  std::vector<double> position_, x_;
};

void Ranks::AssignRanks(const std::vector<Arrow>& edges) {
  rank_.assign(real_, 0);
  std::vector<size_t> inputs(real_), users(real_, SIZE_MAX);
  for (bool changed = true; changed;) {
    changed = false;
    for (const Arrow& e : edges)
      if (rank_[e.to] < rank_[e.from] + 1) rank_[e.to] = rank_[e.from] + 1, changed = true;
  }
  // A box that nothing feeds stands just above its first reader.
  for (const Arrow& e : edges) ++inputs[e.to], users[e.from] = std::min(users[e.from], rank_[e.to]);
  for (size_t i = 0; i < real_; ++i)
    if (inputs[i] == 0 && users[i] != SIZE_MAX) rank_[i] = users[i] - 1;
}

void Ranks::Connect(const Arrow& e) {
  std::vector<size_t> chain{e.from};
  for (size_t l = rank_[e.from] + 1; l < rank_[e.to]; ++l) {
    chain.push_back(rank_.size());
    rank_.push_back(l);
    sizes_.push_back({kBendWidth, 0});
    above_.emplace_back(), below_.emplace_back();
  }
  chain.push_back(e.to);
  for (size_t i = 1; i < chain.size(); ++i) {
    below_[chain[i - 1]].push_back(chain[i]);
    above_[chain[i]].push_back(chain[i - 1]);
  }
  chains_.push_back(std::move(chain));
}

void Ranks::Order(bool down) {
  for (size_t k = 0; k < rows_.size(); ++k) {
    std::vector<size_t>& row = rows_[down ? k : rows_.size() - 1 - k];
    std::vector<double> key(rank_.size());
    for (size_t i : row) key[i] = Mean(down ? above_[i] : below_[i], position_, position_[i]);
    std::stable_sort(row.begin(), row.end(), [&](size_t a, size_t b) { return key[a] < key[b]; });
    Number(row);
  }
}

void Ranks::Pack() {
  x_.assign(rank_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 1; i < row.size(); ++i)
      x_[row[i]] = x_[row[i - 1]] + Distance(row[i - 1], row[i]);
    const double middle = row.empty() ? 0 : x_[row.back()] / 2;
    for (size_t i : row) x_[i] -= middle;
  }
}

// Moves every box towards its neighbours in the other row. Two ways keep the order and the gaps, to
// push to the right and to push to the left; their mean keeps them, too.
void Ranks::Align(bool down) {
  for (size_t k = 0; k < rows_.size(); ++k) {
    const std::vector<size_t>& row = rows_[down ? k : rows_.size() - 1 - k];
    std::vector<double> right(row.size()), left(row.size());
    for (size_t i = 0; i < row.size(); ++i)
      right[i] = left[i] = Mean(down ? above_[row[i]] : below_[row[i]], x_, x_[row[i]]);
    for (size_t i = 1; i < row.size(); ++i)
      right[i] = std::max(right[i], right[i - 1] + Distance(row[i - 1], row[i]));
    for (size_t i = row.size(); i-- > 1;)
      left[i - 1] = std::min(left[i - 1], left[i] - Distance(row[i - 1], row[i]));
    for (size_t i = 0; i < row.size(); ++i) x_[row[i]] = (left[i] + right[i]) / 2;
  }
}

Arrangement Ranks::Result() const {
  Arrangement out;
  double least = 1e300, most = -1e300;
  for (size_t i = 0; i < rank_.size(); ++i) {
    least = std::min(least, x_[i] - sizes_[i].width / 2);
    most = std::max(most, x_[i] + sizes_[i].width / 2);
  }
  std::vector<double> top(rows_.size()), height(rows_.size());
  double y = spacing_.margin;
  for (size_t l = 0; l < rows_.size(); ++l) {
    for (size_t i : rows_[l]) height[l] = std::max(height[l], sizes_[i].height);
    top[l] = y;
    y += height[l] + spacing_.gap;
  }
  out.width = most - least + 2 * spacing_.margin;
  out.height = y - spacing_.gap + spacing_.margin;
  const double shift = spacing_.margin - least;
  for (size_t i = 0; i < real_; ++i)
    out.places.push_back({x_[i] + shift, top[rank_[i]], sizes_[i].width, sizes_[i].height});
  for (const auto& chain : chains_) {
    const Place& from = out.places[chain.front()];
    const Place& to = out.places[chain.back()];
    std::vector<Point> points{{from.x, from.y + from.height}};
    for (size_t k = 1; k + 1 < chain.size(); ++k) {
      const size_t row = rank_[chain[k]];
      points.push_back({x_[chain[k]] + shift, top[row]});
      points.push_back({x_[chain[k]] + shift, top[row] + height[row]});
    }
    points.push_back({to.x, to.y});
    out.edges.push_back(std::move(points));
  }
  return out;
}

}  // namespace

Arrangement Arrange(const std::vector<BoxSize>& boxes, const std::vector<Arrow>& edges,
                    const Spacing& spacing) {
  return Ranks(boxes, edges, spacing).Run();
}

}  // namespace graft
