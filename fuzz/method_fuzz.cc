// Reads the small languages of the command line: methods (applied to a small ViT), preprocessing,
// sizes, columns.
#include "data/preprocess.h"
#include "data/text.h"
#include "fuzz/target.h"
#include "models/model.h"
#include "train/run_config.h"

namespace graft::fuzz {
namespace {

const Graph& SmallVitGraph() {
  static const Graph graph = [] {
    VitConfig c;
    c.image_size = 8, c.patch_size = 4, c.width = 8, c.depth = 2, c.heads = 2, c.mlp_width = 16;
    c.classes = 3;
    return BuildVit(c);
  }();
  return graph;
}

void TestMethod(std::string_view text) {
  const Method method = ParseMethod(text);
  Must([&] { GRAFT_CHECK(ParseMethod(ToString(method)) == method, "'{}'", ToString(method)); });
  Graph graph = SmallVitGraph();
  ParamStore params;
  ApplyMethod(graph, params, method, 0);
  GRAFT_CHECK(TrainableCount(graph) > 0);
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  const std::string_view text = TextOf(data, size);
  Accepts([&] { TestMethod(text); });
  Accepts([&] {
    const Preprocess p = ParsePreprocess(text);
    Must([&] { GRAFT_CHECK(ParsePreprocess(ToString(p)) == p, "'{}'", ToString(p)); });
    GRAFT_CHECK(p.size() > 0);
  });
  Accepts([&] { ParseBytes(std::string(text)); });
  Accepts([&] { ParseTextColumns(std::string(text)); });
  return 0;
}
