#include "models/model.h"

#include <algorithm>

#include "models/arch_text.h"

namespace graft {
namespace {

// std::visit with one function for each kind.
template <class... F>
struct Cases : F... {
  using F::operator()...;
};

bool IsBert(const std::string& name) {
  return name.starts_with("bert") || name.starts_with("minilm");
}

}  // namespace

std::vector<std::string> ModelNames() {
  std::vector<std::string> names = VitNames();
  for (std::string& name : BertNames()) names.push_back(std::move(name));
  return names;
}

ModelConfig ModelByName(const std::string& name) {
  if (name.find('(') != std::string::npos) {
    const ModelConfig config = ParseArch(name).config;
    CheckConfig(config, name);
    return config;
  }
  const std::vector<std::string> bert = BertNames();
  if (std::ranges::find(bert, name) != bert.end()) return BertByName(name);
  if (IsBert(name)) Fail("no architecture '{}'{}", name, DidYouMean(name, bert));
  return VitByName(name);
}

std::string ArchitectureName(const ModelConfig& config) {
  return std::visit(Cases{[](const VitConfig& c) {
                            for (const std::string& name : VitNames()) {
                              VitConfig named = VitByName(name);
                              named.classes = c.classes, named.eps = c.eps;
                              named.task = c.task;
                              if (c.gelu != "swiglu" && named.gelu != "swiglu") named.gelu = c.gelu;
                              if (named.tokens == c.tokens) named.pool = c.pool;
                              if (named == c) return name;
                            }
                            return DescribeArch(c);
                          },
                          [](const BertConfig& c) {
                            for (const std::string& name : BertNames()) {
                              const BertConfig named = BertByName(name);
                              if (named.width == c.width && named.depth == c.depth &&
                                  named.heads == c.heads && named.mlp_width == c.mlp_width)
                                return name;
                            }
                            return DescribeArch(c);
                          }},
                    config);
}

std::string SizesText(const ModelConfig& config) {
  return std::visit(
      [](const auto& c) {
        std::string text = fmt::format("width {}, depth {}, mlp {}", c.width, c.depth, c.mlp_width);
        if constexpr (requires { c.patch_size; }) text += fmt::format(", patch {}", c.patch_size);
        return text;
      },
      config);
}

void CheckConfig(const ModelConfig& config, const std::string& where) {
  std::visit([&](const auto& c) { CheckConfig(c, where); }, config);
}

int64_t& Classes(ModelConfig& config) {
  return std::visit([](auto& c) -> int64_t& { return c.classes; }, config);
}

int64_t Classes(const ModelConfig& config) {
  return std::visit([](const auto& c) { return c.classes; }, config);
}

std::string& TaskOf(ModelConfig& config) {
  return std::visit([](auto& c) -> std::string& { return c.task; }, config);
}

const std::string& TaskOf(const ModelConfig& config) {
  return std::visit([](const auto& c) -> const std::string& { return c.task; }, config);
}

Graph BuildModel(const ModelConfig& config, const ModelBuild& b) {
  return std::visit(Cases{[&](const VitConfig& c) {
                            return BuildVit(c, {.loss = b.loss,
                                                .label_smoothing = b.label_smoothing,
                                                .drop_path = b.drop_path,
                                                .seed = b.seed,
                                                .mixed = b.mixed});
                          },
                          [&](const BertConfig& c) {
                            if (b.drop_path > 0) Fail("drop path is for vision transformers");
                            if (b.mixed) Fail("mixed images are for vision transformers");
                            const bool words = c.mask_rows > 0;
                            return BuildBert(
                                c, {.head = words ? BertHead::kMaskedLm : BertHead::kClassifier,
                                    .loss = b.loss,
                                    .label_smoothing = b.label_smoothing,
                                    .mask_rows = c.mask_rows,
                                    .label_words = c.label_words,
                                    .loss_weights = words && c.label_words.empty(),
                                    .seed = b.seed});
                          }},
                    config);
}

void InitModel(const ModelConfig& config, ParamStore& params, uint64_t seed) {
  std::visit(Cases{[&](const VitConfig& c) { InitVit(c, params, seed); },
                   [&](const BertConfig& c) { InitBert(c, params, seed); }},
             config);
}

std::map<std::string, Extents> ParamShapes(const ModelConfig& config) {
  std::map<std::string, Extents> shapes;
  auto add = [&](const Graph& g) {
    for (ValueId v : g.Leaves(Role::kParam)) shapes[g.value(v).name] = At(g.shape(v), {});
  };
  std::visit(Cases{[&](const VitConfig& c) { add(BuildVit(c)); },
                   [&](BertConfig c) {
                     c.pool = "pooler", c.mask_rows = 0;
                     add(BuildBert(c));
                     add(BuildBert(c, {.head = BertHead::kMaskedLm}));
                   }},
             config);
  return shapes;
}

}  // namespace graft
