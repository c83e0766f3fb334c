// Rows of texts with labels of every kind, as TSV, CSV and JSON lines, with and without names of
// the classes.
#include <cmath>

#include "data/text.h"
#include "fuzz/target.h"
#include "runtime/utf8.h"
#include "tests/test_util.h"

namespace graft::fuzz {
namespace {

void TestTexts(const std::string& directory) {
  const TextDataset data(directory);
  GRAFT_CHECK(data.split_names().size() == 1 && data.DefaultTrainSplit() == "train");
  const TextSplit split = data.Load("train");
  GRAFT_CHECK(!split.examples.empty());
  for (const TextExample& e : split.examples) {
    GRAFT_CHECK(e.label >= 0 && e.label < data.num_classes(), "label {}", e.label);
    GRAFT_CHECK(FirstInvalidUtf8(e.text) == e.text.size());
    GRAFT_CHECK(data.pairs() == e.second.has_value());
  }
  data.Notes(true);
}

// Reads the same rows as numbers, and as several classes at once.
void TestTargets(const std::string& directory, LabelKind kind, const char* columns) {
  TellLabelKind(directory, ParseTextColumns(columns));
  const TextDataset data(directory, ParseTextColumns(columns), false, {.kind = kind});
  for (const TextExample& e : data.Load("train").examples) {
    GRAFT_CHECK(static_cast<int>(e.targets.size()) == data.num_classes());
    for (const float target : e.targets)
      GRAFT_CHECK(kind == LabelKind::kNumbers ? std::isfinite(target) : target == 0 || target == 1);
  }
  data.Notes(true);
}

// With bad rows left out, and a part held out.
void TestParts(const std::string& directory) {
  TextDataset data(directory, {}, true);
  const size_t all = data.Load("train").examples.size();
  data.HoldOut("train", 0.2, 1);
  GRAFT_CHECK(data.Load("train").examples.size() + data.Load("holdout").examples.size() == all);
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  static const TempDir* dir = [] {
    auto* made = new TempDir;
    made->Write("tsv/labels.txt", "good\nbad\n");
    return made;
  }();
  for (const std::string format : {"tsv", "csv", "jsonl"}) {
    dir->Write(format + "/train." + format, TextOf(data, size));
    Accepts([&] { TestTexts(*dir / format); });
    Accepts([&] { TestParts(*dir / format); });
    for (const LabelKind kind : {LabelKind::kNumbers, LabelKind::kClasses})
      for (const char* columns : {"", "1,2|3"})
        Accepts([&] { TestTargets(*dir / format, kind, columns); });
  }
  return 0;
}
