#include "models/files/timm_config.h"

#include <cmath>

#include "models/files/image_processor.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr int64_t kMostClasses = 1 << 30;

// Reads [channels, height, width]. What the model was made for counts more than what its weights
// came with.
int64_t InputSide(const Json& pretrained, const Json& args, const std::string& path) {
  std::vector<int64_t> size{3, 224, 224};
  if (Stated(pretrained, "input_size"))
    size = GetInts(pretrained, "input_size", 1, kMostStatedSide, path);
  if (size.size() != 3) Fail("{}: input_size: expected [channels, height, width]", path);
  if (FindBool(pretrained, "fixed_input_size", path).value_or(false) && Stated(args, "img_size")) {
    const bool list = args["img_size"].is_array();
    const auto sides = list ? GetInts(args, "img_size", 1, kMostStatedSide, path)
                            : std::vector(2, GetInt(args, "img_size", 1, kMostStatedSide, path));
    if (sides.size() != 2) Fail("{}: img_size: expected one or two numbers", path);
    size = {size[0], sides[0], sides[1]};
  }
  size[0] = FindInt(args, "in_chans", 1, kMostStatedSide, path).value_or(size[0]);
  if (size[0] != 3 || size[1] != size[2])
    Fail("{}: input_size [{}] is not supported; expected [3, N, N]", path, fmt::join(size, ", "));
  return size[1];
}

// The transform that timm.data.create_transform makes for evaluation.
std::string TransformText(const Json& pretrained, const Json& args, const std::string& path) {
  const int64_t side = InputSide(pretrained, args, path);
  double share = FindNumber(pretrained, "crop_pct", 0, 1, path).value_or(0);
  if (share == 0) share = 0.875;
  const auto scaled = static_cast<int64_t>(std::floor(static_cast<double>(side) / share));
  if (scaled > kMostStatedSide)
    Fail("{}: crop_pct = {}: images of {} pixels are too large", path, share, scaled);
  std::string mode = FindString(pretrained, "crop_mode", path).value_or("");
  if (mode.empty()) mode = "center";
  if (mode != "center" && mode != "squash")
    Fail("{}: crop_mode '{}' is not supported; expected center or squash", path, mode);
  std::string filter = FindString(pretrained, "interpolation", path).value_or("");
  if (filter.empty()) filter = "bicubic";
  if (filter != "bilinear" && filter != "bicubic")
    Fail("{}: interpolation '{}' is not supported; expected bilinear or bicubic", path, filter);
  const bool squash = mode == "squash";
  const std::string crop =
      squash && scaled == side ? "" : fmt::format(",crop={}{}", side, squash ? ",fit=both" : "");
  const auto channels = [&](const char* key, Json otherwise) {
    return ChannelsText(Stated(pretrained, key) ? pretrained[key] : otherwise, key, 1, path);
  };
  return fmt::format("resize={}{},filter={},mean={},std={}", scaled, crop, filter,
                     channels("mean", {0.485, 0.456, 0.406}),
                     channels("std", {0.229, 0.224, 0.225}));
}

std::string ArgText(const Json& value) {
  if (value.is_null()) return "none";
  return value.is_string() ? value.get<std::string>() : DumpJson(value);
}

// Reads a list, or an object of names by class number, which may have gaps.
std::vector<std::string> LabelNames(const Json& holder, const char* key, const std::string& path) {
  if (holder[key].is_array()) return GetStrings(holder, key, path);
  const Json& names = GetObject(holder, key, path);
  std::vector<std::string> labels;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto name = FindString(names, std::to_string(i), path + ": " + key);
    if (!name) return {};
    labels.push_back(*name);
  }
  return labels;
}

}  // namespace

std::optional<TimmConfig> ReadTimmConfig(const Json& config, const std::string& path) {
  if (!config.is_object() || Stated(config, "model_type") || !Stated(config, "architecture"))
    return {};
  TimmConfig timm;
  timm.architecture = GetString(config, "architecture", path);
  timm.architecture.resize(std::min(timm.architecture.find('.'), timm.architecture.size()));
  const bool flat = !Stated(config, "pretrained_cfg");  // as timm wrote it before 0.9
  const Json& pretrained = flat ? config : GetObject(config, "pretrained_cfg", path);
  const Json args =
      Stated(config, "model_args") ? GetObject(config, "model_args", path) : Json::object();
  for (const auto& [key, value] : args.items()) timm.args[key] = ArgText(value);
  // The last place that states it wins, as in timm; what stands beside these is for readers.
  for (const Json* from : {&pretrained, &args})
    if (const auto pool = FindString(*from, "global_pool", path))
      timm.global_pool = pool->empty() ? "none" : *pool;
  for (const Json* from : {&pretrained, &config, &args})
    timm.classes = FindInt(*from, "num_classes", 0, kMostClasses, path).value_or(timm.classes);
  for (const Json* from : {&pretrained, &config})
    for (const char* key : {"labels", "label_names"})
      if (Stated(*from, key)) timm.labels = LabelNames(*from, key, path);
  if (!timm.labels.empty() && timm.classes >= 0 && std::ssize(timm.labels) != timm.classes)
    Fail("{}: label_names has {} names, but num_classes = {}", path, timm.labels.size(),
         timm.classes);
  try {
    timm.preprocess = TransformText(pretrained, args, path);
  } catch (const Error& e) {
    timm.preprocess_problem = e.what();
  }
  return timm;
}

}  // namespace graft
