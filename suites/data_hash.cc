#include "suites/data_hash.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <vector>

#include "data/dataset.h"
#include "data/image_places.h"
#include "data/text.h"
#include "data/text_columns.h"
#include "runtime/error.h"
#include "runtime/io/field_hash.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

void AddNames(const std::vector<std::string>& names, FieldHash* fields) {
  fields->Add(int64_t{std::ssize(names)});
  for (const std::string& name : names) fields->Add(name);
}

void AddImages(const std::vector<Example>& examples, FieldHash* fields) {
  std::vector<std::string> paths;
  for (const Example& e : examples) paths.push_back(e.path);
  const std::vector<std::string> names = NamesBelowCommonFolder(paths);
  for (size_t i = 0; i < paths.size(); ++i) {
    fields->Add(names[i]);
    fields->Add(int64_t{examples[i].label});
    std::error_code none;
    const uintmax_t size = fs::file_size(paths[i], none);
    fields->Add(none ? -1 : static_cast<int64_t>(size));
  }
}

}  // namespace

std::string HashOfData(const std::string& directory, const std::string& split,
                       const std::string& columns, bool skip_bad) {
  FieldHash fields;
  const std::string tables = ClassesOf(directory);
  if (HoldsTexts(tables)) {
    const TextDataset data(tables, ParseTextColumns(columns), skip_bad);
    if (NamesImages(data)) {
      ImageDataset images(data);
      if (skip_bad) images.AllowMissing();
      AddImages(images.Load(split).examples, &fields);
    }
    AddNames(data.class_names(), &fields);
    fields.Add(int64_t{data.num_classes()});
    for (const TextExample& e : data.Load(split).examples) {
      fields.Add(e.text), fields.Add(int64_t{e.label});
      if (e.second) fields.Add("second"), fields.Add(*e.second);
    }
    return fields.Hex();
  }
  ImageDataset data(directory);
  if (skip_bad) data.AllowMissing();
  AddNames(data.class_names(), &fields);
  fields.Add(int64_t{data.num_classes()});
  AddImages(data.Load(split).examples, &fields);
  return fields.Hex();
}

}  // namespace graft
