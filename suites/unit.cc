#include "suites/unit.h"

#include <algorithm>

#include "runtime/io/json.h"
#include "runtime/io/sha256.h"
#include "train/run_config_json.h"

namespace graft {
namespace {

// What of a text a file name can hold, for people to read.
std::string Slug(const std::string& text, size_t most) {
  std::string slug;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-';
    if (plain)
      slug += c;
    else if (!slug.empty() && slug.back() != '_')
      slug += '_';
  }
  slug.resize(std::min(slug.size(), most));
  while (slug.ends_with('_') || slug.ends_with('.')) slug.pop_back();
  while (slug.starts_with('.')) slug.erase(0, 1);
  return slug;
}

}  // namespace

nlohmann::json IdentityOf(const Unit& unit, const std::string& kind,
                          const std::string& base_sha256) {
  nlohmann::json config = ToJson(unit.config);
  // Paths do not decide the result, and these fields only save or report.
  for (const char* field : {"data", "tokenizer", "base_sha256", "examples_sha256", "trace",
                            "save_every", "preprocess_source", "labels", "read_columns", "texts",
                            "tokenizer_sha256", "contents_sha256"})
    config.erase(field);
  if (!unit.config.model.starts_with("init:")) config.erase("model");
  // The option is younger than the first suites.
  if (unit.config.lanes == 0) config.erase("lanes");
  if (!unit.config.scale_targets) config.erase("scale_targets");
  nlohmann::json measured = nlohmann::json::array();
  for (const Measurement& m : unit.measure)
    measured.push_back({{"name", m.name},
                        {"split", m.split},
                        {"sha256", m.sha256},
                        {"mask", m.mask},
                        {"limit", m.limit}});
  return {{"numerics", kNumericsVersion},
          {"base", base_sha256},
          {"tokenizer", unit.tokenizer_sha256},
          {"begins_with", unit.begins_with},
          {"config", config},
          {"train", unit.train_sha256},
          {"measure", measured},
          {"place",
           {{"kind", kind},
            {"task", unit.row.task},
            {"method", unit.row.method},
            {"options", unit.row.options},
            {"phase", unit.row.phase},
            {"protocol", unit.row.protocol},
            {"metric", unit.row.metric}}}};
}

std::string HashOf(const nlohmann::json& identity) {
  const std::string text = DumpJson(identity);
  return Sha256Hex(std::as_bytes(std::span(text)));
}

std::string RunName(const UnitRow& row) {
  std::string name = Slug(row.method, 48);
  if (const std::string options = OptionsText(row.options); !options.empty())
    name += "-" + Slug(options, 40);
  return fmt::format("{}/{}-{}seed{}-{}", Slug(row.task, 48), name,
                     row.phase == "choice" ? "choice-" : "", row.seed, row.hash.substr(0, 10));
}

std::string OptionsText(const nlohmann::json& options) {
  std::string text;
  for (const auto& [name, value] : options.items())
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name,
                        value.is_string() ? value.get<std::string>() : value.dump());
  return text;
}

nlohmann::json OptionsJson(const Choice& choice) {
  nlohmann::json options = nlohmann::json::object();
  for (const auto& [name, value] : choice) options[name] = value;
  return options;
}

std::optional<size_t> Best(const Selection& selection, const std::vector<UnitRow>& ledger) {
  size_t best = selection.candidates.size();
  double score = 0, loss = 0;
  for (size_t i = 0; i < selection.candidates.size(); ++i) {
    const auto unit = std::ranges::find(ledger, selection.candidates[i].choice, &UnitRow::hash);
    if (unit == ledger.end() ||
        (unit->state != UnitState::kDone && unit->state != UnitState::kFailed))
      return {};
    if (unit->state == UnitState::kFailed || std::isnan(unit->score)) continue;
    const double its_loss = unit->metrics.value("loss", INFINITY);
    if (best < selection.candidates.size() &&
        (unit->score < score || (unit->score == score && its_loss >= loss)))
      continue;
    best = i, score = unit->score, loss = its_loss;
  }
  return best;
}

std::vector<const Unit*> SuitePlan::All() const {
  std::vector<const Unit*> all;
  for (const Unit& unit : units) all.push_back(&unit);
  for (const Selection& selection : selections)
    for (const Selection::Candidate& candidate : selection.candidates)
      for (const Unit& unit : candidate.finals) all.push_back(&unit);
  return all;
}

}  // namespace graft
