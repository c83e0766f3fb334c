#include "tools/lib/method_table.h"

#include <algorithm>
#include <cctype>

#include "tools/lib/report.h"
#include "train/run_config.h"

namespace graft {
namespace {

struct Shown {
  const MethodRecord* record;
  MethodTerm term;
  MethodFacts facts;
};

Shown Show(const MethodTerm& term, const MethodQuery& query) {
  return {&FindMethod(term.name), term,
          query.loaded ? FactsOn(term, query.model, *query.loaded) : FactsOnSmallModel(term)};
}

std::vector<Shown> Chosen(const MethodQuery& query) {
  std::vector<Shown> shown;
  if (query.term.empty()) {
    for (const MethodRecord* record : AllMethods())
      shown.push_back(Show({std::string(record->name), {}}, query));
    return shown;
  }
  const Method method = ParseMethod(query.term);
  if (method.size() != 1) FailUsage("--methods shows one method, found '{}'", query.term);
  shown.push_back(Show(method[0], query));
  return shown;
}

const char* FoldsWord(Folds folds) {
  return folds == Folds::kYes ? "yes" : folds == Folds::kPart ? "in part" : "no";
}

struct PhaseWords {
  const char *name, *order;
};

PhaseWords WordsOf(MethodPhase phase) {
  switch (phase) {
    case MethodPhase::kWeights:
      return {"weights", "first, before other methods"};
    case MethodPhase::kQuantise:
      return {"quantise", "behind edits of weights, before all others"};
    case MethodPhase::kInputs:
      return {"inputs", "before changes of layers, branches and tokens of other methods"};
    case MethodPhase::kLayers:
      return {"layers", "before branches and tokens of other methods"};
    case MethodPhase::kBranches:
      return {"branches", "behind changes of layers, before tokens"};
    case MethodPhase::kTokens:
      break;
  }
  return {"tokens", "last, behind changes of layers and branches"};
}

// The term that is left after training, or "" if it stays as it is.
std::string ReducedOf(const Shown& s) {
  if (!s.record->reduced) return "";
  const MethodTerm reduced = s.record->reduced(s.term);
  return reduced == s.term ? "" : ToString({reduced});
}

// The method to type: the term, with a word in capitals for an option that has no default and is
// missing; beside another method if it trains nothing itself.
Method RecipeMethod(const Shown& s) {
  Method method{s.term};
  for (const MethodOption& o : s.record->options()) {
    const std::string name(o.name);
    if (o.value.empty() && s.facts.problem.find("'" + name + "'") != std::string::npos) {
      std::string& value = method[0].options[name];
      std::ranges::transform(name, std::back_inserter(value),
                             [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    }
  }
  const MethodFacts& f = s.facts;
  const bool changes = f.edits || !f.change.empty();
  if (s.record->phase == MethodPhase::kWeights || (changes && f.trainable == 0))
    method.push_back({"lora", {{"r", "8"}}});
  return method;
}

// Commands that can be typed as they are; for a method that only texts have, with data of texts.
std::vector<std::string> RecipeOf(const Shown& s) {
  const Method method = RecipeMethod(s);
  if (s.record->searched)
    return {
        fmt::format("graft train --model bert-base-uncased/ --data sst2/ --limit 32 --head mlm "
                    "--template \"{{text}} It was [MASK].\" --words \"terrible|great\" "
                    "--method \"{}\" --out run",
                    ToString(method))};
  const std::string how = fmt::format("--method \"{}\" --lr {:g} --epochs 3 --out run",
                                      ToString(method), DefaultLearningRate(method, s.facts.text));
  if (s.facts.text) return {"graft train --model bert-base-uncased/ --data sst2/ " + how};
  return {"graft data make shapes --size 32 --out shapes",
          "graft train --model init:vit_nano_patch8_32 --data shapes " + how};
}

// The first words of a text that is too long.
std::string Shortened(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  const size_t blank = text.rfind(' ', most - 3);
  return std::string(text.substr(0, blank == std::string_view::npos ? most - 3 : blank)) + "...";
}

std::string CountText(const MethodFacts& facts) {
  return facts.trainable ? Grouped(*facts.trainable) : "-";
}

std::string TableText(const std::vector<Shown>& methods, const MethodQuery& query) {
  TextTable table(query.loaded ? std::vector<size_t>{1} : std::vector<size_t>{});
  const auto row = [&](std::vector<std::string> cells, const std::string& count) {
    if (query.loaded) cells.insert(cells.begin() + 1, count);
    table.Add(std::move(cells));
  };
  row({"method", "trains", "attaches to", "equation", "folds"}, "numbers");
  std::string problems;
  for (const Shown& s : methods) {
    const MethodRecord& r = *s.record;
    const std::string sites = fmt::format("{}", fmt::join(s.facts.sites, " "));
    row({std::string(r.name), Shortened(r.formula, 40), Shortened(sites.empty() ? "-" : sites, 28),
         Shortened(r.equation, 44), fmt::format("{}: {}", FoldsWord(r.folds), r.why)},
        CountText(s.facts));
    if (!s.facts.problem.empty()) problems += "\n" + s.facts.problem;
  }
  std::string text = table.Lines("") +
                     "\n\nD: width, M: width of the MLP, L: blocks, P: tokens, K: classes. The "
                     "head's (D + 1) K train with every method.\n";
  if (query.loaded) text += fmt::format("numbers: of {}, without the head.\n", query.model);
  text +=
      "Methods add up: \"lora(r=8)+bitfit\". graft inspect --methods NAME shows options, graph and "
      "a recipe.";
  return text + problems;
}

std::string RatesText(const LearningRates& rates) {
  if (rates.images == rates.texts) return fmt::format("{:g}", rates.texts);
  return fmt::format("{:g} for images, {:g} for texts,", rates.images, rates.texts);
}

std::string PageText(const Shown& s) {
  const MethodRecord& r = *s.record;
  const MethodFacts& f = s.facts;
  TextTable table;
  table.Add({"equation", std::string(r.equation)});
  table.Add({"trains", std::string(r.formula)});
  if (f.trainable)
    table.Add({"", fmt::format("{} of {} with {}, without the head", Grouped(*f.trainable), f.model,
                               ToString({s.term}))});
  if (!f.sites.empty()) table.Add({"attaches to", fmt::format("{}", fmt::join(f.sites, ", "))});
  table.Add({"folds", fmt::format("{}: {}", FoldsWord(r.folds), r.why)});
  if (const std::string reduced = ReducedOf(s); !reduced.empty())
    table.Add({"after training", reduced + ", with what it computes from parameters stored"});
  table.Add({"order", fmt::format("{}{}", WordsOf(r.phase).order,
                                  r.repeats ? "; a recipe may have several" : "")});
  table.Add({"rate", r.searched ? "none: a search finds it by the loss alone"
                                : RatesText(r.learning_rate) + " unless --lr says another"});
  if (!r.peft.empty()) table.Add({"in peft", std::string(r.peft)});
  table.Add({"source", std::string(r.source)});
  std::string text = fmt::format("{}  {}\n{}\n\noptions\n", r.name, r.summary, table.Lines("  "));
  TextTable options;
  const auto given = CompleteOptions(s.term);
  for (const MethodOption& o : r.options())
    options.Add({fmt::format("{}={}", o.name, given.at(std::string(o.name))),
                 given.at(std::string(o.name)) == o.value
                     ? std::string(o.help)
                     : fmt::format("{} (default {})", o.help, o.value)});
  const std::vector<MethodOption> own = r.options();
  if (std::ranges::find(own, "head", &MethodOption::name) == own.end())
    options.Add({"head=" + given.at("head"), "or frozen"});
  text += options.Lines("  ") + "\n\n";
  const std::string change = !f.change.empty() ? f.change
                             : f.edits         ? "  no node changes, values of weights do\n"
                                               : "  nothing changes but what trains\n";
  text += f.problem.empty()
              ? fmt::format("graph of {}, one block (- before, + after)\n{}", f.model, change)
              : fmt::format("graph\n  none: {}\n", f.problem);
  text += "\nrecipe";
  for (const std::string& command : RecipeOf(s)) text += "\n  " + command;
  return text;
}

}  // namespace

nlohmann::json MethodsJson(const MethodQuery& query) {
  using nlohmann::json;
  json methods = json::array();
  for (const Shown& s : Chosen(query)) {
    const MethodRecord& r = *s.record;
    json options = json::array();
    for (const MethodOption& o : r.options())
      options.push_back({{"name", o.name}, {"default", o.value}, {"help", o.help}});
    const std::string reduced = ReducedOf(s);
    methods.push_back(
        {{"name", r.name},
         {"summary", r.summary},
         {"equation", r.equation},
         {"count", r.formula},
         {"source", r.source},
         {"options", options},
         {"foldable", r.folds == Folds::kYes},
         {"folds", FoldsWord(r.folds)},
         {"why", r.why},
         {"learning_rate", r.learning_rate.Of(s.facts.text)},
         {"learning_rates", {{"images", r.learning_rate.images}, {"texts", r.learning_rate.texts}}},
         {"reduced", reduced.empty() ? json() : json(reduced)},
         {"peft", r.peft.empty() ? json() : json(r.peft)},
         {"phase", WordsOf(r.phase).name},
         {"repeats", r.repeats},
         {"recipe", RecipeOf(s)},
         {"model", s.facts.model},
         {"trainable", s.facts.trainable ? json(*s.facts.trainable) : json()},
         {"sites", s.facts.sites},
         {"edits", s.facts.edits},
         {"change", s.facts.change},
         {"problem", s.facts.problem.empty() ? json() : json(s.facts.problem)}});
  }
  return {{"methods", methods}};
}

std::string MethodsText(const MethodQuery& query) {
  const std::vector<Shown> methods = Chosen(query);
  return query.term.empty() ? TableText(methods, query) : PageText(methods[0]);
}

}  // namespace graft
