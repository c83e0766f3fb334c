#include "tools/lib/layers.h"

#include <algorithm>
#include <cstdint>

namespace graft {
namespace {

constexpr double kBendWidth = 8;
constexpr int kSweeps = 12;

class Layers {
 public:
  Layers(const std::vector<LayerBox>& boxes, const std::vector<LayerEdge>& edges,
         const LayerStyle& style)
      : style_(style),
        real_(boxes.size()),
        sizes_(boxes),
        above_(boxes.size()),
        below_(boxes.size()) {
    AssignLayers(edges);
    for (const LayerEdge& e : edges) Connect(e);
    for (size_t i = 0; i < layer_.size(); ++i) {
      if (rows_.size() <= layer_[i]) rows_.resize(layer_[i] + 1);
      rows_[layer_[i]].push_back(i);
    }
    rank_.resize(layer_.size());
    for (const auto& row : rows_) Rank(row);
  }
  Layout2d Run() {
    for (int sweep = 0; sweep < kSweeps; ++sweep) Order(sweep % 2 == 0);
    Pack();
    for (int sweep = 0; sweep < kSweeps; ++sweep) Align(sweep % 2 == 0);
    return Result();
  }

 private:
  void AssignLayers(const std::vector<LayerEdge>& edges);
  void Connect(const LayerEdge& edge);
  void Rank(const std::vector<size_t>& row) {
    for (size_t i = 0; i < row.size(); ++i) rank_[row[i]] = static_cast<double>(i);
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
  // How far apart the middles of two neighbours in a row must be.
  double Distance(size_t a, size_t b) const {
    return (sizes_[a].width + sizes_[b].width) / 2 + style_.gap;
  }
  Layout2d Result() const;

  LayerStyle style_;
  size_t real_;
  std::vector<LayerBox> sizes_;  // boxes, then bends
  std::vector<std::vector<size_t>> above_, below_, rows_, chains_;
  std::vector<size_t> layer_;
  std::vector<double> rank_, x_;
};

void Layers::AssignLayers(const std::vector<LayerEdge>& edges) {
  layer_.assign(real_, 0);
  std::vector<size_t> inputs(real_), users(real_, SIZE_MAX);
  for (bool changed = true; changed;) {
    changed = false;
    for (const LayerEdge& e : edges)
      if (layer_[e.to] < layer_[e.from] + 1) layer_[e.to] = layer_[e.from] + 1, changed = true;
  }
  // What nothing feeds stands just above its first reader.
  for (const LayerEdge& e : edges)
    ++inputs[e.to], users[e.from] = std::min(users[e.from], layer_[e.to]);
  for (size_t i = 0; i < real_; ++i)
    if (inputs[i] == 0 && users[i] != SIZE_MAX) layer_[i] = users[i] - 1;
}

void Layers::Connect(const LayerEdge& e) {
  std::vector<size_t> chain{e.from};
  for (size_t l = layer_[e.from] + 1; l < layer_[e.to]; ++l) {
    chain.push_back(layer_.size());
    layer_.push_back(l);
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

void Layers::Order(bool down) {
  for (size_t k = 0; k < rows_.size(); ++k) {
    std::vector<size_t>& row = rows_[down ? k : rows_.size() - 1 - k];
    std::vector<double> key(layer_.size());
    for (size_t i : row) key[i] = Mean(down ? above_[i] : below_[i], rank_, rank_[i]);
    std::stable_sort(row.begin(), row.end(), [&](size_t a, size_t b) { return key[a] < key[b]; });
    Rank(row);
  }
}

void Layers::Pack() {
  x_.assign(layer_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 1; i < row.size(); ++i)
      x_[row[i]] = x_[row[i - 1]] + Distance(row[i - 1], row[i]);
    const double middle = row.empty() ? 0 : x_[row.back()] / 2;
    for (size_t i : row) x_[i] -= middle;
  }
}

// Every box moves towards its neighbours in the other row; of the two ways to keep the order and
// the gaps (pushing right, pushing left) the mean keeps them too.
void Layers::Align(bool down) {
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

Layout2d Layers::Result() const {
  Layout2d out;
  double least = 1e300, most = -1e300;
  for (size_t i = 0; i < layer_.size(); ++i) {
    least = std::min(least, x_[i] - sizes_[i].width / 2);
    most = std::max(most, x_[i] + sizes_[i].width / 2);
  }
  std::vector<double> top(rows_.size()), height(rows_.size());
  double y = style_.margin;
  for (size_t l = 0; l < rows_.size(); ++l) {
    for (size_t i : rows_[l]) height[l] = std::max(height[l], sizes_[i].height);
    top[l] = y;
    y += height[l] + style_.gap;
  }
  out.width = most - least + 2 * style_.margin;
  out.height = y - style_.gap + style_.margin;
  const double shift = style_.margin - least;
  for (size_t i = 0; i < real_; ++i)
    out.places.push_back({x_[i] + shift, top[layer_[i]], sizes_[i].width, sizes_[i].height});
  for (const auto& chain : chains_) {
    const Place& from = out.places[chain.front()];
    const Place& to = out.places[chain.back()];
    std::vector<Point> points{{from.x, from.y + from.height}};
    for (size_t k = 1; k + 1 < chain.size(); ++k) {
      const size_t row = layer_[chain[k]];
      points.push_back({x_[chain[k]] + shift, top[row]});
      points.push_back({x_[chain[k]] + shift, top[row] + height[row]});
    }
    points.push_back({to.x, to.y});
    out.edges.push_back(std::move(points));
  }
  return out;
}

}  // namespace

Layout2d LayOut(const std::vector<LayerBox>& boxes, const std::vector<LayerEdge>& edges,
                const LayerStyle& style) {
  return Layers(boxes, edges, style).Run();
}

}  // namespace graft
