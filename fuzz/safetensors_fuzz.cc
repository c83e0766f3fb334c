// Reads a safetensors file, or the index of a sharded model (an input that begins with '{').
#include "fuzz/target.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft::fuzz {
namespace {

void TestFile(std::span<const std::byte> bytes) {
  const SafetensorsFile file = SafetensorsFile::Parse("file", bytes, nullptr);
  uint64_t total = 0;
  for (const FileTensor& t : file.tensors()) {
    GRAFT_CHECK(file.bytes(t).data() >= bytes.data() &&
                    file.bytes(t).data() + file.bytes(t).size() <= bytes.data() + bytes.size(),
                "'{}' leads outside the file", t.name);
    GRAFT_CHECK(TensorBytes(t.dtype, t.shape) == static_cast<int64_t>(file.bytes(t).size()));
    GRAFT_CHECK(&file.Get(t.name) == &t, "'{}' is found elsewhere", t.name);
    total += file.bytes(t).size();
    Accepts([&] {
      ParamStore store;
      file.Load(t, "t", &store);
      ReadAll(store.values("t"));
    });
  }
  GRAFT_CHECK(total <= bytes.size());
}

// Beside two shards that are in order.
void TestIndex(std::string_view text) {
  static const TempDir* dir = [] {
    auto* made = new TempDir;
    for (const char* name : {"x", "y"}) {
      ParamStore store;
      store.Allocate(name, {2});
      WriteSafetensors(*made / (std::string(name) + ".safetensors"), store, {});
    }
    return made;
  }();
  dir->Write("model.safetensors.index.json", text);
  const SafetensorsModel model = SafetensorsModel::Open(*dir / "model.safetensors.index.json");
  ParamStore store;
  for (const std::string& name : model.names()) {
    GRAFT_CHECK(model.Find(name) != nullptr);
    model.Load(name, name, &store);
  }
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft::fuzz;
  if (size > 0 && data[0] == '{')
    Accepts([&] { TestIndex(TextOf(data, size)); });
  else
    Accepts([&] { TestFile(BytesOf(data, size)); });
  return 0;
}
