#include "runtime/text.h"

#include <algorithm>
#include <map>

#include "runtime/verify.h"

namespace graft {
namespace {

const char* RoleName(Role role) {
  switch (role) {
    case Role::kInput:
      return "input";
    case Role::kParam:
      return "param";
    case Role::kState:
      return "state";
    case Role::kIntermediate:
      break;
  }
  return "value";
}

// The nodes depth first from the outputs and updates: this order depends on the graph alone and not
// on its ids, so isomorphic graphs print equally. Dead nodes come last.
std::vector<NodeId> PrintOrder(const Graph& g) {
  std::vector<NodeId> order;
  std::vector<bool> done(g.num_nodes());
  // The stack is explicit, as a deep graph must not exhaust the call stack.
  auto visit = [&](NodeId root) {
    std::vector<std::pair<NodeId, size_t>> stack{{root, 0}};
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      if (done[id.i]) {
        stack.pop_back();
      } else if (next == g.node(id).in.size()) {
        done[id.i] = true;
        order.push_back(id);
        stack.pop_back();
      } else {
        const NodeId producer = g.value(g.node(id).in[next++]).producer;
        if (producer.valid() && !done[producer.i]) stack.emplace_back(producer, 0);
      }
    }
  };
  for (const GraphOutput& o : g.outputs)
    if (g.value(o.value).producer.valid()) visit(g.value(o.value).producer);
  for (const Update& u : g.updates)
    if (g.value(u.value).producer.valid()) visit(g.value(u.value).producer);
  for (NodeId id : g.TopoOrder()) visit(id);
  return order;
}

// The names that are printed: "@leaf", or "%k" with k counted in printing order.
struct Names {
  explicit Names(const Graph& graph)
      : g(graph), order(PrintOrder(graph)), number(graph.num_values(), -1) {
    for (NodeId n : order)
      for (ValueId v : g.node(n).out) number[v.i] = count++;
  }
  std::string operator()(ValueId v) const {
    return g.value(v).role == Role::kIntermediate ? fmt::format("%{}", number[v.i])
                                                  : "@" + g.value(v).name;
  }
  const Graph& g;
  std::vector<NodeId> order;
  std::vector<int> number;
  int count = 0;
};

std::string Join(const std::vector<std::string>& parts, const char* separator = ", ") {
  std::string text;
  for (const std::string& p : parts) text += (text.empty() ? "" : separator) + p;
  return text;
}

std::string NodeLine(const Graph& g, NodeId id, const Names& name) {
  const Node& n = g.node(id);
  std::vector<std::string> out, in, types;
  for (ValueId v : n.out) {
    out.push_back(name(v) + (g.value(v).name.empty() ? "" : "'" + g.value(v).name + "'"));
    types.push_back(ToString(g.type(v)));
  }
  for (ValueId v : n.in) in.push_back(name(v));
  const std::string attrs = n.attrs.ToString();
  return fmt::format("{} = {}{}({}){} : {}{}", Join(out), n.op->name,
                     n.phase == Phase::kUpdate ? "!" : "", Join(in),
                     attrs.empty() ? "" : " {" + attrs + "}", Join(types),
                     n.scope.empty() ? "" : "  # " + n.scope);
}

std::vector<std::string> Lines(const Graph& g, const Names& name) {
  std::vector<std::string> lines;
  for (Role role : {Role::kInput, Role::kParam, Role::kState}) {
    std::vector<std::string> leaves;
    for (ValueId v : g.Leaves(role))
      leaves.push_back(fmt::format("{} @{} : {}{}", RoleName(role), g.value(v).name,
                                   ToString(g.type(v)), g.value(v).trainable ? " trainable" : ""));
    std::sort(leaves.begin(), leaves.end());
    lines.insert(lines.end(), leaves.begin(), leaves.end());
  }
  for (NodeId n : name.order) lines.push_back(NodeLine(g, n, name));
  for (const GraphOutput& o : g.outputs)
    lines.push_back(fmt::format("output {} = {}", o.name, name(o.value)));
  for (const Update& u : g.updates)
    lines.push_back(fmt::format("update {} = {}", name(u.target), name(u.value)));
  return lines;
}

// A cursor over one line.
struct Reader {
  std::string_view rest;
  int line;
  void Blanks() {
    while (rest.starts_with(' ')) rest.remove_prefix(1);
  }
  bool Take(std::string_view token) {
    Blanks();
    if (!rest.starts_with(token)) return false;
    rest.remove_prefix(token.size());
    return true;
  }
  void Expect(std::string_view token) {
    if (!Take(token)) Fail("graph text, line {}: expected '{}', found '{}'", line, token, rest);
  }
  std::string_view Until(std::string_view stops) {
    Blanks();
    const size_t end = std::min(rest.find_first_of(stops), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(end);
    return word;
  }
};

class Parser {
 public:
  explicit Parser(std::span<const OpDef* const> ops) : ops_(ops) {}

  void Line(std::string_view text, int line) {
    Reader r{text, line};
    r.Blanks();
    if (r.rest.empty()) return;
    // The name is read in a statement of its own, as the compiler chooses which of two arguments
    // comes first.
    if (r.Take("input ")) {
      auto name = Name(r);
      g_.AddInput(name, Type(r));
    } else if (r.Take("param "))
      Param(r);
    else if (r.Take("state ")) {
      auto name = Name(r);
      const TensorType type = Type(r);
      if (type.dtype != DType::kF32)
        Fail("state '{}': expected f32, found {}", name, ToString(type.dtype));
      g_.AddState(name, type.shape);
    } else if (r.Take("output ")) {
      std::string name(r.Until(" ="));
      r.Expect("=");
      g_.SetOutput(name, Value(r));
    } else if (r.Take("update ")) {
      const ValueId t = Value(r);
      r.Expect("=");
      g_.AddUpdate(t, Value(r));
    } else
      return NodeText(r);
    End(r);
  }
  Graph Take() {
    g_.scope.clear();
    g_.phase = Phase::kMain;
    Verify(g_);
    return std::move(g_);
  }

 private:
  std::string Name(Reader& r) {
    r.Expect("@");
    std::string name(r.Until(" "));
    r.Expect(":");
    return name;
  }
  TensorType Type(Reader& r) {
    const size_t close = r.rest.find(']');
    if (close == std::string_view::npos) Fail("graph text, line {}: expected a type", r.line);
    r.Blanks();
    const std::string_view text = r.Until("]");
    r.Expect("]");
    return ParseTensorType(std::string(text) + "]");
  }
  void Param(Reader& r) {
    std::string name = Name(r);
    const TensorType type = Type(r);
    g_.AddParam(std::move(name), type.shape, r.Take("trainable"), type.dtype);
  }
  ValueId Value(Reader& r) {
    r.Blanks();
    const std::string word(r.Until(", )"));
    if (word.starts_with('@')) {
      const ValueId v = g_.FindLeaf(std::string_view(word).substr(1));
      if (v.valid()) return v;
    } else if (auto it = values_.find(word); it != values_.end()) {
      return it->second;
    }
    Fail("graph text, line {}: '{}' is not defined above", r.line, word);
  }
  void NodeText(Reader& r) {
    std::vector<std::pair<std::string, std::string>> results;
    do {
      std::string word(r.Until(", ="));
      const size_t quote = word.find('\'');
      std::string name =
          quote == std::string::npos ? "" : word.substr(quote + 1, word.size() - quote - 2);
      results.emplace_back(word.substr(0, quote), name);
    } while (r.Take(","));
    r.Expect("=");
    const std::string op_name(r.Until("(!"));
    g_.phase = r.Take("!") ? Phase::kUpdate : Phase::kMain;
    r.Expect("(");
    std::vector<ValueId> in;
    while (!r.Take(")")) in.push_back(Value(r)), r.Take(",");
    const OpDef& op = FindOp(op_name, r.line);
    Attrs attrs = op.default_attrs ? op.default_attrs() : Attrs();
    if (r.Take("{"))
      while (!r.Take("}")) {
        const std::string field(r.Until("="));
        r.Expect("=");
        const std::string_view text = r.Until(" }");
        attrs = attrs.With(field, text);
      }
    r.Expect(":");
    const size_t scope = r.rest.find("  # ");
    g_.scope = scope == std::string_view::npos ? "" : std::string(r.rest.substr(scope + 4));
    const ValueList out = g_.Add(op, std::move(in), std::move(attrs));
    if (results.size() != out.size())
      Fail("graph text, line {}: {} has {} results, not {}", r.line, op_name, out.size(),
           results.size());
    for (size_t i = 0; i < out.size(); ++i) {
      if (i) r.Expect(",");
      if (const TensorType stated = Type(r); !(stated == g_.type(out[i])))
        Fail("graph text, line {}: states {} but {} makes {}", r.line, ToString(stated), op_name,
             ToString(g_.type(out[i])));
      if (!values_.emplace(results[i].first, out[i]).second)
        Fail("graph text, line {}: '{}' is defined twice", r.line, results[i].first);
      g_.SetName(out[i], results[i].second);
    }
    if (r.Take("#")) r.rest = {};
    End(r);
  }
  void End(Reader& r) {
    r.Blanks();
    if (!r.rest.empty()) Fail("graph text, line {}: unexpected '{}'", r.line, r.rest);
  }
  const OpDef& FindOp(const std::string& name, int line) {
    std::vector<std::string> names;
    for (const OpDef* op : ops_) {
      if (op->name == name) return *op;
      names.emplace_back(op->name);
    }
    Fail("graph text, line {}: no operator '{}'{}", line, name, DidYouMean(name, names));
  }

  std::span<const OpDef* const> ops_;
  Graph g_;
  std::map<std::string, ValueId> values_;
};

// The line without its value numbers, so that inserting a node does not change all later lines.
std::string WithoutNumbers(const std::string& line) {
  std::string out;
  for (size_t i = 0; i < line.size(); ++i) {
    out += line[i];
    if (line[i] == '%')
      while (i + 1 < line.size() && std::isdigit(static_cast<unsigned char>(line[i + 1]))) ++i;
  }
  return out;
}

// What a line computes, without names: "%7'blocks.0.a' = tanh(%6) : f32[17*s,64]" becomes "%7 =
// tanh(%6) : f32[*,64]".
std::string Operation(const std::string& line) {
  std::string out;
  bool in_shape = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '\'') {  // of a name, which has none inside
      i = std::min(line.find('\'', i + 1), line.size());
      continue;
    }
    out += c;
    in_shape = c == '[' || (in_shape && c != ']');
    if (!in_shape || (c != '[' && c != ',')) continue;
    const size_t end = std::min(line.find_first_of(",]", i + 1), line.size());
    const std::string dim = line.substr(i + 1, end - i - 1);
    out += dim.find_first_of("st") == std::string::npos ? dim : "*";
    i = end - 1;
  }
  return out;
}

// The longest common subsequence of two lists of lines, as pairs of indices.
std::vector<std::pair<size_t, size_t>> CommonLines(const std::vector<std::string>& a,
                                                   const std::vector<std::string>& b) {
  const size_t n = a.size(), m = b.size();
  std::vector<uint32_t> length((n + 1) * (m + 1));
  auto at = [&](size_t i, size_t j) -> uint32_t& { return length[i * (m + 1) + j]; };
  for (size_t i = n; i-- > 0;)
    for (size_t j = m; j-- > 0;)
      at(i, j) = a[i] == b[j] ? at(i + 1, j + 1) + 1 : std::max(at(i + 1, j), at(i, j + 1));
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0, j = 0; i < n && j < m;) {
    if (a[i] == b[j])
      pairs.emplace_back(i++, j++);
    else if (at(i + 1, j) >= at(i, j + 1))
      ++i;
    else
      ++j;
  }
  return pairs;
}

}  // namespace

std::string ToText(const Graph& g) { return Join(Lines(g, Names(g)), "\n") + "\n"; }

Graph ParseGraph(std::string_view text, std::span<const OpDef* const> ops) {
  Parser parser(ops);
  int line = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    ++line;
    try {
      parser.Line(text.substr(0, end), line);
    } catch (const Error& e) {  // of the graph, an attribute or a type: they know no line
      if (std::string_view(e.what()).starts_with("graph text, line")) throw;
      Fail("graph text, line {}: {}", line, e.what());
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parser.Take();
}

std::string DiffText(const Graph& before, const Graph& after, int context, DiffOf what) {
  const auto key = [&](const std::string& line) {
    const std::string text = WithoutNumbers(line);
    return what == DiffOf::kOperations ? Operation(text) : text;
  };
  const std::vector<std::string> a = Lines(before, Names(before)), b = Lines(after, Names(after));
  std::vector<std::string> keys_a(a.size()), keys_b(b.size());
  std::transform(a.begin(), a.end(), keys_a.begin(), key);
  std::transform(b.begin(), b.end(), keys_b.begin(), key);
  std::vector<std::pair<char, std::string>> lines;
  size_t i = 0, j = 0;
  auto upto = [&](size_t end_a, size_t end_b) {
    for (; i < end_a; ++i) lines.emplace_back('-', a[i]);
    for (; j < end_b; ++j) lines.emplace_back('+', b[j]);
  };
  for (auto [common_a, common_b] : CommonLines(keys_a, keys_b)) {
    upto(common_a, common_b);
    lines.emplace_back(' ', b[j]);
    ++i, ++j;
  }
  upto(a.size(), b.size());
  std::vector<bool> shown(lines.size());
  for (size_t k = 0; k < lines.size(); ++k) {
    if (lines[k].first == ' ') continue;
    const size_t from = k - std::min(k, static_cast<size_t>(context));
    for (size_t n = from; n <= std::min(lines.size() - 1, k + static_cast<size_t>(context)); ++n)
      shown[n] = true;
  }
  std::string text;
  for (size_t k = 0; k < lines.size(); ++k) {
    if (shown[k])
      text += fmt::format("{} {}\n", lines[k].first, lines[k].second);
    else if (k == 0 || shown[k - 1])
      text += "  ...\n";
  }
  return text;
}

}  // namespace graft
