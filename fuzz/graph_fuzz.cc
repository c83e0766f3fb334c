// Reads the text form of a graph. A graph that is read prints as a text that gives the same graph.
#include "fuzz/target.h"
#include "ops/ops.h"
#include "runtime/text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  std::string text;
  if (!Accepts([&] { text = ToText(ParseGraph(TextOf(data, size), AllOps())); })) return 0;
  const std::string again = ToText(ParseGraph(text, AllOps()));
  GRAFT_CHECK(again == text, "\n{}\nis printed as\n{}", text, again);
  return 0;
}
