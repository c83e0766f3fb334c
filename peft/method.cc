#include "peft/method.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "ops/ops.h"

namespace graft {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// "key=value" pairs separated by commas.
std::map<std::string, std::string> ParseOptions(std::string_view text, const MethodRecord& record) {
  std::vector<std::string> known{"head"};
  for (const MethodOption& o : record.options()) known.emplace_back(o.name);
  std::map<std::string, std::string> options;
  while (!Trim(text).empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view pair = Trim(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos)
      FailUsage("method '{}': expected option=value, found '{}'", record.name, pair);
    const std::string key(Trim(pair.substr(0, equals))), value(Trim(pair.substr(equals + 1)));
    if (std::find(known.begin(), known.end(), key) == known.end())
      FailUsage("method '{}' has no option '{}'{}", record.name, key, DidYouMean(key, known));
    if (!options.emplace(key, value).second)
      FailUsage("method '{}': option '{}' is given twice", record.name, key);
  }
  return options;
}

MethodTerm ParseTerm(std::string_view text) {
  const size_t open = text.find('(');
  const std::string_view name = Trim(text.substr(0, open));
  if (name.empty()) FailUsage("method: expected a name such as lora(r=8), found nothing");
  const MethodRecord& record = FindMethod(name);
  if (open == std::string_view::npos) return {std::string(name), {}};
  const size_t close = text.find(')', open);
  if (close == std::string_view::npos)
    FailUsage("method '{}': the options do not end with ')'", text);
  if (close + 1 != text.size())
    FailUsage("method '{}': a '+' is missing between '{}' and '{}'", text,
              text.substr(0, close + 1), Trim(text.substr(close + 1)));
  return {std::string(name), ParseOptions(text.substr(open + 1, close - open - 1), record)};
}

}  // namespace

const MethodRecord& FindMethod(std::string_view name) {
  std::vector<std::string> names;
  for (const MethodRecord* record : AllMethods()) {
    if (record->name == name) return *record;
    names.emplace_back(record->name);
  }
  FailUsage("no method '{}'{}", name, DidYouMean(name, names));
}

Method ParseMethod(std::string_view text) {
  Method method;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size()) depth += (text[i] == '(') - (text[i] == ')');
    if (i < text.size() && (text[i] != '+' || depth > 0)) continue;
    method.push_back(ParseTerm(Trim(text.substr(begin, i - begin))));
    begin = i + 1;
  }
  return method;
}

std::string ToString(const Method& method) {
  std::string text;
  for (const MethodTerm& term : method) {
    std::string options;
    for (const auto& [key, value] : term.options)
      options += (options.empty() ? "" : ",") + key + "=" + value;
    text += fmt::format("{}{}{}", text.empty() ? "" : "+", term.name,
                        options.empty() ? "" : "(" + options + ")");
  }
  return text;
}

std::map<std::string, std::string> CompleteOptions(const MethodTerm& term) {
  std::map<std::string, std::string> options{{"head", "trained"}};
  for (const MethodOption& o : FindMethod(term.name).options()) options.emplace(o.name, o.value);
  for (const auto& [key, value] : term.options) options[key] = value;
  return options;
}

const std::string& MethodArgs::Text(std::string_view option) const {
  const auto it = options.find(std::string(option));
  GRAFT_CHECK(it != options.end(), "option '{}' is not in the record", option);
  return it->second;
}

double MethodArgs::Number(std::string_view option, double min, double max) const {
  const std::string& text = Text(option);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= min && value <= max))
    FailUsage("option '{}': expected a number from {} to {}, found '{}'", option, min, max, text);
  return value;
}

int64_t MethodArgs::Int(std::string_view option, int64_t min, int64_t max) const {
  const double value = Number(option, static_cast<double>(min), static_cast<double>(max));
  if (value != static_cast<double>(static_cast<int64_t>(value)))
    FailUsage("option '{}': expected a whole number, found '{}'", option, Text(option));
  return static_cast<int64_t>(value);
}

bool MethodArgs::Flag(std::string_view option) const {
  const std::string& text = Text(option);
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  FailUsage("option '{}': expected true or false, found '{}'", option, text);
}

std::vector<std::string> MethodArgs::List(std::string_view option) const {
  std::vector<std::string> list;
  std::string_view text = Text(option);
  while (true) {
    const size_t bar = std::min(text.find('|'), text.size());
    if (!Trim(text.substr(0, bar)).empty()) list.emplace_back(Trim(text.substr(0, bar)));
    if (bar == text.size()) break;
    text.remove_prefix(bar + 1);
  }
  if (list.empty()) FailUsage("option '{}': expected names joined by '|', found nothing", option);
  return list;
}

namespace {

std::vector<PassReport> ApplyTerms(Graph& g, ParamStore& params, const Method& method,
                                   uint64_t seed) {
  for (ValueId v : g.Leaves(Role::kParam)) g.SetTrainable(v, false);
  std::vector<PassReport> reports;
  bool head = true;
  for (const MethodTerm& term : method) {
    const std::map<std::string, std::string> options = CompleteOptions(term);
    const std::string& choice = options.at("head");
    const std::vector<std::string> choices{"trained", "frozen"};
    if (std::find(choices.begin(), choices.end(), choice) == choices.end())
      FailUsage("option 'head' = '{}'{}", choice, DidYouMean(choice, choices));
    head = head && choice != "frozen";
    reports.push_back(FindMethod(term.name).apply({g, params, options, seed}));
  }
  for (ValueId v : g.Leaves(Role::kParam))
    if (OfHead(g.value(v).name)) g.SetTrainable(v, head);
  if (g.Trainable().empty()) FailUsage("trains nothing");
  return reports;
}

}  // namespace

std::vector<PassReport> ApplyMethod(Graph& g, ParamStore& params, const Method& method,
                                    uint64_t seed) {
  try {
    return ApplyTerms(g, params, method, seed);
  } catch (const Error& e) {  // of an option or a target, whose method may be one of several
    if (e.kind != ErrorKind::kUsage) throw;
    FailUsage("method '{}': {}", ToString(method), e.what());
  }
}

bool OfHead(std::string_view name) { return name.starts_with("head.") || name.starts_with("mlm."); }

int64_t TrainableCount(const Graph& g) {
  int64_t count = 0;
  for (ValueId v : g.Trainable()) count += At(g.shape(v), {}).size();
  return count;
}

bool IsSite(const Graph& g, ValueId v) {
  const NodeId id = g.value(v).producer;
  if (!id.valid() || g.node(id).op != &kMatmul) return false;
  const Node& n = g.node(id);
  return n.in.size() == 2 && n.attrs == Attrs(MatmulAttrs{.tb = true}) &&
         g.value(n.in[1]).role == Role::kParam && g.value(n.in[1]).name == n.scope + ".weight";
}

bool ScopeMatches(const std::string& scope, const std::vector<std::string>& targets) {
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& target) {
    return GlobMatch(target, scope) || GlobMatch("*." + target, scope);
  });
}

void CheckTargets(const Graph& g, const std::vector<std::string>& targets) {
  std::set<std::string> scopes, kinds;
  for (ValueId v : g.Leaves(Role::kIntermediate)) {
    if (!IsSite(g, v)) continue;
    const std::string& scope = g.node(g.value(v).producer).scope;
    scopes.insert(scope);
    size_t dot = scope.starts_with("blocks.") ? scope.find('.', 7) : std::string::npos;
    kinds.insert(dot == std::string::npos ? scope : scope.substr(dot + 1));
  }
  for (const std::string& target : targets) {
    const bool found = std::any_of(scopes.begin(), scopes.end(),
                                   [&](const std::string& s) { return ScopeMatches(s, {target}); });
    if (found) continue;
    const std::set<std::string>& list = target.starts_with("blocks.") ? scopes : kinds;
    FailUsage("target '{}' matches no layer{}", target,
              DidYouMean(target, std::vector<std::string>(list.begin(), list.end())));
  }
}

int SetTrainable(Graph& g, const std::function<bool(const Graph&, ValueId)>& which) {
  int count = 0;
  for (ValueId v : g.Leaves(Role::kParam))
    if (which(g, v)) g.SetTrainable(v, true), ++count;
  return count;
}

bool ReadAs(const Graph& g, ValueId param, const OpDef& op, size_t index) {
  const auto& users = g.users(param);
  return std::any_of(users.begin(), users.end(), [&](NodeId n) {
    return g.node(n).op == &op && index < g.node(n).in.size() && g.node(n).in[index] == param;
  });
}

}  // namespace graft
