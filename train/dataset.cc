#include "train/dataset.h"

#include <algorithm>
#include <set>

#include "data/splits.h"
#include "models/files/class_names.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

std::variant<ImageDataset, TextDataset, Corpus> OpenAny(const std::string& directory,
                                                        const std::string& columns,
                                                        const std::string& objective) {
  if (!objective.empty()) {
    if (!columns.empty())
      FailUsage("--columns {}: of labelled texts; --objective {} reads plain ones", columns,
                objective);
    return Corpus(directory);
  }
  if (HoldsTexts(directory)) return TextDataset(directory, ParseTextColumns(columns));
  if (!columns.empty()) Fail("--columns {}: {} holds no texts", columns, directory);
  return ImageDataset(directory);
}

std::string FirstOfMany(const std::vector<std::string>& names) {
  constexpr size_t kShown = 10;
  const auto shown = std::span(names).first(std::min(kShown, names.size()));
  return fmt::format("{}{}", fmt::join(shown, ", "), names.size() > kShown ? ", ..." : "");
}

// The first of `names` that is none of `known` in any case; of none such, the first.
const std::string& FirstUnknown(const std::vector<std::string>& names,
                                const std::vector<std::string>& known) {
  std::set<std::string> lower;
  for (const std::string& name : known) lower.insert(ToLowerAscii(name));
  for (const std::string& name : names)
    if (!lower.contains(ToLowerAscii(name))) return name;
  return names.front();
}

}  // namespace

Dataset::Dataset(const std::string& directory, const std::string& columns,
                 const std::string& objective)
    : data_(OpenAny(directory, columns, objective)) {}

const std::string& Dataset::directory() const {
  return std::visit([](const auto& d) -> const std::string& { return d.directory(); }, data_);
}
std::vector<std::string> Dataset::split_names() const {
  return std::visit([](const auto& d) { return d.split_names(); }, data_);
}
std::string Dataset::DefaultTrainSplit() const {
  return std::visit([](const auto& d) { return d.DefaultTrainSplit(); }, data_);
}
std::string Dataset::DefaultValidationSplit() const {
  return std::visit([](const auto& d) { return d.DefaultValidationSplit(); }, data_);
}
std::string Dataset::DefaultTestSplit() const {
  return std::visit([](const auto& d) { return d.DefaultTestSplit(); }, data_);
}
int64_t Dataset::num_classes() const {
  return std::visit([](const auto& d) { return d.num_classes(); }, data_);
}

std::string Dataset::notice() const {
  const auto* images = std::get_if<ImageDataset>(&data_);
  if (!images || images->left_out().empty()) return "";
  return fmt::format("{}: {} images of formats that are not read are left out (the first is {})",
                     directory(), images->left_out().size(), images->left_out().front());
}

std::vector<std::string> Dataset::labels() const {
  if (!renumbered_.empty()) return renumbered_;
  auto labels = std::visit([](const auto& d) { return d.class_names(); }, data_);
  for (int64_t i = static_cast<int64_t>(labels.size()); i < num_classes(); ++i)
    labels.push_back(std::to_string(i));
  return labels;
}

void Dataset::RefuseOverlap(const std::string& validation, const std::string& train,
                            size_t limit) const {
  const auto [shared, total, first] = std::visit(
      [&](const auto& d) {
        const auto held_out = d.Load(validation);
        const auto both = Overlap(held_out, d.Load(train, limit));
        std::string example;
        if (!both.empty()) {
          if constexpr (requires { both[0].text; })
            example = fmt::format("'{}'", both[0].text);
          else
            example = both[0];
        }
        return std::tuple(both.size(), held_out.examples.size(), example);
      },
      data_);
  if (shared == 0 || (texts() && shared * kTextsByChance < total)) return;
  throw Error(
      fmt::format("validation split '{}' shares {} {} with training split '{}' (the first is {}); "
                  "hint: --allow-overlap, or --val-split none",
                  validation, shared, texts() ? "texts" : "images", train, first),
      ErrorKind::kUser);
}

void Dataset::CheckSplit(const std::string& name) const {
  if (!name.empty()) std::visit([&](const auto& d) { d.Load(name, 1); }, data_);
}

void Dataset::NumberClassesAs(const std::vector<std::string>& names, const std::string& model) {
  const std::vector<std::string> own = labels();
  const std::optional<ClassMatch> match = MatchClasses(own, names);
  if (!match)
    Fail(
        "{}: other classes than those of {}; the first is '{}', expected one of {}; hint: name "
        "them as the model does",
        directory(), model, FirstUnknown(own, names), FirstOfMany(names));
  if (match->SameOrder()) return;
  for (int64_t number : match->number) numbers_.push_back(static_cast<int>(number));
  renumbered_ = match->labels;
}

void Dataset::CheckKind(const LoadedModel& model) const {
  if (texts() != model.is_bert())
    Fail("{} holds {}, but {} is a {}", directory(), texts() ? "texts" : "images", model.source,
         model.is_bert() ? "BERT, which reads texts" : "vision transformer");
}

std::unique_ptr<BatchSource> Dataset::Load(const std::string& split, size_t limit,
                                           const LoadedModel& model,
                                           const AdapterFacts& facts) const {
  CheckKind(model);
  const auto load = [&](const auto& data) {
    auto examples = data.Load(split, limit).examples;
    if (!numbers_.empty())
      for (auto& e : examples) e.label = numbers_[static_cast<size_t>(e.label)];
    return examples;
  };
  if (const auto* images = std::get_if<ImageDataset>(&data_))
    return MakeImageData(load(*images), ParsePreprocess(facts.preprocess), model.vit());
  if (const auto* corpus = std::get_if<Corpus>(&data_))
    return MakeMaskedTexts(load(*corpus), model, facts);
  return MakeTextData(load(std::get<TextDataset>(data_)), model, facts);
}

std::vector<std::string> Dataset::ExampleNames(const std::string& split, size_t limit) const {
  std::vector<std::string> names;
  const auto add = [&](const auto& data) {
    for (const auto& e : data.Load(split, limit).examples) {
      if constexpr (requires { e.text; })
        names.push_back(e.second ? e.text + "\t" + *e.second : e.text);
      else
        names.push_back(e.path);
    }
  };
  std::visit(add, data_);
  return names;
}

void CheckClasses(const OpenedModel& opened, Dataset* data) {
  CheckProblem(opened);
  const int64_t model = Classes(opened.model.config), found = data->num_classes();
  if (model != found)
    Fail(
        "{} has {} classes, the data set {} has {}; hint: eval on the data it was trained for, or "
        "train a head: "
        "graft train --model M --data {} --method linear --out RUN",
        opened.description, model, data->directory(), found, data->directory());
  data->NumberClassesAs(opened.labels(), opened.description);
}

}  // namespace graft
