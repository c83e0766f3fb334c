#include "tools/reports/search_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "search/candidates.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"
#include "tools/reports/charts.h"

namespace graft {
namespace {

constexpr uint64_t kMostReportBytes = uint64_t{1} << 24;

double Percentage(const Evaluated& e) { return 100 * e.fitness.accuracy; }

const char* KindOf(const SearchData& s) {
  return s.search.evolution.random ? "random" : "evolution";
}

bool OfOneSpace(const SearchData& a, const SearchData& b) {
  return a.search.space == b.search.space && a.model == b.model && a.data == b.data &&
         a.val_split == b.val_split;
}

// The text of a file; "" if it is not there.
std::string TextOf(const std::string& file) {
  return std::filesystem::exists(file) ? ReadFile(file, kMostReportBytes) : "";
}

std::optional<Evaluated> CandidateOf(const nlohmann::json& line) {
  Evaluated e;
  try {
    e.genes = line.at("genes").get<Genes>();
    e.parameters = line.at("parameters").get<int64_t>();
    e.generation = line.at("generation").get<int64_t>();
    e.origin = line.at("origin").get<std::string>();
    e.fitness = {line.at("accuracy").get<double>(), line.at("loss").get<double>()};
  } catch (const nlohmann::json::exception&) {
    return {};
  }
  return e;
}

// For each i, the largest accuracy of the first i + 1 candidates.
std::vector<double> BestSoFar(const std::vector<Evaluated>& candidates) {
  std::vector<double> best;
  for (const Evaluated& e : candidates)
    best.push_back(best.empty() ? e.fitness.accuracy : std::max(best.back(), e.fitness.accuracy));
  return best;
}

// --- searches of one space together

// Draws every candidate, and the front of those that no other beats, with one colour for each
// search.
nlohmann::json CandidatesChart(const std::vector<const SearchData*>& group) {
  nlohmann::json sets = nlohmann::json::array();
  const auto points = [](const std::vector<Evaluated>& candidates) {
    nlohmann::json data = nlohmann::json::array();
    for (const Evaluated& e : candidates)
      data.push_back({{"x", e.parameters}, {"y", Percentage(e)}});
    return data;
  };
  double least = INFINITY, most = 0;
  for (size_t i = 0; i < group.size(); ++i) {
    const std::vector<Evaluated>& all = group[i]->candidates;
    for (const Evaluated& e : all) {
      const double parameters = static_cast<double>(e.parameters);
      least = std::min(least, parameters), most = std::max(most, parameters);
    }
    const std::string name = group.size() > 1
                                 ? fmt::format("{} ({})", group[i]->directory, KindOf(*group[i]))
                                 : "candidates";
    if (all.empty()) continue;
    sets.push_back({{"label", name}, {"data", points(all)}, {"tone", i}, {"pointRadius", 3}});
    sets.push_back({{"label", name + ", front"},
                    {"data", points(ParetoFront(all))},
                    {"tone", i},
                    {"pointRadius", 5},
                    {"showLine", true}});
  }
  return ScatterChart("accuracy over numbers that train besides the head", sets,
                      Axis("trained numbers", least > 0 && most > 20 * least), Axis("%"));
}

nlohmann::json BestChart(const std::vector<const SearchData*>& group) {
  nlohmann::json sets = nlohmann::json::array();
  for (size_t i = 0; i < group.size(); ++i) {
    nlohmann::json data = nlohmann::json::array();
    const std::vector<double> best = BestSoFar(group[i]->candidates);
    for (size_t k = 0; k < best.size(); ++k) data.push_back({{"x", k + 1}, {"y", 100 * best[k]}});
    if (data.empty()) continue;
    sets.push_back({{"label", group.size() > 1 ? group[i]->directory : "best so far"},
                    {"data", data},
                    {"tone", i},
                    {"showLine", true},
                    {"stepped", true},
                    {"pointRadius", 0}});
  }
  return ScatterChart("the best so far", sets, Axis("candidates measured"), Axis("%"));
}

void AddComparison(const std::vector<const SearchData*>& group, Page* page) {
  page->Heading("Searches of one space");
  page->Facts({{"space", group[0]->search.space},
               {"model", group[0]->model},
               {"data", fmt::format("{}, measured on '{}'", group[0]->data, group[0]->val_split)}});
  HtmlTable table{{"search", "kind", "candidates", "best accuracy, %", "loss of it",
                   "its trained numbers", "mean accuracy, %"},
                  {false, false, true, true, true, true, true}};
  for (const SearchData* s : group) {
    if (s->candidates.empty()) {
      table.rows.push_back(
          {{s->directory}, {KindOf(*s)}, CountCell(0), {"-"}, {"-"}, {"-"}, {"-"}});
      continue;
    }
    const Evaluated& best = s->candidates[BestOf(s->candidates)];
    double sum = 0;
    for (const Evaluated& e : s->candidates) sum += e.fitness.accuracy;
    table.rows.push_back({{s->directory},
                          {KindOf(*s)},
                          CountCell(std::ssize(s->candidates)),
                          ShareCell(best.fitness.accuracy),
                          NumberCell(best.fitness.loss, fmt::format("{:.4f}", best.fitness.loss)),
                          CountCell(best.parameters),
                          ShareCell(sum / static_cast<double>(s->candidates.size()))});
  }
  page->Table(table);
}

void AddCharts(const std::vector<const SearchData*>& group, Page* page) {
  page->BeginGrid();
  for (const nlohmann::json& chart : {CandidatesChart(group), BestChart(group)})
    if (!chart.is_null()) page->Chart(chart);
  page->EndGrid();
}

// --- one search

HtmlTable GenerationsTable(const SearchData& s) {
  HtmlTable table{{"generation", "candidates", "best, %", "mean, %", "best so far, %",
                   "trained numbers of its best", "mean trained numbers"},
                  {true, true, true, true, true, true, true}};
  std::map<int64_t, std::vector<Evaluated>> generations;
  for (const Evaluated& e : s.candidates) generations[e.generation].push_back(e);
  double so_far = 0;
  for (const auto& [generation, all] : generations) {
    const Evaluated& best = all[BestOf(all)];
    double accuracy = 0, parameters = 0;
    for (const Evaluated& e : all)
      accuracy += e.fitness.accuracy, parameters += static_cast<double>(e.parameters);
    const double n = static_cast<double>(all.size());
    so_far = std::max(so_far, best.fitness.accuracy);
    table.rows.push_back({CountCell(generation), CountCell(std::ssize(all)),
                          ShareCell(best.fitness.accuracy), ShareCell(accuracy / n),
                          ShareCell(so_far), CountCell(best.parameters),
                          NumberCell(parameters / n, Grouped(std::llround(parameters / n)))});
  }
  return table;
}

HtmlTable CandidatesTable(const SearchData& s) {
  HtmlTable table{
      {"number", "generation", "origin", "trained numbers", "accuracy, %", "loss", "front"},
      {true, true, false, true, true, true, false}};
  const std::vector<Evaluated> front = ParetoFront(s.candidates);
  const size_t best = s.candidates.empty() ? 0 : BestOf(s.candidates);
  for (size_t i = 0; i < s.candidates.size(); ++i) {
    const Evaluated& e = s.candidates[i];
    const bool in_front = std::ranges::count(front, e.genes, &Evaluated::genes) > 0;
    HtmlCell accuracy = ShareCell(e.fitness.accuracy);
    accuracy.best = i == best;
    table.rows.push_back({CountCell(static_cast<int64_t>(i + 1)),
                          CountCell(e.generation),
                          {e.origin},
                          CountCell(e.parameters),
                          accuracy,
                          NumberCell(e.fitness.loss, fmt::format("{:.4f}", e.fitness.loss)),
                          {in_front ? "front" : ""}});
  }
  return table;
}

void AddSupernet(const SearchData& s, Page* page) {
  if (s.epochs.empty()) return page->Text("No epoch of the supernet is finished yet.", "soft");
  nlohmann::json labels = nlohmann::json::array(), losses = nlohmann::json::array();
  HtmlTable table{{"epoch", "step", "train loss"}, {true, true, true}};
  for (const nlohmann::json& line : s.epochs) {
    const auto number = [&](const char* key) {
      const auto it = line.find(key);
      return it != line.end() && it->is_number() ? it->get<double>() : NAN;
    };
    const double loss = number("train_loss");
    labels.push_back(line.value("epoch", nlohmann::json()));
    losses.push_back(std::isnan(loss) ? nlohmann::json() : nlohmann::json(loss));
    table.rows.push_back({NumberCell(number("epoch"), fmt::format("{}", number("epoch"))),
                          NumberCell(number("step"), fmt::format("{}", number("step"))),
                          NumberCell(loss, fmt::format("{:.6g}", loss))});
  }
  page->Heading("The supernet", 3);
  const nlohmann::json sets{{{"label", "train_loss"}, {"data", losses}}};
  page->BeginGrid();
  page->Chart(LabelledChart("line", "loss of the supernet, each step on another path", labels, sets,
                            Axis("epoch"), Axis("")),
              true);
  page->EndGrid();
  page->BeginDetails("Epochs of the supernet");
  page->Table(table);
  page->EndDetails();
}

void AddBest(const SearchData& s, Page* page) {
  const Evaluated& best = s.candidates[BestOf(s.candidates)];
  page->Heading("The best candidate", 3);
  page->Facts({{"accuracy on " + s.val_split, Percent(best.fitness.accuracy)},
               {"loss", fmt::format("{:.4f}", best.fitness.loss)},
               {"numbers that train besides the head", Grouped(best.parameters)},
               {"found", fmt::format("generation {}, {}", best.generation, best.origin)},
               {"method", s.method}});
  if (s.method.empty()) return;
  if (!s.choices_svg.empty()) page->Picture(s.choices_svg, "the choices at each place");
  if (s.choices_text.empty()) return;
  page->BeginDetails("The choices as text");
  page->Quote(s.choices_text);
  page->EndDetails();
}

std::string SizeText(const EvolutionOptions& o) {
  std::string text =
      fmt::format("{} candidates in each of {} generations", o.population, 1 + o.generations);
  if (!o.random)
    text += fmt::format("; {} mutants and {} crossovers of the {} best", o.mutations, o.crossovers,
                        o.top);
  if (o.max_parameters > 0)
    text += fmt::format("; at most {} trained numbers", Grouped(o.max_parameters));
  return text;
}

void AddSettings(const SearchData& s, bool alone, Page* page) {
  const auto time = [](double seconds) {
    return seconds >= 0 && seconds < 1e15 ? DurationText(seconds) : "";
  };
  page->Facts({{"space", alone ? s.search.space : ""},
               {"model", alone ? s.model : ""},
               {"data", alone ? fmt::format("{}, measured on '{}'", s.data, s.val_split) : ""},
               {"kind", KindOf(s)},
               {"size", SizeText(s.search.evolution)},
               {"seed", fmt::format("{}", s.search.evolution.seed)},
               {"time of the supernet", time(s.supernet_seconds)},
               {"time of the candidates", time(s.candidate_seconds)}});
}

}  // namespace

bool IsSearch(const std::string& directory) {
  return std::filesystem::exists(directory + "/" + kSearchFile);
}

SearchData ReadSearch(const std::string& directory) {
  SearchData s;
  s.directory = directory;
  s.search = ReadSearchConfig(directory + "/" + kSearchFile);
  const RunConfig config = RunDir::OpenSearch(directory).config();
  s.model = config.model, s.data = config.data, s.val_split = config.val_split;
  for (const nlohmann::json& line : ReadJsonLines(directory + "/" + kCandidatesFile, &s.damaged)) {
    if (std::optional<Evaluated> e = CandidateOf(line))
      s.candidates.push_back(std::move(*e));
    else
      ++s.damaged;
  }
  s.epochs = ReadJsonLines(directory + "/supernet.jsonl", &s.damaged);
  s.method = TextOf(directory + "/" + kMethodFile);
  while (s.method.ends_with('\n')) s.method.pop_back();
  s.choices_text = TextOf(directory + "/choices.txt");
  s.choices_svg = TextOf(directory + "/choices.svg");
  try {
    const nlohmann::json seconds =
        nlohmann::json::parse(TextOf(directory + "/seconds.json"), nullptr, false);
    if (seconds.is_object()) {
      s.supernet_seconds = seconds.value("supernet", double{NAN});
      s.candidate_seconds = seconds.value("candidates", double{NAN});
    }
  } catch (const nlohmann::json::exception&) {  // nothing depends on it
  }
  return s;
}

void CompareSearches(const std::vector<SearchData>& searches, Page* page) {
  for (const SearchData& s : searches) {
    std::vector<const SearchData*> group;
    for (const SearchData& other : searches)
      if (OfOneSpace(s, other)) group.push_back(&other);
    if (group.size() < 2 || group[0] != &s) continue;
    AddComparison(group, page);
    AddCharts(group, page);
  }
}

std::vector<std::string> AddSearch(const SearchData& s, const std::vector<SearchData>& searches,
                                   Page* page) {
  const bool alone = 1 >= std::ranges::count_if(searches, [&](const SearchData& other) {
                       return OfOneSpace(s, other);
                     });
  std::vector<std::string> notes;
  page->Heading("search: " + s.directory);
  AddSettings(s, alone, page);
  if (s.method.empty()) {
    notes.push_back(
        fmt::format("{}: this search has not ended: {} of at most {} candidates are "
                    "measured; graft search --resume {} goes on",
                    s.directory, s.candidates.size(),
                    s.search.evolution.population * (1 + s.search.evolution.generations),
                    ShellWord(s.directory)));
  }
  if (s.damaged > 0)
    notes.push_back(fmt::format("{}: {} damaged lines of {} or supernet.jsonl are left out",
                                s.directory, s.damaged, kCandidatesFile));
  for (const std::string& note : notes) page->Text(note + ".", "bad");
  if (!s.candidates.empty()) AddBest(s, page);
  if (alone) AddCharts({&s}, page);
  if (!s.candidates.empty()) {
    page->Heading("Generations", 3);
    page->Table(GenerationsTable(s));
    page->BeginDetails(fmt::format("All {} candidates", s.candidates.size()));
    page->Table(CandidatesTable(s));
    page->EndDetails();
  }
  AddSupernet(s, page);
  return notes;
}

}  // namespace graft
