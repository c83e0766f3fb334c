#include "tools/lib/graph_svg.h"

#include <algorithm>
#include <map>

#include "runtime/op.h"
#include "tools/lib/ranks.h"

namespace graft {
namespace {

constexpr double kLine = 15, kGap = 26, kMargin = 24, kLetter = 6.6;

struct TextLine {
  std::string text;
  const char* css;
};

// A box for a node, or for a value that comes from outside of the picture.
struct Box {
  std::vector<TextLine> lines;
  std::string css = "op";
};

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

bool Inside(const std::string& scope, const std::string& of) {
  return of.empty() || scope == of || scope.starts_with(of + ".");
}

std::string Below(const std::string& name, const std::string& scope) {
  return !scope.empty() && name.starts_with(scope + ".") ? name.substr(scope.size() + 1) : name;
}

class Picture {
 public:
  Picture(const Graph& g, const std::string& scope, const std::set<NodeId>& marked)
      : g_(g), scope_(scope), marked_(marked) {
    for (NodeId id : g.TopoOrder())
      if (Inside(g.node(id).scope, scope)) AddNode(id);
    if (boxes_.empty()) Fail("no node of the graph is in '{}'", scope);
    for (const GraphOutput& o : g.outputs) AddOutput(o);
  }
  std::string Draw() const;

 private:
  size_t AddBox(Box box) {
    boxes_.push_back(std::move(box));
    return boxes_.size() - 1;
  }
  void AddNode(NodeId id);
  void AddOutput(const GraphOutput& output);
  // The box that a value comes from.
  size_t Source(ValueId v) {
    const auto it = made_by_.find(v);
    if (it != made_by_.end()) return it->second;
    const Value& value = g_.value(v);
    const std::string name =
        value.name.empty() ? std::string(g_.node(value.producer).op->name) : value.name;
    Box box{{{name, "name"}, {ToString(value.type), "type"}}, "input"};
    if (marked_.contains(value.producer)) box.css += " added";
    return made_by_[v] = AddBox(std::move(box));
  }
  std::string DrawBox(const Box& box, const Place& place) const;

  const Graph& g_;
  const std::string& scope_;
  const std::set<NodeId>& marked_;
  std::vector<Box> boxes_;
  std::vector<Arrow> edges_;
  std::map<ValueId, size_t> made_by_;
};

void Picture::AddNode(NodeId id) {
  const Node& n = g_.node(id);
  Box box{{{std::string(n.op->name), "name"}}, "op"};
  const std::string where = Below(n.scope, scope_);
  if (where != scope_ && !where.empty()) box.lines.push_back({where, "scope"});
  std::vector<size_t> sources;
  for (ValueId v : n.in) {
    const Value& value = g_.value(v);
    if (value.role != Role::kParam) {
      sources.push_back(Source(v));
      continue;
    }
    const std::string text =
        Below(Below(value.name, n.scope), scope_) + " " + ToString(value.type.shape);
    box.lines.push_back({text, value.trainable ? "trained" : "frozen"});
    if (value.trainable) box.css = "op trains";
  }
  if (marked_.contains(id)) box.css += " added";
  box.lines.push_back({ToString(g_.type(n.out[0])), "type"});
  const size_t at = AddBox(std::move(box));
  for (ValueId v : n.out) made_by_[v] = at;
  for (size_t source : sources) edges_.push_back({source, at});
}

void Picture::AddOutput(const GraphOutput& output) {
  const auto it = made_by_.find(output.value);
  if (it == made_by_.end()) return;
  const size_t from = it->second;
  edges_.push_back({from, AddBox({{{output.name, "name"}}, "output"})});
}

std::string Picture::DrawBox(const Box& box, const Place& p) const {
  std::string svg = fmt::format(
      "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "rx=\"{}\"/>\n",
      box.css, p.x - p.width / 2, p.y, p.width, p.height, box.lines.size() == 1 ? 10 : 4);
  double y = p.y + kLine - 1;
  for (const TextLine& line : box.lines) {
    svg += fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", line.css, p.x, y,
                       Escape(line.text));
    y += kLine;
  }
  return svg;
}

// Draws an arrow from the bottom of one box to the top of the other, through the gaps that the
// layout keeps free.
std::string DrawEdge(const std::vector<Point>& points) {
  std::string path = fmt::format("M{:.1f},{:.1f}", points[0].x, points[0].y);
  for (size_t i = 1; i < points.size(); ++i) {
    const double middle = (points[i - 1].y + points[i].y) / 2;
    path += fmt::format(" C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}", points[i - 1].x, middle,
                        points[i].x, middle, points[i].x, points[i].y);
  }
  return fmt::format("<path class=\"edge\" marker-end=\"url(#tip)\" d=\"{}\"/>\n", path);
}

constexpr const char* kHead =
    R"(<defs>
<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>
<style>
text { font-family: sans-serif; font-size: 11px; text-anchor: middle; fill: #222; }
.name { font-weight: bold; font-size: 12px; }
.scope { fill: #666; } .type { fill: #888; font-size: 10px; }
.trained { fill: #b34700; font-weight: bold; } .frozen { fill: #555; }
.op { fill: #f7f7f7; stroke: #999; } .trains { fill: #ffe8d1; stroke: #d9730d; }
.input { fill: #e1effa; stroke: #5b9bd5; } .output { fill: #e3f4e1; stroke: #59a14f; }
.added { stroke: #2e7d32; stroke-width: 2.5; }
.legend { text-anchor: start; fill: #2e7d32; }
.edge { fill: none; stroke: #666; stroke-width: 1.1; } .tip { fill: #666; }
.paper { fill: #fff; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #12161c; } text { fill: #e6eaf0; } .scope, .type { fill: #9aa6b5; }
  .trained { fill: #ffb27a; } .frozen { fill: #aab4c0; }
  .op { fill: #1f2630; stroke: #66717f; } .trains { fill: #4a2c10; stroke: #d9730d; }
  .input { fill: #16324a; stroke: #5b9bd5; } .output { fill: #1c3a1e; stroke: #59a14f; }
  .added { stroke: #57b55c; } .legend { fill: #57b55c; }
  .edge { stroke: #8b96a4; } .tip { fill: #8b96a4; }
}
</style>
<rect class="paper" width="100%" height="100%"/>
)";

std::string Picture::Draw() const {
  std::vector<BoxSize> sizes;
  for (const Box& box : boxes_) {
    size_t letters = 0;
    for (const TextLine& line : box.lines) letters = std::max(letters, line.text.size());
    sizes.push_back({kLetter * static_cast<double>(letters) + 16,
                     kLine * static_cast<double>(box.lines.size()) + 5});
  }
  const Arrangement layout = Arrange(sizes, edges_, {.gap = kGap, .margin = kMargin});
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 "
      "0 {0:.0f} {1:.0f}\">\n{2}",
      layout.width, layout.height, kHead);
  if (!marked_.empty())
    svg += "<text class=\"legend\" x=\"6\" y=\"14\">green border: added by the method</text>\n";
  for (const std::vector<Point>& edge : layout.edges) svg += DrawEdge(edge);
  for (size_t i = 0; i < boxes_.size(); ++i) svg += DrawBox(boxes_[i], layout.places[i]);
  return svg + "</svg>\n";
}

}  // namespace

std::string ToSvg(const Graph& g, const std::string& scope, const std::set<NodeId>& marked) {
  return Picture(g, scope, marked).Draw();
}

}  // namespace graft
