// Options of methods that make no sense: for every method and option that there is.
#include <gtest/gtest.h>

#include "models/files/checkpoint.h"
#include "models/model.h"
#include "peft/method.h"

namespace graft::method_options_test {
namespace {

const LoadedModel& Small(bool text) {
  static const LoadedModel models[] = {
      LoadModel("init:vit(width=16,depth=2,heads=2,mlp=64,patch=8,image=16,classes=3)"),
      LoadModel("init:bert(vocab=40,positions=24,width=16,depth=2,heads=2,mlp=64,classes=3)")};
  return models[text];
}

// The message of the mistake, or "" if there is none; anything but Error is a crash.
std::string Applied(const MethodTerm& term, bool text) {
  const LoadedModel& model = Small(text);
  Graph g = BuildModel(model.config);
  ParamStore params = model.params;
  try {
    ApplyMethod(g, params, {term}, 0);
    return "";
  } catch (const Error& e) {
    EXPECT_TRUE(e.kind == ErrorKind::kUsage || e.kind == ErrorKind::kUser) << e.what();
    EXPECT_NE(std::string(e.what()), "");
    return e.what();
  }
}

bool IsNumber(std::string_view text) {
  char* end = nullptr;
  const std::string copy(text);
  std::strtod(copy.c_str(), &end);
  return !copy.empty() && end == copy.c_str() + copy.size();
}

bool TakesDefaults(const MethodRecord& record, bool text) {
  return Applied({std::string(record.name), {}}, text).empty();
}

class MethodOptions : public ::testing::TestWithParam<const MethodRecord*> {};

// What is refused is refused with a word about the option; what is accepted leaves a graph.
TEST_P(MethodOptions, AreRefusedOrAcceptedOutOfRange) {
  const MethodRecord& record = *GetParam();
  for (const bool text : {false, true})
    for (const MethodOption& o : record.options())
      for (const char* value : {"x", "", "-1e9", "1e9", "-1", "0.5", "nan", "inf", "1e999"}) {
        SCOPED_TRACE(
            fmt::format("{}({}={}) on {}", record.name, o.name, value, text ? "texts" : "images"));
        const std::string message =
            Applied({std::string(record.name), {{std::string(o.name), value}}}, text);
        const std::string_view v = value;
        if (IsNumber(o.value) && (v == "x" || v.empty() || v == "nan")) {
          EXPECT_NE(message, "") << "no number";
        }
        // Without its defaults it would be refused in any case, for other reasons.
        if (!message.empty() && IsNumber(o.value) && TakesDefaults(record, text)) {
          EXPECT_NE(message.find(std::string(o.name)), std::string::npos) << message;
        }
      }
}

TEST_P(MethodOptions, TargetsMatchSomething) {
  const MethodRecord& record = *GetParam();
  for (const MethodOption& o : record.options())
    for (const bool text : {false, true}) {
      if (o.name != "targets" || !TakesDefaults(record, text)) continue;
      const std::string name(record.name);
      for (const char* nowhere : {"attn.z", "blocks.7.attn.q", "nothing*"})
        EXPECT_NE(Applied({name, {{"targets", nowhere}}}, text).find(nowhere), std::string::npos)
            << nowhere;
      EXPECT_NE(Applied({name, {{"targets", "|"}}}, text).find("found nothing"), std::string::npos);
    }
}

TEST_P(MethodOptions, HeadIsTrainedOrFrozen) {
  const std::string name(GetParam()->name);
  for (const bool text : {false, true}) {
    if (!TakesDefaults(*GetParam(), text)) continue;
    EXPECT_NE(Applied({name, {{"head", "forzen"}}}, text).find("did you mean 'frozen'"),
              std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(All, MethodOptions,
                         ::testing::ValuesIn(AllMethods().begin(), AllMethods().end()),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : info.param->name)
                             if (std::isalnum(static_cast<unsigned char>(c))) name += c;
                           return name;
                         });

}  // namespace
}  // namespace graft::method_options_test
