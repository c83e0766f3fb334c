// Prints the masked-LM logits of one text for masked_lm.py, a line for each of its rows.
//   masked_lm_logits MODEL ID...
#include <cstdlib>
#include <iostream>

#include "models/files/checkpoint.h"
#include "runtime/session.h"

namespace graft {
namespace {

void Run(const std::string& path, std::span<char* const> words) {
  LoadedModel model = LoadModel(path);
  const Graph g = BuildBert(model.bert(), {.head = BertHead::kMaskedLm});
  const int64_t n = std::ssize(words);
  Session session(g, model.params, {.capacity = {1, n}});
  for (int64_t i = 0; i < n; ++i) {
    session.Input("ids").i32()[i] = std::atoi(words[static_cast<size_t>(i)]);
    session.Input("type_ids").i32()[i] = 0;
    session.Input("positions").i32()[i] = static_cast<int32_t>(i);
  }
  session.Input("offsets").i32()[0] = 0;
  session.Input("offsets").i32()[1] = static_cast<int32_t>(n);
  session.Run({1, n});
  const Tensor logits = session.Output("logits");
  std::cout.precision(9);
  for (int64_t i = 0; i < logits.shape.size(); ++i)
    std::cout << logits.f32()[i] << ((i + 1) % logits.shape.cols() ? ' ' : '\n');
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  try {
    if (argc < 3) graft::Fail("usage: masked_lm_logits MODEL ID...");
    graft::Run(argv[1], std::span(argv + 2, static_cast<size_t>(argc - 2)));
  } catch (const std::exception& error) {
    std::cerr << "masked_lm_logits: " << error.what() << '\n';
    return 1;
  }
}
