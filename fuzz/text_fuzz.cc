// Rows of texts with labels, as TSV, CSV and JSON lines, with and without names of the classes.
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
  }
  return 0;
}
