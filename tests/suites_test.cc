// Tests the parts of suites that need no run: grids, choices, identities, draws, scores.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "suites/measure.h"
#include "suites/plan.h"
#include "suites/scores.h"
#include "suites/shots.h"
#include "suites/vtab_tasks.h"
#include "tests/test_util.h"

namespace graft::suites_test {
namespace {

UnitRow Done(const std::string& task, double score, int64_t seed = 0,
             const std::string& method = "linear") {
  UnitRow u;
  u.task = task, u.method = method, u.seed = seed, u.state = UnitState::kDone, u.score = score;
  const VtabTask* known = FindVtabTask(task);
  u.group = known ? known->group : "extra";
  u.hash = fmt::format("{}{}{}", task, method, seed);
  return u;
}

TEST(VtabScore, IsTheMeanOfGroupMeansAndNotOfTasks) {
  const std::vector<UnitRow> units{Done("cifar", 0.9),   Done("dtd", 0.7),   Done("svhn", 0.5),
                                   Done("eurosat", 0.6), Done("kitti", 0.2), Done("dmlab", 0.4),
                                   Done("mine", 1)};
  const std::vector<VtabScore> scores = VtabScores(Cells("vtab", units));
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_NEAR(scores[0].groups.at("natural"), 0.7, 1e-12);
  EXPECT_NEAR(scores[0].groups.at("structured"), 0.3, 1e-12);
  EXPECT_NEAR(scores[0].score, (0.7 + 0.6 + 0.3) / 3, 1e-12);
  EXPECT_NEAR(scores[0].mean, 3.3 / 6, 1e-12);
  EXPECT_EQ(scores[0].tasks, 6u);
  EXPECT_TRUE(std::isnan(scores[0].spread));
}

TEST(VtabScore, WithoutAGroupThereIsNone) {
  const auto scores = VtabScores(Cells("vtab", {Done("cifar", 0.9), Done("kitti", 0.2)}));
  EXPECT_TRUE(std::isnan(scores[0].score));
  EXPECT_EQ(scores[0].missing_groups, std::vector<std::string>{"specialised"});
  EXPECT_NEAR(scores[0].mean, 0.55, 1e-12);
  EXPECT_TRUE(ToJson(scores[0])["score"].is_null());
}

TEST(VtabScore, ItsSpreadIsOverSeedsThatHaveAllTasks) {
  std::vector<UnitRow> units;
  for (const int64_t seed : {0, 1})
    for (const char* task : {"cifar", "eurosat", "kitti"})
      units.push_back(Done(task, seed == 0 ? 0.5 : 0.7, seed));
  units.push_back(Done("cifar", 0.1, 2));
  const VtabScore s = VtabScores(Cells("vtab", units))[0];
  EXPECT_NEAR(s.spread, std::sqrt(0.02), 1e-12);
}

TEST(Cells, CountWhatIsNotDone) {
  std::vector<UnitRow> units{Done("cifar", 0.5, 0), Done("cifar", 0.9, 1), Done("cifar", 0, 2),
                             Done("cifar", 0, 3)};
  units[2].state = UnitState::kFailed, units[3].state = UnitState::kPending;
  units[0].options = {{"lr", "1"}}, units[1].options = {{"lr", "2"}};
  UnitRow choice = Done("cifar", 1, 4);
  choice.phase = "choice";
  units.push_back(choice);
  const std::vector<ScoreCell> cells = Cells("vtab", units);
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(cells[0].units, 4u);
  EXPECT_EQ(cells[0].failed, 1u);
  EXPECT_NEAR(cells[0].mean, 0.7, 1e-12);
  EXPECT_NEAR(cells[0].spread, std::sqrt(0.08), 1e-12);
  EXPECT_EQ(Cells("ablate", units).size(), 3u);  // what varies makes rows there
}

TEST(Vtab, NineteenTasksByAnyOfTheirNames) {
  std::map<std::string, int> groups;
  std::set<std::string> names;
  int classes = 0;
  for (const VtabTask& task : VtabTasks()) {
    ++groups[task.group], classes += task.classes;
    EXPECT_EQ(FindVtabTask(task.name), &task);
    EXPECT_EQ(FindVtabTask(std::string("vtab-") + task.name), &task);
    for (const std::string& alias : task.aliases) EXPECT_EQ(FindVtabTask(alias), &task) << alias;
    names.insert(task.name);
  }
  EXPECT_EQ(names.size(), 19u);
  EXPECT_EQ(groups,
            (std::map<std::string, int>{{"natural", 7}, {"specialised", 4}, {"structured", 8}}));
  // With a head of width 768 for each task these are 38,045 parameters in the mean.
  EXPECT_EQ((classes * 769 + 9) / 19, 38045);
  EXPECT_EQ(FindVtabTask("imagenet"), nullptr);
}

TEST(Grid, AxesAndTheirCombinations) {
  const std::vector<GridAxis> axes = ParseGrid("weight-decay=0|0.1,r=4|8|16", "--select");
  ASSERT_EQ(axes.size(), 2u);
  EXPECT_EQ(axes[0].name, "weight_decay");
  const std::vector<Choice> all = Combinations(axes);
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(all[1], (Choice{{"weight_decay", "0"}, {"r", "8"}}));
  EXPECT_EQ(AxesFor(axes, ParseMethod("linear")).size(), 1u);
  RunConfig config;
  config.method = "lora(targets=attn.q)+adaptformer";
  Apply(all[5], "--select", &config);
  EXPECT_EQ(config.weight_decay, 0.1);
  for (const MethodTerm& term : ParseMethod(config.method)) EXPECT_EQ(term.options.at("r"), "16");
}

TEST(Selection, TheBestScoreThenTheSmallerLossThenTheFirst) {
  Selection selection;
  std::vector<UnitRow> ledger;
  const auto add = [&](double score, double loss) {
    UnitRow u = Done("cifar", score, std::ssize(ledger));
    u.metrics = {{"loss", loss}};
    selection.candidates.push_back({u.hash, {}});
    ledger.push_back(u);
  };
  add(0.5, 1), add(0.7, 2), add(0.7, 1), add(0.7, 1);
  EXPECT_EQ(Best(selection, ledger), 2u);
  ledger[2].state = UnitState::kFailed;
  EXPECT_EQ(Best(selection, ledger), 3u);
  ledger[0].state = UnitState::kRunning;
  EXPECT_FALSE(Best(selection, ledger));
  for (UnitRow& u : ledger) u.state = UnitState::kFailed;
  EXPECT_EQ(Best(selection, ledger), 4u);
}

TEST(Identity, IsOfWhatDecidesTheResult) {
  Unit unit;
  unit.row.task = "cifar", unit.row.method = "linear";
  unit.config.model = "model.safetensors", unit.config.data = "a/cifar";
  unit.train_sha256 = "1", unit.measure = {{.name = "test", .data = "a", .sha256 = "2"}};
  const auto hash = [](const Unit& u) { return HashOf(IdentityOf(u, "vtab", "base")); };
  const std::string before = hash(unit);
  EXPECT_EQ(before.size(), 64u);
  const auto changed = [&](auto&& change) {
    Unit other = unit;
    change(other);
    return hash(other) != before;
  };
  EXPECT_FALSE(changed([](Unit& u) { u.config.data = "b/cifar", u.measure[0].data = "b"; }));
  EXPECT_FALSE(changed([](Unit& u) { u.config.model = "elsewhere.safetensors"; }));
  EXPECT_FALSE(changed([](Unit& u) { u.config.save_every = 7; }));
  EXPECT_TRUE(changed([](Unit& u) { u.config.lr = 0.5; }));
  EXPECT_TRUE(changed([](Unit& u) { u.config.seed = 1; }));
  EXPECT_TRUE(changed([](Unit& u) { u.config.method = "ln"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.config.memory_budget = "1GiB"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.config.model = "init:vit_nano_patch8_32"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.train_sha256 = "3"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.tokenizer_sha256 = "3"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.begins_with = "3"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.measure[0].sha256 = "3"; }));
  EXPECT_TRUE(changed([](Unit& u) { u.measure[0].mask = {1, 2}; }));
  EXPECT_TRUE(changed([](Unit& u) { u.row.phase = "choice"; }));
  EXPECT_NE(HashOf(IdentityOf(unit, "vtab", "other")), before);
}

TEST(HashOfData, FollowsLabelsNamesAndSizesButNoDirectory) {
  const TempDir dir;
  const auto make = [&](const std::string& name, const std::string& list, const char* bytes) {
    dir.Write(name + "/images/a.png", bytes), dir.Write(name + "/images/b.png", "bb");
    dir.Write(name + "/test.txt", list);
    return HashOfData(dir / name, "test");
  };
  const std::string list = "images/a.png 0\nimages/b.png 1\n";
  const std::string before = make("one", list, "a");
  EXPECT_EQ(make("two", list, "a"), before);
  EXPECT_EQ(
      make("three",
           fmt::format("{0}/one/images/a.png 0\n{0}/one/images/b.png 1\n", dir.path().string()),
           "a"),
      before);
  EXPECT_NE(make("four", "images/a.png 1\nimages/b.png 1\n", "a"), before);
  EXPECT_NE(make("five", "images/b.png 1\nimages/a.png 0\n", "a"), before);
  EXPECT_NE(make("six", list, "aa"), before);
  EXPECT_NE(MessageOf([&] { make("seven", "images/c.png 1\n", "a"); }).find("does not exist"),
            std::string::npos);
}

TEST(Shots, AreBalancedAndNested) {
  std::vector<int> labels;
  for (int i = 0; i < 90; ++i) labels.push_back(i % 3 == 0 ? 0 : i % 5);
  const std::vector<size_t> two = DrawShots(labels, 2, 5), four = DrawShots(labels, 4, 5),
                            next = DrawShots(labels, 2, 5, 2);
  std::set<size_t> in_four(four.begin(), four.end()), both;
  for (const size_t i : two) {
    both.insert(i);
    EXPECT_TRUE(in_four.contains(i));
  }
  for (const size_t i : next) both.insert(i);
  EXPECT_EQ(both, in_four);  // two, and two others
  std::map<int, int> counts;
  for (const size_t i : four) ++counts[labels[i]];
  for (const auto& [label, count] : counts) EXPECT_EQ(count, 4) << label;
  EXPECT_NE(DrawShots(labels, 2, 6), two);
}

TEST(ClassMask, OfTheSharedLists) {
  const char* shared = std::getenv("GRAFT_DATA");
  if (!shared) GTEST_SKIP() << "GRAFT_DATA is not set";
  for (const char* set : {"a", "r"}) {
    const std::vector<int> mask =
        ReadClassMask(fmt::format("{}/data/lists/imagenet_{}_classes.txt", shared, set));
    EXPECT_EQ(mask.size(), 200u);
    EXPECT_TRUE(std::ranges::is_sorted(mask));
    EXPECT_LT(mask.back(), 1000);
  }
}

TEST(PublishedShots, OfTheSharedLists) {
  const char* shared = std::getenv("GRAFT_DATA");
  if (!shared) GTEST_SKIP() << "GRAFT_DATA is not set";
  const std::string lists = std::string(shared) + "/data/lists/few-shot/standford-cars";
  const std::optional<PublishedShots> found = PublishedShots::Find(lists);
  ASSERT_TRUE(found);
  const TempDir images;  // they are not among the shared data
  for (size_t begin = 0;;) {
    const std::string message = MessageOf([&] { found->Train(2, 0, images.path()); });
    const size_t at = message.find("names the image "), end = message.find(", which is not in");
    if (at == message.npos) break;
    images.Write(message.substr(at + 16, end - at - 16), "");
    ASSERT_LT(++begin, 1000u) << message;
  }
  const Split train = found->Train(2, 0, images.path());
  std::map<int, int> counts;
  for (const Example& e : train.examples) ++counts[e.label];
  EXPECT_EQ(counts.size(), 196u);
  for (const auto& [label, count] : counts) EXPECT_EQ(count, 2) << label;
}

}  // namespace
}  // namespace graft::suites_test
