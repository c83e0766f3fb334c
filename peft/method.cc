#include "peft/method.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "ops/ops.h"
#include "runtime/verify.h"
#include "runtime/words.h"

namespace graft {
namespace {

// The first of `marks` outside of double quotes, or the text's size. A quoted value holds what else
// would end it: a path such as "runs (old)/a,b".
size_t FindUnquoted(std::string_view text, std::string_view marks, size_t from = 0) {
  bool quoted = false;
  for (size_t i = from; i < text.size(); ++i) {
    quoted ^= text[i] == '"';
    if (!quoted && marks.find(text[i]) != marks.npos) return i;
  }
  return text.size();
}

std::string Unquoted(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return std::string(value);
  return std::string(value.substr(1, value.size() - 2));
}

std::string Quoted(const MethodTerm& term, const std::string& option, const std::string& value) {
  const bool outer = !value.empty() && (value.front() == ' ' || value.back() == ' ');
  if (value.find('"') != value.npos)
    FailUsage("method '{}': option '{}': a value with double quotes cannot be written: {}",
              term.name, option, value);
  return outer || value.find_first_of("(),+") != value.npos ? '"' + value + '"' : value;
}

// Parses "key=value" pairs separated by commas.
std::map<std::string, std::string> ParseOptions(std::string_view text, const MethodRecord& record) {
  std::vector<std::string> known{"head"};
  for (const MethodOption& o : record.options()) known.emplace_back(o.name);
  std::map<std::string, std::string> options;
  while (!Trim(text).empty()) {
    const size_t comma = FindUnquoted(text, ",");
    const std::string_view pair = Trim(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos)
      FailUsage("method '{}': expected option=value, found '{}'", record.name, pair);
    const std::string key(Trim(pair.substr(0, equals))),
        value = Unquoted(Trim(pair.substr(equals + 1)));
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
  const size_t close = FindUnquoted(text, ")", open);
  if (close == text.size()) FailUsage("method '{}': the options do not end with ')'", text);
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
  for (size_t i = FindUnquoted(text, "()+"); begin <= text.size();
       i = FindUnquoted(text, "()+", i + 1)) {
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
      options += (options.empty() ? "" : ",") + key + "=" + Quoted(term, key, value);
    text += fmt::format("{}{}{}", text.empty() ? "" : "+", term.name,
                        options.empty() ? "" : "(" + options + ")");
  }
  return text;
}

std::map<std::string, std::string> CompleteOptions(const MethodTerm& term) {
  std::map<std::string, std::string> options;
  for (const MethodOption& o : FindMethod(term.name).options()) options.emplace(o.name, o.value);
  options.emplace("head", "trained");
  for (const auto& [key, value] : term.options) options[key] = value;
  return options;
}

const MethodContext MethodArgs::kNoContext;

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

std::string MethodArgs::Choice(std::string_view option,
                               const std::vector<std::string>& choices) const {
  const std::string& text = Text(option);
  if (std::ranges::find(choices, text) != choices.end()) return text;
  const std::string near = Nearest(text, choices);
  FailUsage("option '{}' = '{}'{}; known: {}", option, text,
            near.empty() ? "" : fmt::format("; did you mean '{}'?", near),
            fmt::join(choices, ", "));
}

PassReport StartReport(const MethodArgs& a, std::string name) {
  return {std::move(name), 0, a.g.live_nodes(), a.g.live_nodes(), 0};
}

PassReport FinishReport(const MethodArgs& a, PassReport report) {
  if (report.rewrites == 0) FailUsage("'{}' finds no place in this model", report.name);
  a.g.EraseDead();
  VerifyStep(a.g);
  report.nodes_after = a.g.live_nodes();
  return report;
}

namespace {

// The terms by phase, and within a phase as they are written.
Method InOrder(const Method& method) {
  for (size_t i = 0; i < method.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (method[i].name == method[k].name && !FindMethod(method[i].name).repeats)
        FailUsage("two terms '{}' would both be in the same places", method[i].name);
  Method ordered = method;
  const auto phase = [](const MethodTerm& t) { return FindMethod(t.name).phase; };
  std::ranges::stable_sort(ordered, {}, phase);
  return ordered;
}

// Refuses several terms of one method for the same block, as a path of a space may have them.
// (Layers are checked where they get branches.)
void CheckBlocksApart(Graph& g, ParamStore& params, const Method& method, uint64_t seed) {
  std::set<std::pair<std::string, std::string>> seen;
  for (const MethodTerm& term : method) {
    const MethodRecord& record = FindMethod(term.name);
    if (!record.sites || std::ranges::count(method, term.name, &MethodTerm::name) < 2) continue;
    const std::map<std::string, std::string> options = CompleteOptions(term);
    for (const MethodSite& site : record.sites({g, params, options, seed}))
      if (site.option == "blocks" && !seen.emplace(term.name, site.name).second)
        FailUsage("two terms '{}' would both branch off {}", term.name, site.name);
  }
}

std::vector<PassReport> ApplyTerms(Graph& g, ParamStore& params, const Method& method,
                                   uint64_t seed, const MethodContext& context) {
  SearchedTerm(method);
  for (ValueId v : g.Leaves(Role::kParam)) g.SetTrainable(v, false);
  if (!context.storage) CheckBlocksApart(g, params, method, seed);
  std::vector<PassReport> reports;
  std::set<std::string> of_head;  // and not what a method adds to it
  for (const ValueId v : g.Leaves(Role::kParam))
    if (OfHead(g.value(v).name)) of_head.insert(g.value(v).name);
  std::map<std::string, std::string_view> brought;
  MethodContext own = context;
  const Method ordered = InOrder(method);
  std::optional<ParamStore> unedited;
  if (ordered.size() && FindMethod(ordered[0].name).phase == MethodPhase::kWeights)
    own.unedited = &unedited.emplace(params);
  if (!context.storage) own.brought = &brought;
  bool head = true;
  for (const MethodTerm& term : ordered) {
    const auto before = static_cast<uint32_t>(g.num_values());
    own.term = term.name;
    const std::map<std::string, std::string> options = CompleteOptions(term);
    for (const auto& [key, value] : term.options)
      if (value.starts_with('{'))
        FailUsage(
            "option '{}' = '{}': choices in braces make a search space; hint: graft search --space",
            key, value);
    const MethodArgs args{g, params, options, seed, own};
    head = head && args.Choice("head", {"trained", "frozen"}) != "frozen";
    reports.push_back(FindMethod(term.name).apply(args));
    for (uint32_t i = before; own.brought && i < g.num_values(); ++i)
      if (g.value({i}).role == Role::kParam) brought.emplace(g.value({i}).name, own.term);
  }
  for (ValueId v : g.Leaves(Role::kParam))
    if (of_head.contains(g.value(v).name)) g.SetTrainable(v, head);
  if (g.Trainable().empty()) FailUsage("trains nothing");
  return reports;
}

}  // namespace

std::vector<PassReport> ApplyMethod(Graph& g, ParamStore& params, const Method& method,
                                    uint64_t seed, const MethodContext& context) {
  try {
    return ApplyTerms(g, params, method, seed, context);
  } catch (const Error& e) {  // of an option or a target, whose method may be one of several
    if (e.kind != ErrorKind::kUsage) throw;
    FailUsage("method '{}': {}", ToString(method), e.what());
  }
}

GradientTransform GradientTransformOf(const Method& method, uint64_t seed) {
  Method transforming;
  for (const MethodTerm& term : method)
    if (FindMethod(term.name).gradient) transforming.push_back(term);
  if (transforming.empty()) return {};
  return [transforming, seed](Graph& g, ParamStore& params, const std::string& name,
                              ValueId gradient, ValueId rng) {
    for (const MethodTerm& term : transforming) {
      const std::map<std::string, std::string> options = CompleteOptions(term);
      gradient = FindMethod(term.name).gradient({g, params, options, seed}, {name, gradient, rng});
    }
    return gradient;
  };
}

const MethodTerm* SearchedTerm(const Method& method) {
  const auto searched =
      std::ranges::find_if(method, [](const MethodTerm& t) { return FindMethod(t.name).searched; });
  if (searched == method.end()) return nullptr;
  for (const MethodTerm& term : method)
    if (const MethodRecord& record = FindMethod(term.name);
        &term != &*searched && !record.trains_nothing && record.phase != MethodPhase::kQuantise &&
        record.phase != MethodPhase::kWeights)
      FailUsage("'{}' is found without gradients, so '{}' cannot train beside it", searched->name,
                term.name);
  return &*searched;
}

int64_t PositionsTaken(const Method& method) {
  int64_t taken = 0;
  Graph g;
  ParamStore params;
  for (const MethodTerm& term : method) {
    const std::map<std::string, std::string> options = CompleteOptions(term);
    if (const auto positions = FindMethod(term.name).positions)
      taken += positions({g, params, options, 0});
  }
  return taken;
}

std::vector<std::string> OwnedNames(const Graph& g, const Method& method) {
  std::vector<std::string> names;
  for (ValueId v : g.Leaves(Role::kParam))
    for (const MethodTerm& term : method)
      if (const std::string_view owns = FindMethod(term.name).owns;
          !owns.empty() && !g.value(v).trainable && g.value(v).name.starts_with(owns))
        names.push_back(g.value(v).name);
  return names;
}

bool EditOnce(ParamStore& params, const std::string& name) {
  const std::string marker = "edited." + name;
  if (params.Has(marker)) return false;
  params.Allocate(marker, {1});
  return true;
}

bool OfHead(std::string_view name) { return name.starts_with("head.") || name.starts_with("mlm."); }

Method ReducedMethod(Method method) {
  for (MethodTerm& term : method)
    if (const auto form = FindMethod(term.name).reduced) term = form(term);
  return method;
}

int64_t TrainableCount(const Graph& g) {
  int64_t count = 0;
  for (ValueId v : g.Trainable()) count += At(g.shape(v), {}).size();
  return count;
}

namespace {

// Codes and scales of quantised weights cannot train, as their operators have no gradient.
bool CanTrain(const Graph& g, ValueId v) {
  return g.type(v).dtype == DType::kF32 &&
         std::ranges::all_of(g.users(v), [&](NodeId n) { return g.node(n).op->gradient; });
}

}  // namespace

int SetTrainable(Graph& g, const std::function<bool(const Graph&, ValueId)>& which) {
  int count = 0;
  for (ValueId v : g.Leaves(Role::kParam))
    if (CanTrain(g, v) && which(g, v)) g.SetTrainable(v, true), ++count;
  return count;
}

}  // namespace graft
