// Opens a whole model file (safetensors or, by its first bytes, .npz): which architecture it is,
// its graph, its parameters; and the same bytes as an adapter.
#include "adapters/adapter_file.h"
#include "fuzz/target.h"
#include "models/files/checkpoint.h"
#include "tests/test_util.h"

namespace graft::fuzz {
namespace {

void TestModel(const std::string& path) {
  const LoadedModel model = LoadModel(path, "", 0);
  const std::map<std::string, Extents> shapes = ParamShapes(model.config);
  for (const auto& [name, entry] : model.params.entries()) {
    GRAFT_CHECK(shapes.contains(name) && shapes.at(name) == entry.shape, "'{}'", name);
    ReadAll(entry.values());
  }
  model.architecture();
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  static const TempDir* dir = new TempDir;
  const std::string_view text = TextOf(data, size);
  const std::string name = text.starts_with("PK") ? "model.npz" : "model.safetensors";
  dir->Write(name, text);
  Accepts([&] { TestModel(*dir / name); });
  if (name == "model.safetensors") Accepts([&] { AdapterFile::Open(*dir / name); });
  return 0;
}
