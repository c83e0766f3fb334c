// Arranges the boxes and arrows of a directed acyclic graph as Sugiyama et al. (1981) do: ranks by
// longest path, bends where an arrow crosses a rank, barycentre order, and positions near the mean
// of the neighbours. Graphviz would do this, but needs 81 packages (135 MiB, GTK among them), and
// its pictures differ with the fonts of the machine.
#pragma once
#include <cstddef>
#include <vector>

namespace graft {

struct BoxSize {
  double width = 0, height = 0;
};
struct Arrow {
  size_t from = 0, to = 0;
};
struct Point {
  double x = 0, y = 0;
};
struct Place {
  double x = 0, y = 0, width = 0, height = 0;  // x: the middle; y: the top
};
struct Spacing {
  double gap = 24, margin = 24;
};
struct Arrangement {
  double width = 0, height = 0;
  std::vector<Place> places;              // by box
  std::vector<std::vector<Point>> edges;  // by edge: from, bends, to
};

// REQUIRES: there is no cycle.
Arrangement Arrange(const std::vector<BoxSize>& boxes, const std::vector<Arrow>& edges,
                    const Spacing& spacing);

}  // namespace graft
