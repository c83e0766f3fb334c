#include "models/files/wrapper.h"

#include <algorithm>
#include <set>

#include "models/files/architecture.h"

namespace graft {

std::string WrapperOf(const TensorFile& file, const std::string& source) {
  std::set<std::string> wrappers;
  for (const std::string& name : file.names())
    for (const std::string& sign : SignsOfModels()) {
      if (name == sign) return "";
      if (name.ends_with("." + sign)) wrappers.insert(name.substr(0, name.size() - sign.size()));
    }
  // For "a.vit.embeddings.cls_token" two wrappers are found: "a.", as "vit.embeddings.cls_token" is
  // a sign, and "a.vit.", as "embeddings.cls_token" is one, too. The shorter is meant.
  std::erase_if(wrappers, [&](const std::string& longer) {
    return std::ranges::any_of(wrappers, [&](const std::string& shorter) {
      return longer != shorter && longer.starts_with(shorter);
    });
  });
  if (wrappers.size() > 1)
    Fail(
        "{}: holds several models, '{}' and '{}'; expected one; hint: keep the tensors of one in a "
        "file of its own",
        source, *wrappers.begin(), *std::next(wrappers.begin()));
  return wrappers.empty() ? "" : *wrappers.begin();
}

namespace {

class Unwrapped : public TensorFile {
 public:
  Unwrapped(std::shared_ptr<const TensorFile> file, std::string wrapper)
      : file_(std::move(file)), wrapper_(std::move(wrapper)) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> names = file_->names();
    for (std::string& name : names)
      if (name.starts_with(wrapper_)) name.erase(0, wrapper_.size());
    std::ranges::sort(names);
    return names;
  }
  const std::vector<int64_t>* Shape(std::string_view name) const override {
    return file_->Shape(Name(name));
  }
  void Load(std::string_view name, std::string as, ParamStore* store) const override {
    file_->Load(Name(name), std::move(as), store);
  }
  const StringMap& metadata() const override { return file_->metadata(); }
  std::optional<TensorToWrite> Raw(std::string_view name) const override {
    std::optional<TensorToWrite> raw = file_->Raw(Name(name));
    if (raw) raw->name = name;
    return raw;
  }

 private:
  std::string Name(std::string_view name) const {
    const std::string wrapped = wrapper_ + std::string(name);
    return file_->Shape(wrapped) ? wrapped : std::string(name);
  }
  std::shared_ptr<const TensorFile> file_;
  std::string wrapper_;
};

}  // namespace

std::shared_ptr<const TensorFile> WithoutWrapper(std::shared_ptr<const TensorFile> file,
                                                 const std::string& wrapper) {
  return std::make_shared<Unwrapped>(std::move(file), wrapper);
}

}  // namespace graft
