#include "tools/lib/noise_inputs.h"

namespace graft {

void FillWithNoise(Session& session, int64_t length, const ModelConfig& model, int worker) {
  const auto fill = [&](const char* name, auto&& value) {
    if (!session.HasInput(name)) return;
    const Tensor t = session.Input(name, worker);
    for (int64_t i = 0; i < t.shape.size(); ++i) {
      if (t.dtype == DType::kF32)
        t.f32()[i] = static_cast<float>(value(i));
      else
        t.i32()[i] = static_cast<int32_t>(value(i));
    }
  };
  fill("labels", [&](int64_t i) { return i % Classes(model); });
  fill("targets", [](int64_t i) { return i % 2; });
  fill("image", [](int64_t i) { return static_cast<double>((i * 7919) % 1000) / 500 - 1; });
  if (length == 0) return;
  const int64_t vocab = std::get<BertConfig>(model).vocab;
  fill("ids", [&](int64_t i) { return (i * 7919) % vocab; });
  fill("type_ids", [](int64_t) { return 0; });
  fill("positions", [&](int64_t i) { return i % length; });
  fill("offsets", [&](int64_t i) { return i * length; });
}

}  // namespace graft
