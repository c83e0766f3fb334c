#include "suites/grid.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "runtime/words.h"

namespace graft {
namespace {

bool IsField(const std::string& name) {
  return std::ranges::find(GridOptions(), name) != GridOptions().end();
}

bool HasOption(const MethodTerm& term, const std::string& name) {
  return CompleteOptions(term).contains(name);
}

template <class T>
void ParseValue(const std::string& text, const std::string& where, T* field) {
  if constexpr (std::is_same_v<T, std::string>) {
    *field = text;
  } else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *field);
    if (error != std::errc() || end != text.data() + text.size())
      FailUsage("{}: expected a {}, found '{}'", where,
                std::is_integral_v<T> ? "whole number" : "number", text);
  }
}

}  // namespace

const std::vector<std::string>& GridOptions() {
  static const std::vector<std::string> kNames{
      "lr",        "weight_decay", "epochs",        "batch_size", "warmup",     "label_smoothing",
      "drop_path", "momentum",     "clip",          "schedule",   "optimizer",  "augment",
      "no_decay",  "lr_scale",     "class_weights", "preprocess", "max_length", "pool"};
  return kNames;
}

std::vector<GridAxis> ParseGrid(const std::string& text, const std::string& flag) {
  std::vector<GridAxis> axes;
  if (text.empty()) return axes;
  size_t combinations = 1;
  for (const std::string& part : SplitAt(text, ',')) {
    const size_t equals = part.find('=');
    if (equals == part.npos || equals == 0)
      FailUsage("{} '{}': expected OPTION=VALUE|VALUE, joined by commas; found '{}'", flag, text,
                part);
    GridAxis axis{part.substr(0, equals), SplitAt(part.substr(equals + 1), '|')};
    std::string field = axis.name;
    std::ranges::replace(field, '-', '_');
    if (IsField(field)) axis.name = field;
    if (std::ranges::find(axes, axis.name, &GridAxis::name) != axes.end())
      FailUsage("{} '{}': option '{}' is there twice", flag, text, axis.name);
    const std::set<std::string> different(axis.values.begin(), axis.values.end());
    if (different.contains("")) FailUsage("{} '{}': '{}' has an empty value", flag, text, part);
    if (different.size() != axis.values.size())
      FailUsage("{} '{}': '{}' has a value twice", flag, text, part);
    if (axis.values.size() < 2)
      FailUsage("{} '{}': '{}' leaves no choice; expected values joined by '|'", flag, text, part);
    combinations *= axis.values.size();
    if (combinations > kMostChoices)
      FailUsage("{} '{}': more than {} combinations", flag, text, kMostChoices);
    axes.push_back(std::move(axis));
  }
  return axes;
}

std::vector<GridAxis> AxesFor(const std::vector<GridAxis>& axes, const Method& method) {
  std::vector<GridAxis> mine;
  for (const GridAxis& axis : axes)
    if (IsField(axis.name) ||
        std::ranges::any_of(method, [&](const MethodTerm& t) { return HasOption(t, axis.name); }))
      mine.push_back(axis);
  return mine;
}

void CheckAxes(const std::vector<GridAxis>& axes, const std::vector<std::string>& methods,
               const std::string& flag) {
  for (const GridAxis& axis : axes) {
    const auto has = [&](const std::string& method) {
      return !AxesFor({axis}, ParseMethod(method)).empty();
    };
    if (std::ranges::any_of(methods, has)) continue;
    FailUsage("{} {}: neither a training option nor one of {}{}", flag, axis.name,
              fmt::join(methods, ", "), DidYouMean(axis.name, GridOptions()));
  }
}

std::vector<Choice> Combinations(const std::vector<GridAxis>& axes) {
  std::vector<Choice> all{{}};
  for (const GridAxis& axis : axes) {
    std::vector<Choice> longer;
    for (const Choice& begun : all)
      for (const std::string& value : axis.values) {
        longer.push_back(begun);
        longer.back().emplace_back(axis.name, value);
      }
    all = std::move(longer);
  }
  return all;
}

void Apply(const Choice& choice, const std::string& flag, RunConfig* config) {
  Method method = ParseMethod(config->method);
  for (const auto& [name, value] : choice) {
    const std::string where = fmt::format("{}: {}", flag, name);
    if (IsField(name)) {
      RunConfig::Visit(*config, [&](const char* field, auto& place) {
        if (name == field) ParseValue(value, where, &place);
      });
      if (name == "lr" && config->lr == 0) FailUsage("{}: expected more than 0, found 0", where);
      continue;
    }
    for (MethodTerm& term : method)
      if (HasOption(term, name)) term.options[name] = value;
  }
  config->method = ToString(method);
}

}  // namespace graft
