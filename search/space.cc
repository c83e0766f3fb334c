#include "search/space.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "peft/sites.h"

namespace graft {
namespace {

std::optional<double> ParseNumber(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

}  // namespace

BoundSpace::BoundSpace(Space space, const ModelConfig& config, const ParamStore& params)
    : space_(std::move(space)), config_(config), plain_(BuildModel(config)) {
  terms_.resize(space_.size());
  for (size_t t = 0; t < space_.size(); ++t) {
    FindPlaces(t);
    AddGenes(t);
  }
  CheckTrainsItsOwn(params);
  FindStorage(params);
  CheckSizes(params);
}

void BoundSpace::FindPlaces(size_t t) {
  const SpaceTerm& term = space_[t];
  const MethodRecord& record = FindMethod(term.fixed.name);
  if (term.options.empty() && !term.blocks) return;
  Values values;
  for (const SpaceOption& o : term.options)
    values.push_back(*std::ranges::find_if(
        o.choices, [&](const std::string& c) { return !LeavesOut(o.name, c); }));
  const auto places = [&](const std::string& option, const std::string& value) {
    const auto complete = CompleteOptions(TermAt(t, option, value, values));
    return record.sites({plain_, none_, complete, 0});
  };
  if (!record.sites) {
    if (term.blocks)
      FailUsage("space: '{}' has no places by block to choose from", term.fixed.name);
    terms_[t].places = {{"", "", ""}};
    return;
  }
  terms_[t].places = places("", "");
  if (const std::string& option = terms_[t].places.at(0).option;
      option != "targets" && option != "blocks") {
    const bool chosen = std::ranges::count(term.options, option, &SpaceOption::name) > 0;
    if (term.options.size() != 1 || !chosen)
      FailUsage("space: '{}' has choices of '{}' for each block, and no others", term.fixed.name,
                option);
  }
  if (!term.blocks) return;
  for (const std::string& choice : term.blocks->choices) {
    std::vector<bool>& active = terms_[t].active.emplace_back();
    const std::vector<MethodSite> these = places("blocks", choice);
    for (const MethodSite& place : terms_[t].places)
      active.push_back(std::ranges::count(these, place.name, &MethodSite::name) > 0);
  }
}

void BoundSpace::AddGenes(size_t t) {
  const SpaceTerm& term = space_[t];
  const auto add = [&](int64_t place, size_t option, size_t choices) {
    genes_.push_back({t, place, option, static_cast<int>(choices)});
    log10_ += std::log10(static_cast<double>(choices));
  };
  if (term.blocks) {
    terms_[t].own = genes_.size();
    add(-1, 0, term.blocks->choices.size());
  }
  for (size_t p = 0; p < terms_[t].places.size(); ++p) {
    terms_[t].first.push_back(genes_.size());
    for (size_t o = 0; o < term.options.size(); ++o)
      add(static_cast<int64_t>(p), o, term.options[o].choices.size());
  }
}

// A term of the METHOD at the place that option=value names; "" means wherever the space's term is.
MethodTerm BoundSpace::TermAt(size_t t, const std::string& option, const std::string& value,
                              const Values& values) const {
  MethodTerm term = space_[t].fixed;
  for (size_t o = 0; o < values.size(); ++o) term.options[space_[t].options[o].name] = values[o];
  if (option.empty()) return term;
  if (option != "blocks") term.options.erase("blocks");
  term.options[option] = value;
  return term;
}

namespace {

// The shape that holds the first rows and columns of both.
Extents Larger(const std::string& name, const Extents& a, const Extents& b) {
  if (a.rank != b.rank) {
    const Extents &matrix = a.rank > b.rank ? a : b, &number = a.rank > b.rank ? b : a;
    if (number.rank != 1 || number[0] != 1)
      FailUsage("space: some choices want '{}' as {}, others as {}, which cannot share storage",
                name, ToString(a), ToString(b));
    return matrix;
  }
  Extents larger = a;
  for (int i = 0; i < a.rank; ++i) larger.d[i] = std::max(a[i], b[i]);
  return larger;
}

// The largest choice, or the smallest that leaves nothing out, if all are numbers.
std::optional<std::string> Extreme(const SpaceOption& o, bool largest) {
  std::optional<std::string> extreme;
  double best = 0;
  for (const std::string& choice : o.choices) {
    const std::optional<double> number = ParseNumber(choice);
    if (!number) return {};
    if (LeavesOut(o.name, choice)) continue;
    if (!extreme || (largest ? *number > best : *number < best)) extreme = choice, best = *number;
  }
  return extreme;
}

std::string Choice(const SpaceOption& o, size_t i, bool largest) {
  return Extreme(o, largest).value_or(o.choices[std::min(i, o.choices.size() - 1)]);
}

}  // namespace

// Words take all their choices, the same one everywhere, beside the largest numbers and beside the
// smallest, which may mean the largest tensors (`groups` of repadapter). So each parameter is seen
// at its largest, as long as no two options decide on it together.
std::vector<Method> BoundSpace::Variants() const {
  size_t words = 1;
  bool numbers = false;
  for (const SpaceTerm& term : space_)
    for (const SpaceOption& o : term.options) {
      const bool number = Extreme(o, true).has_value();
      numbers |= number;
      if (!number) words = std::max(words, o.choices.size());
    }
  std::vector<Method> variants;
  for (const bool largest : {true, false})
    for (size_t i = 0; i < words && (largest || numbers); ++i) {
      Method& variant = variants.emplace_back();
      for (size_t t = 0; t < space_.size(); ++t) {
        Values values;
        for (const SpaceOption& o : space_[t].options) values.push_back(Choice(o, i, largest));
        variant.push_back(TermAt(t, "", "", values));
      }
    }
  return variants;
}

// What a path trains of the model itself, the others would have with it.
void BoundSpace::CheckTrainsItsOwn(const ParamStore& params) const {
  for (const Method& method : Variants())
    for (size_t t = 0; t < method.size(); ++t) {
      if (terms_[t].places.empty()) continue;
      Graph g = plain_;
      ParamStore scratch = params;
      ApplyMethod(g, scratch, {method[t]}, 0);
      for (ValueId v : g.Trainable())
        if (const std::string& name = g.value(v).name;
            plain_.FindLeaf(name).valid() && !OfHead(name))
          FailUsage(
              "space: '{}' trains '{}' of the model itself, which all candidates share; hint: "
              "choices are of terms that add parameters; one without braces, such as +bitfit or "
              "+ln, may train the model's",
              ToString({method[t]}), name);
    }
}

void BoundSpace::FindStorage(const ParamStore& params) {
  for (const Method& method : Variants()) {
    Graph g = plain_;
    ParamStore scratch = params;
    ApplyMethod(g, scratch, method, 0);
    for (ValueId v : g.Leaves(Role::kParam)) {
      const std::string& name = g.value(v).name;
      if (plain_.FindLeaf(name).valid()) continue;
      const Extents shape = At(g.shape(v), {});
      const auto [at, fresh] = storage_.emplace(name, shape);
      if (!fresh) at->second = Larger(name, at->second, shape);
    }
  }
}

// How many numbers of the method train, without the head.
int64_t BoundSpace::TrainedBy(const Method& method, const ParamStore& params) const {
  Graph g = plain_;
  ParamStore scratch = params;
  ApplyMethod(g, scratch, method, 0);
  int64_t trained = 0;
  for (ValueId v : g.Trainable())
    if (!OfHead(g.value(v).name)) trained += At(g.shape(v), {}).size();
  return trained;
}

// Tries every choice at one place, and checks that the sum of the sizes is that of a whole graph.
void BoundSpace::CheckSizes(const ParamStore& params) {
  Genes genes(genes_.size());
  Method fixed;
  for (size_t t = 0; t < space_.size(); ++t)
    if (terms_[t].places.empty()) fixed.push_back(space_[t].fixed);
  if (!fixed.empty()) fixed_size_ = TrainedBy(fixed, params);
  for (size_t t = 0; t < space_.size(); ++t) {
    if (terms_[t].places.empty()) continue;
    Values values;
    for (const SpaceOption& o : space_[t].options) values.push_back(Choice(o, 0, true));
    for (size_t o = 0; o < values.size(); ++o) {
      Values tried = values;
      for (const std::string& choice : space_[t].options[o].choices) {
        tried[o] = choice;
        if (!LeavesOut(space_[t].options[o].name, choice)) Size(t, 0, tried);
      }
    }
  }
  for (size_t i = 0; i < genes.size(); ++i) genes[i] = genes_[i].choices - 1;
  const int64_t trained = TrainedBy(MethodOf(genes), params), sum = Parameters(genes);
  if (trained != sum)
    FailUsage(
        "space: '{}' trains {} numbers, and its places {}; what trains outside of its places "
        "cannot be chosen with them",
        ToString(MethodOf(genes)), trained, sum);
}

bool BoundSpace::IsActive(const Genes& genes, size_t t, size_t place) const {
  const Term& term = terms_[t];
  return !term.own || term.active[genes[*term.own]][place];
}

// Returns nothing where the place is left out.
std::optional<BoundSpace::Values> BoundSpace::ValuesOf(const Genes& genes, size_t t,
                                                       size_t place) const {
  if (!IsActive(genes, t, place)) return {};
  Values values;
  for (size_t o = 0; o < space_[t].options.size(); ++o) {
    const SpaceOption& option = space_[t].options[o];
    values.push_back(option.choices[genes[terms_[t].first[place] + o]]);
    if (LeavesOut(option.name, values.back())) return {};
  }
  if (!values.empty() && Size(t, place, values) == 0) return {};
  return values;
}

Genes BoundSpace::Canonical(Genes genes) const {
  for (size_t t = 0; t < terms_.size(); ++t)
    for (size_t p = 0; p < terms_[t].places.size(); ++p) {
      if (ValuesOf(genes, t, p)) continue;
      // There may be several ways to leave the place out; the first one stands for all.
      const std::vector<SpaceOption>& options = space_[t].options;
      const auto first = genes.begin() + static_cast<ptrdiff_t>(terms_[t].first[p]);
      if (!IsActive(genes, t, p)) std::fill_n(first, options.size(), 0);
      for (size_t o = 0; o < options.size() && IsActive(genes, t, p); ++o) {
        const auto zero = std::ranges::find(options[o].choices, "0");
        if (!LeavesOut(options[o].name, "0") || zero == options[o].choices.end()) continue;
        std::fill_n(first, options.size(), 0);
        first[static_cast<ptrdiff_t>(o)] = static_cast<int>(zero - options[o].choices.begin());
        break;
      }
    }
  return genes;
}

bool BoundSpace::Listed(size_t t) const {
  const std::vector<MethodSite>& places = terms_[t].places;
  return !places.empty() && !places[0].option.empty() && places[0].option != "targets" &&
         places[0].option != "blocks";
}

// Writes a number for each block, such as "0|5|0|0".
std::string BoundSpace::ListOf(const std::map<std::string, std::string>& by_place) const {
  std::string list;
  for (const BlockSite& block : FindBlocks(plain_)) {
    const auto it = by_place.find(std::to_string(block.number));
    list += (list.empty() ? "" : "|") + (it == by_place.end() ? "0" : it->second);
  }
  return list;
}

Method BoundSpace::MethodOf(const Genes& genes) const {
  Method method;
  for (size_t t = 0; t < terms_.size(); ++t) {
    if (terms_[t].places.empty()) {
      method.push_back(space_[t].fixed);
      continue;
    }
    std::vector<std::pair<Values, MethodSite>> groups;
    for (size_t p = 0; p < terms_[t].places.size(); ++p) {
      const std::optional<Values> values = ValuesOf(genes, t, p);
      if (!values) continue;
      const MethodSite& place = terms_[t].places[p];
      const auto same = std::ranges::find(groups, *values, &std::pair<Values, MethodSite>::first);
      if (same == groups.end())
        groups.emplace_back(*values, place);
      else
        same->second.value += "|" + place.value;
    }
    if (Listed(t)) {
      std::map<std::string, std::string> by_place;
      for (size_t p = 0; p < terms_[t].places.size(); ++p)
        if (const std::optional<Values> values = ValuesOf(genes, t, p))
          by_place[terms_[t].places[p].value] = values->front();
      if (!by_place.empty())
        method.push_back(TermAt(t, terms_[t].places[0].option, ListOf(by_place), groups[0].first));
      continue;
    }
    for (const auto& [values, place] : groups)
      method.push_back(TermAt(t, place.option, place.value, values));
  }
  if (method.empty()) method.push_back({"linear", {}});
  return method;
}

int64_t BoundSpace::Size(size_t t, size_t place, const Values& values) const {
  const auto [at, fresh] = sizes_.emplace(std::pair(std::pair(t, place), values), 0);
  if (!fresh) return at->second;
  try {
    const MethodSite& site = terms_[t].places[place];
    const MethodTerm term = TermAt(
        t, site.option, Listed(t) ? ListOf({{site.value, values.front()}}) : site.value, values);
    const auto complete = CompleteOptions(term);
    return at->second = FindMethod(term.name).count({plain_, none_, complete, 0});
  } catch (const Error& e) {
    FailUsage("space: '{}': {}", space_[t].fixed.name, e.what());
  }
}

int64_t BoundSpace::ParametersAt(const Genes& genes, size_t t, size_t place) const {
  const std::optional<Values> values = ValuesOf(genes, t, place);
  return values ? Size(t, place, *values) : 0;
}

int64_t BoundSpace::Parameters(const Genes& genes) const {
  int64_t sum = fixed_size_;
  for (size_t t = 0; t < terms_.size(); ++t)
    for (size_t p = 0; p < terms_[t].places.size(); ++p) sum += ParametersAt(genes, t, p);
  return sum;
}

// Sizes are sums of products of options, so the smallest is found by giving one option after the
// other its smallest choice until nothing gets smaller.
int64_t BoundSpace::SmallestAt(size_t t, size_t place) const {
  const std::vector<SpaceOption>& options = space_[t].options;
  Values values;
  for (const SpaceOption& o : options) {
    if (std::ranges::any_of(o.choices, [&](const auto& c) { return LeavesOut(o.name, c); }))
      return 0;
    values.push_back(o.choices[0]);
  }
  int64_t smallest = Size(t, place, values);
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (size_t o = 0; o < options.size(); ++o)
      for (const std::string& choice : options[o].choices) {
        Values tried = values;
        tried[o] = choice;
        if (const int64_t size = Size(t, place, tried); size < smallest)
          smallest = size, values = tried, smaller = true;
      }
  }
  return smallest;
}

int64_t BoundSpace::SmallestParameters() const {
  int64_t sum = fixed_size_;
  for (size_t t = 0; t < terms_.size(); ++t) {
    std::vector<int64_t> sizes;
    for (size_t p = 0; p < terms_[t].places.size(); ++p) sizes.push_back(SmallestAt(t, p));
    int64_t least = -1;
    for (size_t choice = 0; choice < std::max<size_t>(terms_[t].active.size(), 1); ++choice) {
      int64_t with = 0;
      for (size_t p = 0; p < sizes.size(); ++p)
        if (!terms_[t].own || terms_[t].active[choice][p]) with += sizes[p];
      least = least < 0 ? with : std::min(least, with);
    }
    sum += std::max<int64_t>(least, 0);
  }
  return sum;
}

std::string BoundSpace::ChoiceText(const Genes& genes, size_t t, size_t place) const {
  const std::optional<Values> values = ValuesOf(genes, t, place);
  if (!values) return "-";
  if (values->size() == 1) return values->front();
  std::string text;
  for (size_t o = 0; o < values->size(); ++o)
    text += fmt::format("{}{}={}", o ? " " : "", space_[t].options[o].name, (*values)[o]);
  return text.empty() ? "there" : text;
}

}  // namespace graft
