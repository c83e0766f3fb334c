#include "tools/lib/graph_diff.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "runtime/op.h"
#include "runtime/text.h"

namespace graft {
namespace {

constexpr std::string_view kBlocks = "blocks.";

size_t DigitsEnd(const std::string& text, size_t begin) {
  while (begin < text.size() && std::isdigit(static_cast<unsigned char>(text[begin]))) ++begin;
  return begin;
}

// The block that a line is about: that of its scope ("# blocks.3.attn.q" at the end), else the
// first one that it names (as a parameter's line does); -1 for none.
int64_t BlockOf(const std::string& line) {
  const size_t comment = line.find("  # ");
  const size_t at = line.find(kBlocks, comment == std::string::npos ? 0 : comment);
  if (at == std::string::npos) return -1;
  const size_t begin = at + kBlocks.size(), end = DigitsEnd(line, begin);
  return end == begin ? -1 : std::stoll(line.substr(begin, end - begin));
}

// The line without value numbers, and with block numbers relative to its own block.
std::string Normal(const std::string& line, int64_t block) {
  std::string out;
  for (size_t i = 0; i < line.size();) {
    if (line[i] == '%') {
      out += line[i];
      i = DigitsEnd(line, i + 1);
    } else if (line.compare(i, kBlocks.size(), kBlocks) == 0) {
      const size_t begin = i + kBlocks.size(), end = DigitsEnd(line, begin);
      out += fmt::format("blocks.{:+}",
                         begin == end ? 0 : std::stoll(line.substr(begin, end - begin)) - block);
      i = end;
    } else {
      out += line[i++];
    }
  }
  return out;
}

// The line without attributes that are off: of "{ta=0 tb=1 alpha=1 act=none}" stays {tb=1}.
std::string Short(const std::string& line) {
  const size_t open = line.find(" {"), close = line.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return line;
  std::string kept;
  for (size_t begin = open + 2; begin < close;) {
    const size_t end = std::min(line.find(' ', begin), close);
    const std::string field = line.substr(begin, end - begin);
    if (!field.ends_with("=0") && !field.ends_with("=none") && field != "alpha=1")
      kept += (kept.empty() ? "" : " ") + field;
    begin = end + 1;
  }
  return line.substr(0, open) + (kept.empty() ? "" : " {" + kept + "}") + line.substr(close + 1);
}

// Neighbouring lines about one block.
struct Hunk {
  int64_t block = -1;
  std::string text, normal;
  std::vector<int64_t> same_in;
  bool changes = false;
};

std::vector<Hunk> Hunks(const std::string& diff) {
  std::vector<Hunk> hunks;
  bool is_param = false;
  for (size_t begin = 0; begin < diff.size();) {
    const size_t end = std::min(diff.find('\n', begin), diff.size());
    const std::string line = diff.substr(begin, end - begin);
    begin = end + 1;
    const bool gap = line == "  ...";
    if (gap && (hunks.empty() || hunks.back().text.ends_with("...\n"))) continue;
    // Unchanged parameters help nobody find the place: their names say where they belong.
    if (line.starts_with("  param ")) continue;
    const bool param = gap ? is_param : line.substr(2).starts_with("param ");
    const int64_t block = gap ? hunks.back().block : BlockOf(line);
    if (hunks.empty() || hunks.back().block != block || is_param != param)
      hunks.push_back({block, "", "", {}, false});
    is_param = param;
    Hunk& hunk = hunks.back();
    hunk.text += Short(line) + "\n";
    hunk.normal += Normal(line, block) + "\n";
    hunk.changes = hunk.changes || line[0] == '+' || line[0] == '-';
  }
  // Unchanged lines that ended up without a change beside them help nobody, and a gap at the end of
  // a hunk says nothing.
  std::erase_if(hunks, [](const Hunk& p) { return !p.changes; });
  for (Hunk& p : hunks)
    for (std::string* text : {&p.text, &p.normal})
      if (text->ends_with("  ...\n")) text->resize(text->size() - 6);
  return hunks;
}

// What tells a node from others, whatever its id and the number of its rows. Inputs of the graph do
// not count: a method may put longer sequences in the place of those that came in.
std::string NodeKey(const Graph& g, NodeId id) {
  const Node& n = g.node(id);
  std::string key =
      fmt::format("{} {} # {} ({}", n.op->name, n.attrs.ToString(), n.scope, n.in.size());
  for (ValueId v : n.in)
    if (g.value(v).role == Role::kParam) key += " @" + g.value(v).name;
  return key;
}

std::vector<std::string> SplitLines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The lines without stretches between two gaps in which nothing changes.
std::vector<std::string> WithoutIdle(const std::vector<std::string>& lines) {
  std::vector<std::string> kept;
  size_t begin = 0;  // of the stretch
  bool changes = false;
  for (const std::string& line : lines) {
    if (line == "  ...") {
      if (!changes) kept.resize(begin);
      if (!kept.empty() && kept.back() != line) kept.push_back(line);
      begin = kept.size(), changes = false;
    } else {
      kept.push_back(line);
      changes = changes || line[0] != ' ';
    }
  }
  if (!changes) kept.resize(begin);
  if (!kept.empty() && kept.back() == "  ...") kept.pop_back();
  return kept;
}

bool IsParamLine(const std::string& line) { return line.substr(2).starts_with("param "); }

}  // namespace

std::set<NodeId> AddedNodes(const Graph& before, const Graph& after) {
  std::map<std::string, int> left;  // of `before`, that none of `after` is the counterpart of
  for (NodeId id : before.TopoOrder()) ++left[NodeKey(before, id)];
  std::set<NodeId> added;
  std::vector<NodeId> open;
  for (NodeId id : after.TopoOrder()) {
    const std::string key = NodeKey(after, id);
    // A node that stayed is its own counterpart; one that has taken its place comes after it.
    if (id.i < before.num_nodes() && before.node(id).op && NodeKey(before, id) == key)
      --left[key];
    else
      open.push_back(id);
  }
  for (NodeId id : open)
    if (--left[NodeKey(after, id)] < 0) added.insert(id);
  return added;
}

std::string BlockDiff(const Graph& before, const Graph& after, int64_t block, size_t most_lines) {
  std::vector<std::string> nodes, params;
  for (const Hunk& hunk : Hunks(DiffText(before, after, 1, DiffOf::kOperations))) {
    if (hunk.block >= 0 && hunk.block != block) continue;
    for (const std::string& line : SplitLines(hunk.text)) {
      if (line.find("@head.") != std::string::npos) continue;
      if (!IsParamLine(line))
        nodes.push_back(line);
      else if (line.starts_with('+'))
        params.push_back(line);
    }
  }
  nodes = WithoutIdle(nodes);
  std::vector<std::string>& lines = nodes.empty() ? params : nodes;
  if (lines.size() > most_lines) {
    const size_t more = lines.size() - (most_lines - 1);
    lines.resize(most_lines - 1);
    lines.push_back(fmt::format("  ... {} more lines", more));
  }
  return lines.empty() ? "" : fmt::format("{}\n", fmt::join(lines, "\n"));
}

std::string Ranges(const std::vector<int64_t>& sorted) {
  std::string text;
  for (size_t i = 0; i < sorted.size();) {
    size_t last = i;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", sorted[i]);
    if (last > i) text += fmt::format("{}{}", last == i + 1 ? ", " : " to ", sorted[last]);
    i = last + 1;
  }
  return text;
}

std::string FoldedDiff(const Graph& before, const Graph& after) {
  std::vector<Hunk> shown;
  std::map<std::string, size_t> first;  // of equal hunks
  for (Hunk& hunk : Hunks(DiffText(before, after, 1, DiffOf::kOperations))) {
    const auto [at, fresh] = first.emplace(hunk.normal, shown.size());
    if (fresh || hunk.block < 0)
      shown.push_back(std::move(hunk));
    else
      shown[at->second].same_in.push_back(hunk.block);
  }
  std::string text;
  for (Hunk& hunk : shown) {
    text += hunk.text;
    std::sort(hunk.same_in.begin(), hunk.same_in.end());
    if (!hunk.same_in.empty())
      text += fmt::format("  ... the same in block{} {}\n", hunk.same_in.size() > 1 ? "s" : "",
                          Ranges(hunk.same_in));
  }
  return text;
}

}  // namespace graft
