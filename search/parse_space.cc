// The text of search spaces.
#include <algorithm>

#include "runtime/words.h"
#include "search/space.h"

namespace graft {
namespace {

// The choices of "{a|b|c}"; none for a value without braces.
std::vector<std::string> ParseChoices(const std::string& method, const std::string& option,
                                      std::string_view value) {
  if (value.find_first_of("{}") == value.npos) return {};
  const std::string where = fmt::format("space: '{}', option '{}' = '{}'", method, option, value);
  if (!value.starts_with('{') || !value.ends_with('}') ||
      value.find_first_of("{}", 1) != value.size() - 1)
    FailUsage("{}: expected one pair of braces around all choices, such as {{2|4|8}}", where);
  value = value.substr(1, value.size() - 2);
  std::vector<std::string> choices;
  for (bool more = true; more;) {
    const size_t bar = std::min(value.find('|'), value.size());
    const std::string choice(Trim(value.substr(0, bar)));
    if (choice.empty()) FailUsage("{}: a choice is empty", where);
    if (std::ranges::find(choices, choice) != choices.end())
      FailUsage("{}: '{}' is there twice", where, choice);
    choices.push_back(choice);
    more = bar < value.size();
    value.remove_prefix(std::min(bar + 1, value.size()));
  }
  if (choices.size() < 2) FailUsage("{}: one choice is none to make; expected two or more", where);
  constexpr size_t kMost = 1000;
  if (choices.size() > kMost)
    FailUsage("space: '{}', option '{}': {} choices, expected at most {}", method, option,
              choices.size(), kMost);
  return choices;
}

// A path is trained on what all paths share, so that no term may change that for its own path.
void CheckTerm(const std::string& name) {
  const MethodRecord& record = FindMethod(name);
  const auto refuse = [&](const char* why) {
    FailUsage("space: '{}' {}; hint: search without it, and train what is found with it", name,
              why);
  };
  if (record.searched)
    FailUsage("space: '{}' is found without gradients, which a supernet needs", name);
  if (record.phase == MethodPhase::kWeights || record.phase == MethodPhase::kQuantise)
    refuse("edits the weights that all candidates share");
  if (record.gradient) refuse("chooses which of the shared weights train");
  if (record.trains_nothing) refuse("is made of a model that has been trained");
}

}  // namespace

bool LeavesOut(const std::string& option, const std::string& choice) {
  return (option == "r" || option == "tokens") && choice == "0";
}

Space ParseSpace(std::string_view text) {
  Space space;
  bool any = false;
  for (const MethodTerm& term : ParseMethod(text)) {
    SpaceTerm& t = space.emplace_back(SpaceTerm{{term.name, {}}, {}, {}});
    for (const auto& [option, value] : term.options) {
      SpaceOption choices{option, ParseChoices(term.name, option, value)};
      any = any || !choices.choices.empty();
      if (choices.choices.empty())
        t.fixed.options[option] = value;
      else if (option == "targets" || option == "head")
        FailUsage("space: '{}', option '{}' is no choice of a place; hint: blocks={{0-2|0-5}}",
                  term.name, option);
      else if (option == "blocks")
        t.blocks = std::move(choices);
      else
        t.options.push_back(std::move(choices));
    }
    CheckTerm(term.name);
  }
  if (!any)
    FailUsage(
        "space '{}': there is nothing to choose; expected choices in braces, such as "
        "lora(r={{0|2|4}}), or glora",
        text);
  return space;
}

Method SampleOf(const Space& space) {
  Method method;
  for (const SpaceTerm& term : space) {
    method.push_back(term.fixed);
    for (const SpaceOption& o : term.options)
      method.back().options[o.name] = *std::ranges::find_if(
          o.choices, [&](const std::string& c) { return !LeavesOut(o.name, c); });
  }
  return method;
}

}  // namespace graft
