// Layered drawing of a directed acyclic graph (Sugiyama et al. 1981): layers by longest path, bends
// where an edge crosses a layer, barycentre order, and positions near the neighbours' mean.
#pragma once
#include <cstddef>
#include <vector>

namespace graft {

struct LayerBox {
  double width = 0, height = 0;
};
struct LayerEdge {
  size_t from = 0, to = 0;
};
struct Point {
  double x = 0, y = 0;
};
struct Place {
  double x = 0, y = 0, width = 0, height = 0;  // x: the middle; y: the top
};
struct LayerStyle {
  double gap = 24, margin = 24;
};
struct Layout2d {
  double width = 0, height = 0;
  std::vector<Place> places;              // by box
  std::vector<std::vector<Point>> edges;  // by edge: from, bends, to
};

// REQUIRES: no cycle.
Layout2d LayOut(const std::vector<LayerBox>& boxes, const std::vector<LayerEdge>& edges,
                const LayerStyle& style);

}  // namespace graft
