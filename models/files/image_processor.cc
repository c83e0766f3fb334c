#include "models/files/image_processor.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "models/files/timm_config.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

// What transformers assumes where the file is silent.
struct ProcessorClass {
  const char* name;
  bool square;  // of a size that is one number: both sides, else the shorter one
  int64_t size, crop;
  int64_t resample;
  std::array<double, 3> mean, std;
};

constexpr int64_t kBilinear = 2, kBicubic = 3;  // PIL's numbers
constexpr std::array<double, 3> kHalf{0.5, 0.5, 0.5};
constexpr std::array<double, 3> kClipMean{0.48145466, 0.4578275, 0.40821073};
constexpr std::array<double, 3> kClipStd{0.26862954, 0.26130258, 0.27577711};
constexpr ProcessorClass kClasses[] = {
    {"ViTImageProcessor", true, 224, 0, kBilinear, kHalf, kHalf},
    {"DeiTImageProcessor", true, 256, 224, kBicubic, kHalf, kHalf},
    {"BitImageProcessor", false, 224, 224, kBicubic, kClipMean, kClipStd},
    {"CLIPImageProcessor", false, 224, 224, kBicubic, kClipMean, kClipStd}};

// The class that AutoImageProcessor chooses for the models that Graft reads.
constexpr std::pair<const char*, const char*> kClassOfModel[] = {
    {"vit", "ViTImageProcessor"},
    {"deit", "DeiTImageProcessor"},
    {"dinov2", "BitImageProcessor"},
    {"dinov2_with_registers", "BitImageProcessor"}};

// The present name of a class that has had others, such as ViTFeatureExtractor and
// ViTImageProcessorFast.
std::string CurrentName(std::string name) {
  for (const std::string_view end : {"Fast", "Pil"})
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  constexpr std::string_view kOld = "FeatureExtractor";
  if (name.ends_with(kOld)) name.replace(name.size() - kOld.size(), kOld.size(), "ImageProcessor");
  return name;
}

const ProcessorClass& ClassOf(const Json& processor, const std::string& model_type,
                              const std::string& path) {
  const char* key = "image_processor_type";
  std::optional<std::string> name = FindString(processor, key, path);
  if (!name) name = FindString(processor, key = "feature_extractor_type", path);
  for (const auto& [model, processor_class] : kClassOfModel)
    if (!name && model_type == model) name = processor_class;
  if (!name) Fail("{}: no image_processor_type", path);
  std::string known;
  for (const ProcessorClass& c : kClasses) {
    if (CurrentName(*name) == c.name) return c;
    known += (known.empty() ? "" : ", ") + std::string(c.name);
  }
  Fail("{}: {} '{}' is not supported; known: {}", path, key, *name, known);
}

// Refuses steps that change pixels in ways that --preprocess does not know.
void RefuseOtherSteps(const Json& processor, const std::string& path) {
  const std::vector<std::string> known{"do_resize", "do_center_crop", "do_rescale", "do_normalize",
                                       "do_convert_rgb"};
  for (const auto& [key, value] : processor.items()) {
    const bool step = key.starts_with("do_") || key == "use_square_size";
    if (step && std::ranges::find(known, key) == known.end() &&
        FindBool(processor, key, path).value_or(false))
      Fail("{}: {} = true is not supported", path, key);
  }
}

struct Sides {
  int64_t side;
  bool shorter;  // only the shorter side becomes so long
};

// Reads a number, [height, width], or an object of named sides.
Sides ReadSides(const Json& processor, const std::string& key, bool square,
                const std::string& path) {
  const Json& value = processor[key];
  const auto equal = [&](int64_t height, int64_t width) {
    if (height != width)
      Fail("{}: {} of {} x {} is not supported; expected a square", path, key, height, width);
    return Sides{height, false};
  };
  if (value.is_array()) {
    const std::vector<int64_t> both = GetInts(processor, key, 1, kMostStatedSide, path);
    if (both.size() != 2) Fail("{}: {}: expected [height, width]", path, key);
    return equal(both[0], both[1]);
  }
  if (!value.is_object()) return {GetInt(processor, key, 1, kMostStatedSide, path), !square};
  std::vector<std::string> named;
  for (const auto& [name, side] : value.items())
    if (!side.is_null()) named.push_back(name);
  const std::string where = path + ": " + key;
  const auto side = [&](const char* name) {
    return GetInt(value, name, 1, kMostStatedSide, where);
  };
  if (named == std::vector<std::string>{"height", "width"})
    return equal(side("height"), side("width"));
  if (named == std::vector<std::string>{"shortest_edge"}) return {side("shortest_edge"), true};
  Fail("{}: expected height and width, or shortest_edge, found {}", where,
       named.empty() ? "nothing" : fmt::format("{}", fmt::join(named, ", ")));
}

const char* FilterText(int64_t resample, const std::string& path) {
  if (resample == kBilinear) return "bilinear";
  if (resample == kBicubic) return "bicubic";
  const char* names[] = {"nearest", "Lanczos", "", "", "box", "Hamming"};
  Fail("{}: resample = {} ({}) is not supported; expected 2 (bilinear) or 3 (bicubic)", path,
       resample, names[resample]);
}

// Reads whether a step is done. A null is "no" to the library or, in its faster classes of some
// versions, "as usual": one word only where both are no.
bool Does(const Json& processor, const char* key, bool usual, const std::string& path) {
  if (usual && processor.contains(key) && processor[key].is_null())
    Fail(
        "{}: {} = null is read in different ways by versions of transformers; expected true or "
        "false",
        path, key);
  return FindBool(processor, key, path).value_or(usual);
}

// Makes a text such as "resize=256,crop=224,fit=both,filter=bicubic".
std::string GeometryText(const Json& processor, const ProcessorClass& c, const std::string& path) {
  const bool resizes = Does(processor, "do_resize", true, path);
  const bool crops = Does(processor, "do_center_crop", c.crop > 0, path);
  const char* filter =
      FilterText(FindInt(processor, "resample", 0, 5, path).value_or(c.resample), path);
  const bool square = FindBool(processor, "default_to_square", path).value_or(c.square);
  const Sides size = Stated(processor, "size") ? ReadSides(processor, "size", square, path)
                                               : Sides{c.size, !c.square};
  int64_t crop = 0;
  if (crops && Stated(processor, "crop_size"))
    crop = ReadSides(processor, "crop_size", true, path).side;
  else if (crops)
    crop = c.crop;
  if (crops && crop == 0) Fail("{}: do_center_crop without crop_size", path);
  if (!resizes && !crops)
    Fail("{}: do_resize = false without a centre crop leaves images of any size", path);
  if (!crops && size.shorter)
    Fail("{}: size.shortest_edge without a centre crop leaves images that are not square", path);
  if (!resizes) return fmt::format("crop={},fit=none,center=floor", crop);
  if (crop > size.side)
    Fail("{}: crop_size {} is more than size {}; a border around images is not supported", path,
         crop, size.side);
  if (!crops || (crop == size.side && !size.shorter))
    return fmt::format("resize={},filter={}", size.side, filter);
  const bool even = !size.shorter && (size.side - crop) % 2 == 0;
  return fmt::format("resize={},crop={}{}{},filter={}", size.side, crop,
                     size.shorter ? "" : ",fit=both", even ? "" : ",center=floor", filter);
}

// (v * factor - mean) / std is (v / 255 - mean / k) / (std / k) with k = 255 factor.
std::string ColoursText(const Json& processor, const ProcessorClass& c, const std::string& path) {
  double k = 255;
  if (Does(processor, "do_rescale", true, path))
    k *= FindNumber(processor, "rescale_factor", 1e-9, 1e9, path).value_or(1.0 / 255);
  if (std::abs(k - 1) < 1e-7) k = 1;  // 1/255 with the digits that somebody wrote
  Json mean = c.mean, std = c.std;
  if (Stated(processor, "image_mean")) mean = processor["image_mean"];
  if (Stated(processor, "image_std")) std = processor["image_std"];
  if (!Does(processor, "do_normalize", true, path)) mean = 0, std = 1;
  return "mean=" + ChannelsText(mean, "image_mean", k, path) +
         ",std=" + ChannelsText(std, "image_std", k, path);
}

void ReadProcessorFile(const std::string& file, const Json& config, LoadedModel* m) {
  const Json processor = ReadJson(file);
  const std::string type =
      config.is_object() ? FindString(config, "model_type", m->source).value_or("") : "";
  m->preprocess = ProcessorText(processor, type, file);
}

}  // namespace

bool Stated(const Json& object, const char* key) {
  return object.contains(key) && !object[key].is_null();
}

std::string ChannelsText(const Json& value, const std::string& key, double divisor,
                         const std::string& path) {
  const bool positive = key.ends_with("std");
  const auto fail = [&] {
    Fail("{}: {}: expected three {} numbers, or one for all channels, found {}", path, key,
         positive ? "positive" : "finite", value.dump().substr(0, 80));
  };
  std::vector<double> numbers;
  for (const Json& number : value.is_array() ? value : Json::array({value})) {
    if (!number.is_number()) fail();
    numbers.push_back(number.get<double>() / divisor);
    const auto single = static_cast<float>(numbers.back());
    if (!std::isfinite(single) || (positive && single <= 0)) fail();
  }
  if (numbers.size() != 3 && (value.is_array() || numbers.size() != 1)) fail();
  numbers.resize(3, numbers[0]);
  return fmt::format("{}", fmt::join(numbers, "|"));
}

std::string ProcessorText(const Json& processor, const std::string& model_type,
                          const std::string& path) {
  if (!processor.is_object()) Fail("{}: expected an object, found {}", path, processor.type_name());
  const ProcessorClass& c = ClassOf(processor, model_type, path);
  RefuseOtherSteps(processor, path);
  return GeometryText(processor, c, path) + "," + ColoursText(processor, c, path);
}

void ReadStatedPreprocess(const Json& config, LoadedModel* model) {
  LoadedModel& m = *model;
  if (m.is_bert()) return;
  if (const auto it = m.metadata.find("graft.preprocess"); it != m.metadata.end()) {
    m.preprocess = it->second, m.preprocess_source = "metadata graft.preprocess";
    return;
  }
  const std::filesystem::path folder(m.source);
  const std::string file = (folder / "preprocessor_config.json").string();
  std::error_code ignored;
  try {
    const bool link = std::filesystem::is_symlink(file, ignored);
    const bool there = std::filesystem::exists(file, ignored);
    if (link && !there) Fail("{}: a link to a file that is not there", file);
    if (there) {
      m.preprocess_source = "preprocessor_config.json";
      ReadProcessorFile(file, config, &m);
    } else if (const auto timm = ReadTimmConfig(config, (folder / "config.json").string())) {
      m.preprocess_source = "pretrained_cfg of config.json";
      m.preprocess = timm->preprocess, m.preprocess_problem = timm->preprocess_problem;
    }
  } catch (const Error& e) {  // it matters only to those who need the transform
    m.preprocess_problem = e.what();
  }
}

}  // namespace graft
