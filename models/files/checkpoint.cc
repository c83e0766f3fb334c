#include "models/files/checkpoint.h"

#include <algorithm>
#include <set>

#include "models/arch_text.h"
#include "models/files/architecture.h"
#include "models/files/class_names.h"
#include "models/files/hf_config.h"
#include "models/files/unused_tensors.h"
#include "models/files/wrapper.h"
#include "models/transformer.h"

namespace graft {

namespace {

template <class Wanted, class Config>
auto& As(Config& config, const std::string& source, const char* wanted) {
  auto* found = std::get_if<Wanted>(&config);
  if (!found) Fail("{}: expected a {}, found {}", source, wanted, ArchitectureName(config));
  return *found;
}

constexpr const char *kVit = "vision transformer", *kBert = "BERT";

}  // namespace

VitConfig& LoadedModel::vit() { return As<VitConfig>(config, source, kVit); }
const VitConfig& LoadedModel::vit() const { return As<VitConfig>(config, source, kVit); }
BertConfig& LoadedModel::bert() { return As<BertConfig>(config, source, kBert); }
const BertConfig& LoadedModel::bert() const { return As<BertConfig>(config, source, kBert); }

namespace {

LoadedModel LoadInit(const std::string& source, uint64_t seed) {
  LoadedModel model;
  model.source = source;
  model.config = ModelByName(source.substr(5));
  if (model.is_bert()) model.layout = Layout::kHuggingFace, model.root = "bert.";
  for (const char* fact :
       {"heads", "eps", "gelu", "activation", "patch_size", "image_size", "pool"})
    model.fact_source[fact] = "architecture name";
  InitModel(model.config, model.params, seed);
  return model;
}

bool IsOfMaskedLm(const std::string& name) { return name.starts_with("cls.predictions."); }

// Puts a file tensor into the store under its canonical names. Returns false for a tensor of a
// masked-LM head that cannot be decoded with the word embeddings: one with a decoder of its own, or
// for another vocabulary.
bool LoadKey(const FileKey& key, const std::string& name, LoadedModel& m) {
  const FormSizes sizes = SizesOf(m.config);
  const std::vector<int64_t> want = FileShape(key.form, key.shape, sizes);
  const std::vector<int64_t>& found = *m.file->Shape(name);
  if (found != want && IsOfMaskedLm(name)) return false;
  if (found != want)
    Fail("{}: '{}' has shape [{}], the architecture {} wants [{}]; hint: another --arch?", m.source,
         name, fmt::join(found, ","), m.architecture(), fmt::join(want, ","));
  m.ledger.matched.push_back(name);
  ParamStore whole;
  m.file->Load(name, "t", &whole);
  if (key.copy && m.params.Has(key.canonical[0])) {
    const auto first = std::as_bytes(m.params.values(key.canonical[0]));
    return std::ranges::equal(first, std::as_bytes(whole.values("t")));
  }
  if (Permutes(key.form)) {
    m.params.Set(key.canonical[0], key.shape,
                 FromFile(key.form, key.shape, sizes, whole.values("t")));
    return true;
  }
  // The store's shapes are canonical: a stacked tensor is cut by rows, a token or a convolution is
  // seen as a matrix. Both are views of the same bytes.
  const std::shared_ptr<ParamStore> owner = std::make_shared<ParamStore>(whole);
  const float* data = owner->data("t");
  Extents part = key.shape;
  part.d[0] /= std::ssize(key.canonical);
  for (const std::string& canonical : key.canonical) {
    m.params.SetView(canonical, part, owner, data);
    data += part.size();
  }
  return true;
}

// Sets a masked-LM head aside whose decoder is not the word embeddings, as no graph has such a
// head. The classifier does not read it; its tensors are kept as they are.
void SetAsideMaskedLm(LoadedModel& m, std::set<std::string>& used) {
  if (std::erase_if(used, IsOfMaskedLm) == 0) return;
  std::erase_if(m.ledger.matched, IsOfMaskedLm);
  for (const std::string& name : m.params.names())
    if (name.starts_with("mlm.")) m.params.Erase(name);
  m.notices.push_back(m.source +
                      ": the decoder of the masked-LM head is not the word embeddings; the head is "
                      "kept as it is and not used");
}

// Only a head may be missing, and only as a whole, since the task brings another.
void CheckComplete(const LoadedModel& m) {
  const bool has_head = m.params.Has("head.weight") || m.params.Has("head.bias");
  for (const std::string& name : m.ledger.missing)
    if (has_head || !name.starts_with("head."))
      Fail("{}: no tensor for '{}'{}", m.source, name, DidYouMean(name, m.ledger.unexpected));
}

LoadedModel LoadFile(const std::string& source, const std::string& arch) {
  LoadedModel model;
  model.source = source;
  model.file = OpenTensorFile(source);
  if (const std::string wrapper = WrapperOf(*model.file, source); !wrapper.empty()) {
    model.file = WithoutWrapper(model.file, wrapper);
    model.notices.push_back(
        fmt::format("{}: '{}' in front of all names is left out", source, wrapper));
  }
  model.metadata = model.file->metadata();
  RecogniseArchitecture(*model.file, arch, &model);
  std::set<std::string> used, missing;
  bool tied = TiesDecoder(model);
  for (const FileKey& key : FileKeys(model.layout, model.root, model.config)) {
    const std::string name = key.In(*model.file);
    if (key.instead && model.params.Has(key.canonical[0])) continue;  // a second one is unexpected
    if (!name.empty())
      tied &= LoadKey(key, name, model), used.insert(name);
    else if (!key.copy && !key.instead)
      missing.insert(key.canonical.begin(), key.canonical.end());
  }
  if (!tied) SetAsideMaskedLm(model, used);
  for (const std::string& name : BuildModel(model.config).ParamNames())
    if (missing.contains(name) && !model.params.Has(name)) model.ledger.missing.push_back(name);
  for (const std::string& name : model.file->names())
    if (!used.contains(name)) model.ledger.unexpected.push_back(name);
  CheckComplete(model);
  return model;
}

// Checks --arch even for a file whose config.json tells everything: a wrong name must not pass in
// silence.
void CheckArch(const std::string& source, const std::string& arch) {
  if (arch.empty()) return;
  if (source.starts_with("init:"))
    FailUsage("--arch {}: is for files; {} names its architecture itself", arch, source);
  try {
    ParseArch(arch);
  } catch (const Error& e) {
    FailUsage("--arch: {}", e.what());
  }
}

}  // namespace

LoadedModel LoadToInspect(const std::string& source, const std::string& arch, uint64_t seed) {
  CheckArch(source, arch);
  return source.starts_with("init:") ? LoadInit(source, seed) : LoadFile(source, arch);
}

LoadedModel LoadModel(const std::string& source, const std::string& arch, uint64_t seed) {
  LoadedModel model = LoadToInspect(source, arch, seed);
  CheckUnused(model);
  return model;
}

bool HasTrainedHead(const LoadedModel& model, const std::string& task) {
  return model.params.Has("head.weight") && !model.source.starts_with("init:") &&
         TaskOf(model.config) == task && (task != kClassify || Classes(model.config) > 1);
}

namespace {

bool HeadServes(const LoadedModel& model, const std::vector<std::string>& labels,
                const std::string& task) {
  if (!model.params.Has("head.weight") || Classes(model.config) != std::ssize(labels)) return false;
  if (TaskOf(model.config) != task) return false;
  if (model.labels == labels) return true;  // also what an earlier call has made
  if (!HasTrainedHead(model, task)) return false;
  if (task == kRegression) return true;  // columns are told apart by their order
  const std::optional<ClassMatch> match = MatchClasses(labels, model.labels);
  return match && match->SameOrder();
}

}  // namespace

void AdaptClasses(LoadedModel& model, const std::vector<std::string>& labels, uint64_t seed,
                  bool new_head, const std::string& task) {
  if (labels.empty()) return;
  const bool keep = !new_head && HeadServes(model, labels, task);
  TaskOf(model.config) = task;
  model.labels = labels;
  if (keep) return;
  model.ledger.reshaped.push_back({"head", fmt::format("{} classes", Classes(model.config)),
                                   fmt::format("{} classes", labels.size()),
                                   "fresh head for the task"});
  Classes(model.config) = std::ssize(labels);
  for (const char* name : {"head.weight", "head.bias", "head.dist.weight", "head.dist.bias"})
    if (model.params.Has(name)) model.params.Erase(name);
  InitMissing(BuildModel(model.config), model.params, seed, "head.");
}

void AdaptModel(LoadedModel& model, int64_t image_size, const std::vector<std::string>& labels,
                uint64_t seed, bool new_head, const std::string& task) {
  VitConfig& c = model.vit();
  if (image_size != c.image_size) {
    VitConfig resized = c;
    resized.image_size = image_size;
    CheckConfig(resized, model.source + " with images as the preprocessing makes them");
    const bool plain =
        model.layout == Layout::kHuggingFace && c.layer_scale && c.registers == 0;  // dinov2
    ResizePositions(model.params, c.token_positions(), c.image_size / c.patch_size,
                    image_size / c.patch_size,
                    plain ? Resampling::kPlain : Resampling::kAntialiased);
    model.ledger.reshaped.push_back(
        {"pos_embed", fmt::format("[{},{}]", c.token_positions() + c.patches(), c.width),
         fmt::format("[{},{}]", c.token_positions() + resized.patches(), c.width),
         fmt::format("positions resampled for {0}x{0} images", image_size)});
    model.notices.push_back(
        fmt::format("{0}: position embeddings of {1}x{1} images, resampled for {2}x{2} as {3}",
                    model.source, c.image_size, image_size,
                    plain ? "transformers does for dinov2: bicubic, not antialiased"
                          : "timm does: bicubic, antialiased"));
    c = resized;
  }
  AdaptClasses(model, labels, seed, new_head, task);
}

void SetPooling(LoadedModel& model, const std::string& pool) {
  BertConfig changed = model.bert();
  changed.pool = pool;
  CheckConfig(changed, model.source);
  if (pool == "pooler" && !model.params.Has("pooler.weight"))
    Fail("{}: has no pooler; hint: pool by cls or mean", model.source);
  model.bert() = changed;
  model.fact_source["pool"] = "chosen";
}

}  // namespace graft
