// The models of tests/fixtures/vit_forms.json as checkpoints on disk, with the logits that timm and
// transformers give them.
#pragma once
#include <cmath>
#include <map>
#include <vector>

#include "models/files/checkpoint.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"
#include "runtime/session.h"
#include "tests/test_util.h"

namespace graft {

struct VitForm {
  std::string name, arch;
  std::map<std::string, std::vector<int64_t>> tensors;
  std::vector<double> logits;  // of two images
  std::string config;          // config.json, "" for a file of timm
};

inline std::vector<VitForm> ReadVitForms() {
  const Json json = ReadJson(kFixtures + "vit_forms.json");
  std::vector<VitForm> forms;
  for (const Json& f : json["forms"])
    forms.push_back({f["name"], f["arch"], f["tensors"], f["logits"],
                     f.contains("config") ? f["config"].dump() : ""});
  return forms;
}

inline VitForm VitFormNamed(const std::string& name) {
  for (const VitForm& form : ReadVitForms())
    if (form.name == name) return form;
  throw Error("no form " + name);
}

// sin(0.37 (i + 1) + the sum of the name's letters), as make_vit_forms.py has it.
inline std::vector<float> FormValues(const std::string& name, size_t size) {
  int letters = 0;
  for (const char c : name) letters += static_cast<unsigned char>(c);
  const bool gain = name.find("norm") != std::string::npos && name.ends_with("weight");
  const bool scale =
      name.find("gamma") != std::string::npos || name.find("lambda1") != std::string::npos;
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) {
    const double x = std::sin(0.37 * static_cast<double>(i + 1) + letters % 97);
    values[i] = static_cast<float>(gain              ? 1 + 0.2 * x
                                   : scale           ? 0.4 + 0.2 * x
                                   : name == "image" ? x
                                                     : 0.25 * x);
  }
  return values;
}

// Writes the form as it comes: a file of timm, or a Hugging Face directory. Returns its path.
inline std::string WriteForm(const TempDir& dir, const VitForm& form,
                             const StringMap& metadata = {{"format", "pt"}}) {
  std::map<std::string, std::vector<float>> values;
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, shape] : form.tensors) {
    size_t size = 1;
    for (const int64_t d : shape) size *= static_cast<size_t>(d);
    values[name] = FormValues(name, size);
    tensors.push_back(ToWrite<float>(name, shape, values[name]));
  }
  if (form.config.empty()) {
    WriteSafetensors(dir / (form.name + ".safetensors"), tensors, metadata);
    return dir / (form.name + ".safetensors");
  }
  dir.Write(form.name + "/config.json", form.config);
  WriteSafetensors(dir / (form.name + "/model.safetensors"), tensors, metadata);
  return dir / form.name;
}

// Logits of the fixture's two images.
inline std::vector<float> FormLogits(const Graph& g, ParamStore& params) {
  Session session(g, params, {.capacity = {2}});
  const Tensor image = session.Input("image");
  const std::vector<float> values = FormValues("image", static_cast<size_t>(image.shape.size()));
  std::copy(values.begin(), values.end(), image.f32());
  session.Run({2});
  const Tensor y = session.Output("logits");
  return {y.f32(), y.f32() + y.shape.size()};
}

// The largest difference over the largest logit.
template <class Expected>
double FormError(const std::vector<float>& found, const std::vector<Expected>& expected) {
  double worst = found.size() == expected.size() ? 0 : INFINITY, largest = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(found[i]) - expected[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  return worst / largest;
}

}  // namespace graft
