#include "train/dataset.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/check.h"
#include "data/image_places.h"
#include "data/splits.h"
#include "data/text_labels.h"
#include "models/files/class_names.h"
#include "runtime/threads.h"
#include "runtime/utf8.h"

namespace graft {

LabelKind KindOf(const std::string& task) {
  return task == kRegression   ? LabelKind::kNumbers
         : task == kMultiLabel ? LabelKind::kClasses
                               : LabelKind::kClass;
}

std::string TablesOf(const std::string& directory, const std::string& task) {
  if (HoldsTexts(directory)) return directory;
  if (task == kClassify || task == kTaskByData) return ClassesOf(directory);
  if (const std::string table = LabelsTable(directory); !table.empty()) return table;
  Fail(
      "{}: --task {} wants a table (.csv, .tsv or .jsonl) with the targets, found none; hint: of "
      "images labels.csv, with columns such as file,{}",
      directory, task, task == kRegression ? "score" : "labels");
}

namespace {

std::variant<ImageDataset, TextDataset, Corpus, SentenceTask> OpenAny(const std::string& directory,
                                                                      const DataOptions& o) {
  if (!o.objective.empty()) {
    if (!o.columns.empty())
      FailUsage("--columns {}: of labelled texts; --objective {} reads plain ones", o.columns,
                o.objective);
    if (o.objective == "nsp") return SentenceTask(Corpus(directory), SentenceTaskKind::kPairs);
    if (o.objective == "nss") return SentenceTask(Corpus(directory), SentenceTaskKind::kChoice);
    return Corpus(directory);
  }
  if (const std::string tables = TablesOf(directory, o.task); HoldsTexts(tables)) {
    TextDataset texts(tables, ParseTextColumns(o.columns), o.skip_bad, {KindOf(o.task), o.classes});
    if (NamesImages(texts)) return ImageDataset(texts);
    return texts;
  }
  if (!o.columns.empty()) FailUsage("--columns {}: {} holds no texts", o.columns, directory);
  return ImageDataset(directory);
}

std::string FirstOfMany(const std::vector<std::string>& names) {
  constexpr size_t kShown = 10;
  const auto shown = std::span(names).first(std::min(kShown, names.size()));
  return fmt::format("{}{}", fmt::join(shown, ", "), names.size() > kShown ? ", ..." : "");
}

// The first of `names` that equals none of `known`, whatever its case; if there is none, the first
// of all.
const std::string& FirstUnknown(const std::vector<std::string>& names,
                                const std::vector<std::string>& known) {
  std::set<std::string> lower;
  for (const std::string& name : known) lower.insert(ToLowerAscii(name));
  for (const std::string& name : names)
    if (!lower.contains(ToLowerAscii(name))) return name;
  return names.front();
}

}  // namespace

Dataset::Dataset(const std::string& directory, const DataOptions& options)
    : kind_(KindOf(options.task)), data_(OpenAny(directory, options)), skip_bad_(options.skip_bad) {
  if (auto* images = std::get_if<ImageDataset>(&data_); images && skip_bad_) images->AllowMissing();
}

Dataset::Dataset(const RunConfig& c)
    : Dataset(c.data, {c.columns, c.objective, c.skip_bad, c.task}) {
  if (c.holdout > 0) HoldOut(c.train_split, c.holdout, c.seed);
}

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
std::string Dataset::DefaultEvalSplit() const {
  return std::visit([](const auto& d) { return d.DefaultEvalSplit(); }, data_);
}
std::string Dataset::ReadColumns() const {
  if (const auto* images = std::get_if<ImageDataset>(&data_)) return images->read_columns();
  if (const auto* texts = std::get_if<TextDataset>(&data_)) return texts->read_columns();
  return "";
}
std::string Dataset::TextForm() const {
  const auto* texts = std::get_if<TextDataset>(&data_);
  return !texts ? "" : texts->pairs() ? kTextPairs : kSingleTexts;
}
int64_t Dataset::num_classes() const {
  return std::visit([](const auto& d) { return d.num_classes(); }, data_);
}

bool Dataset::names_classes() const {
  return std::visit([](const auto& d) { return !d.class_names().empty(); }, data_);
}

std::vector<int> Dataset::LabelsIn(const std::string& split) const {
  std::vector<int> classes;
  const auto add = [&](const auto& examples) {
    for (const auto& e : examples) classes.push_back(e.label);
  };
  if (const auto* images = std::get_if<ImageDataset>(&data_)) {
    for (const Split& s : images->splits())  // whether files exist is seen when they are read
      if (s.name == split) add(s.examples);
  } else {
    std::visit([&](const auto& d) { add(d.Load(split).examples); }, data_);
  }
  return classes;
}

size_t Dataset::Size(const std::string& split) const { return LabelsIn(split).size(); }

std::vector<std::string> Dataset::notices() const {
  if (const auto* images = std::get_if<ImageDataset>(&data_)) return images->Notes(false);
  if (const auto* texts = std::get_if<TextDataset>(&data_)) return texts->Notes(false);
  return {};
}

void Dataset::HoldOut(const std::string& split, double share, int64_t seed) {
  std::visit([&](auto& d) { d.HoldOut(split, share, static_cast<uint64_t>(seed)); }, data_);
}

// Calls each(targets) for every example of a split until it returns false.
template <class Each>
void Dataset::ForTargets(const std::string& split, const Each& each) const {
  const auto all = [&](const auto& examples) {
    for (const auto& e : examples) {
      if constexpr (requires { e.targets; })
        if (!each(e.targets)) return;
    }
  };
  if (const auto* images = std::get_if<ImageDataset>(&data_)) {
    for (const Split& s : images->splits())
      if (s.name == split) all(s.examples);
  } else if (const auto* texts = std::get_if<TextDataset>(&data_)) {
    all(texts->Load(split).examples);
  }
}

void Dataset::RefuseOneClass(const std::string& split) const {
  if (kind_ != LabelKind::kClass) {
    std::optional<std::vector<float>> first;
    bool differ = false;
    ForTargets(split, [&](const std::vector<float>& targets) {
      if (!first) first = targets;
      return !(differ = targets != *first);
    });
    if (differ) return;
    Fail("{}: all {} examples of split '{}' have the same {}, of which nothing can be learnt",
         directory(), Size(split), split, kind_ == LabelKind::kNumbers ? "targets" : "labels");
  }
  const std::vector<int> classes = LabelsIn(split);
  const int first = classes.empty() ? 0 : classes[0];
  if (std::ranges::any_of(classes, [&](int c) { return c != first; })) return;
  Fail("{}: expected at least 2 classes, found 1: all {} examples of split '{}' are of '{}'",
       directory(), classes.size(), split, labels().at(first));
}

// Leaves out what cannot be read: images that do not decode, whichever model will read them, and
// rows of texts that are no examples.
void Dataset::SkipBad(const std::string& split) {
  if (!skip_bad_ || !looked_through_.insert(split).second) return;
  if (const auto* texts = std::get_if<TextDataset>(&data_)) {
    for (const std::string& problem : texts->problems(split).first) {
      const size_t end = problem.find(": ");
      skipped_.push_back({problem.substr(0, end), problem});
    }
  } else if (auto* images = std::get_if<ImageDataset>(&data_)) {
    std::set<std::string> paths, bad;
    for (const Example& e : images->Load(split).examples) paths.insert(e.path);
    for (const UnreadableImage& image :
         FindUnreadable({paths.begin(), paths.end()}, Threads(), progress_)) {
      bad.insert(image.path);
      skipped_.push_back({image.path, image.reason});
    }
    images->LeaveOut(split, bad);
  }
}

std::vector<std::string> Dataset::labels() const {
  if (!renumbered_.empty()) return renumbered_;
  auto labels = std::visit([](const auto& d) { return d.class_names(); }, data_);
  for (int64_t i = std::ssize(labels); i < num_classes(); ++i) labels.push_back(std::to_string(i));
  return labels;
}

std::string Dataset::OverlapText(const std::string& held, const std::string& train,
                                 size_t limit, const Dataset* trained) const {
  if (trained && trained->data_.index() != data_.index()) return "";
  const auto [shared, total, first] = std::visit(
      [&]<class Data>(const Data& d) {
        const Data& other = trained ? std::get<Data>(trained->data_) : d;
        const auto held_out = d.Load(held);
        const auto both = Overlap(held_out, other.Load(train, limit));
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
  if (shared == 0 || (texts() && shared * kTextsByChance < total)) return "";
  return fmt::format("split '{}' shares {} {} with training split '{}' (the first is {})", held,
                     shared, texts() ? "texts" : "images", train, first);
}

void Dataset::RefuseOverlap(const std::string& validation, const std::string& train,
                            size_t limit) const {
  const std::string text = OverlapText(validation, train, limit);
  if (!text.empty()) Fail("validation {}; hint: --allow-overlap, or --val-split none", text);
}

void Dataset::CheckSplit(const std::string& name) const {
  if (!name.empty()) std::visit([&](const auto& d) { d.Load(name, 1); }, data_);
}

void Dataset::NumberClassesAs(const std::vector<std::string>& names, const std::string& model) {
  if (kind_ == LabelKind::kNumbers) return;
  const std::vector<std::string> own = labels();
  const std::optional<ClassMatch> match = MatchClasses(own, names);
  if (!match)
    Fail(
        "{}: other classes than those of {}; the first is '{}', expected one of {}; hint: name "
        "them as the model does",
        directory(), model, FirstUnknown(own, names), FirstOfMany(names));
  if (match->SameOrder()) return;
  SetNumbers(match->number);
  renumbered_ = match->labels;
}

// `numbers` are those of the classes as labels() has them now.
void Dataset::SetNumbers(const std::vector<int64_t>& numbers) {
  if (numbers_.empty()) {
    numbers_.assign(numbers.begin(), numbers.end());
    return;
  }
  for (int& number : numbers_) number = static_cast<int>(numbers[static_cast<size_t>(number)]);
}

bool Dataset::TakeClassesOf(const std::vector<std::string>& names) {
  const std::vector<std::string> own = labels();
  const auto numbers = MatchSomeClasses(own, names);
  if (kind_ != LabelKind::kClass || own.empty() || !numbers) return false;
  SetNumbers(*numbers);
  renumbered_ = names;
  return true;
}

void Dataset::CheckKind(const LoadedModel& model) const {
  if (texts() == model.is_bert()) return;
  std::string first;
  if (const auto* tables = std::get_if<TextDataset>(&data_))
    for (const std::string& text : tables->FirstTexts(tables->split_names().front(), 1))
      first = fmt::format(
          "; the first is '{}'; hint: a table of images names files in or below its folder",
          FirstBytes(text, 60));
  Fail("{} holds {}, but {} is a {}{}", directory(), texts() ? "texts" : "images", model.source,
       model.is_bert() ? "BERT, which reads texts" : "vision transformer", first);
}

// Gives an example the number that the head has for its class.
template <class AnyExample>
void Dataset::Renumber(AnyExample* e) const {
  if (kind_ == LabelKind::kClass) {
    e->label = numbers_[e->label];
  } else if constexpr (requires { e->targets; }) {
    const std::vector<float> own = e->targets;
    for (size_t k = 0; k < own.size(); ++k) e->targets[numbers_[k]] = own[k];
  }
}

std::unique_ptr<BatchSource> Dataset::Load(const std::string& split, size_t limit,
                                           const LoadedModel& model, const AdapterFacts& facts) {
  CheckKind(model);
  SkipBad(split);
  const auto load = [&](const auto& data) {
    auto examples = data.Load(split, limit).examples;
    if (!numbers_.empty())
      for (auto& e : examples) Renumber(&e);
    return examples;
  };
  if (const auto* images = std::get_if<ImageDataset>(&data_))
    return MakeImageData(load(*images), ParsePreprocess(facts.preprocess), model.vit());
  if (const auto* corpus = std::get_if<Corpus>(&data_))
    return MakeMaskedTexts(load(*corpus), model, facts);
  if (const auto* sentences = std::get_if<SentenceTask>(&data_))
    return MakeTextData(sentences->Load(split, limit, facts.max_length).examples, model, facts);
  const auto& texts = std::get<TextDataset>(data_);
  if (const std::string wrong = WrongTexts(facts, texts.pairs()); !wrong.empty())
    Fail("{} holds {}", directory(), wrong);
  return MakeTextData(load(texts), model, facts);
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
  if (model != found && data->kind() == LabelKind::kNumbers)
    Fail(
        "{} gives {} numbers, the data set {} has {} columns of them; hint: name the columns with "
        "--columns",
        opened.description, model, data->directory(), found);
  if (found < model && data->TakeClassesOf(opened.labels())) return;
  const std::vector<std::string> own = data->labels(), labels = opened.labels();
  const bool shares = std::ranges::any_of(
      own, [&](const std::string& c) { return std::ranges::find(labels, c) != labels.end(); });
  if (found < model && shares)
    data->NumberClassesAs(labels, opened.description);  // says what is not
  if (model != found)
    Fail(
        "{} has {} classes, the data set {} has {}; hint: eval on the data it was trained for, or "
        "train a head: "
        "graft train --model M --data {} --method linear --out RUN",
        opened.description, model, data->directory(), found, data->directory());
  data->NumberClassesAs(opened.labels(), opened.description);
}

}  // namespace graft
