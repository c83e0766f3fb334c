#include "runtime/io/json.h"

#include <set>

#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/foreign_file.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

// The message without the bracket of "[json.exception.parse_error.101] parse error at ...".
std::string Reason(const nlohmann::json::exception& e) {
  const std::string_view text = e.what();
  const size_t end = text.find("] ");
  return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

// The message for a text of one line, without the line's number: in the caller's file the line may
// have another one.
std::string ReasonInLine(std::string reason) {
  constexpr std::string_view kLine = " at line 1, column ";
  if (const size_t at = reason.find(kLine); at != reason.npos)
    reason.replace(at, kLine.size(), " at column ");
  return reason;
}

const Json* Member(const Json& object, std::string_view key, const std::string& where) {
  if (!object.is_object())
    Fail("{}: expected an object with '{}', found {}", where, key, object.type_name());
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json& Wanted(const Json& object, std::string_view key, const std::string& where) {
  if (const Json* value = Member(object, key, where)) return *value;
  if (object.contains(key)) Fail("{}: '{}': expected a value, found null", where, key);
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  Fail("{}: expected a key '{}'{}", where, key, DidYouMean(key, keys));
}

[[noreturn]] void WrongType(const Json& value, std::string_view key, std::string_view expected,
                            const std::string& where) {
  Fail("{}: '{}': expected {}, found {}", where, key, expected, value.type_name());
}

int64_t ToInt(const Json& value, std::string_view key, int64_t min, int64_t max,
              const std::string& where) {
  if (!value.is_number_integer()) WrongType(value, key, "an integer", where);
  // An unsigned value above the signed range would come out negative.
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX};
  if (huge || value.get<int64_t>() < min || value.get<int64_t>() > max)
    Fail("{}: '{}': expected {} to {}, found {}", where, key, min, max, value.dump());
  return value.get<int64_t>();
}

double ToNumber(const Json& value, std::string_view key, double min, double max,
                const std::string& where) {
  if (!value.is_number()) WrongType(value, key, "a number", where);
  const double number = value.get<double>();
  if (!(number >= min && number <= max))
    Fail("{}: '{}': expected {} to {}, found {}", where, key, min, max, number);
  return number;
}

bool ToBool(const Json& value, std::string_view key, const std::string& where) {
  if (!value.is_boolean()) WrongType(value, key, "true or false", where);
  return value.get<bool>();
}

std::string ToText(const Json& value, std::string_view key, const std::string& where) {
  if (!value.is_string()) WrongType(value, key, "a string", where);
  return value.get<std::string>();
}

}  // namespace

Json ParseJson(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.bytes)
    Fail("{}: expected at most {} bytes of JSON, found {}", where, limits.bytes, text.size());
  // nlohmann takes a NUL for the end of the text and would not look at what follows it.
  if (text.find('\0') != std::string_view::npos) Fail("{}: JSON with a NUL byte", where);
  std::vector<std::set<std::string>> keys;  // of the objects around the current place
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth >= limits.depth) Fail("{}: JSON nested deeper than {}", where, limits.depth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key)
      if (auto key = parsed.get<std::string>(); !keys.back().insert(key).second)
        Fail("{}: duplicate key '{}'", where, key);
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& e) {
    const bool line = text.find('\n') == text.npos;
    Fail("{}: {}", where, line ? ReasonInLine(Reason(e)) : Reason(e));
  }
}

Json ReadJson(const std::string& path, const JsonLimits& limits) {
  const std::string text = ReadFile(path, limits.bytes);
  RefuseForeignText(path, text);
  return ParseJson(text, path, limits);
}

int64_t GetInt(const Json& object, std::string_view key, int64_t min, int64_t max,
               const std::string& where) {
  return ToInt(Wanted(object, key, where), key, min, max, where);
}

double GetNumber(const Json& object, std::string_view key, double min, double max,
                 const std::string& where) {
  return ToNumber(Wanted(object, key, where), key, min, max, where);
}

bool GetBool(const Json& object, std::string_view key, const std::string& where) {
  return ToBool(Wanted(object, key, where), key, where);
}

std::string GetString(const Json& object, std::string_view key, const std::string& where) {
  return ToText(Wanted(object, key, where), key, where);
}

const Json& GetObject(const Json& object, std::string_view key, const std::string& where) {
  const Json& value = Wanted(object, key, where);
  if (!value.is_object()) WrongType(value, key, "an object", where);
  return value;
}

const Json& GetArray(const Json& object, std::string_view key, const std::string& where) {
  const Json& value = Wanted(object, key, where);
  if (!value.is_array()) WrongType(value, key, "an array", where);
  return value;
}

std::vector<int64_t> GetInts(const Json& object, std::string_view key, int64_t min, int64_t max,
                             const std::string& where) {
  std::vector<int64_t> ints;
  for (const Json& value : GetArray(object, key, where))
    ints.push_back(ToInt(value, key, min, max, where));
  return ints;
}

std::vector<std::string> GetStrings(const Json& object, std::string_view key,
                                    const std::string& where) {
  std::vector<std::string> strings;
  for (const Json& value : GetArray(object, key, where))
    strings.push_back(ToText(value, key, where));
  return strings;
}

std::optional<int64_t> FindInt(const Json& object, std::string_view key, int64_t min, int64_t max,
                               const std::string& where) {
  const Json* value = Member(object, key, where);
  return value ? std::optional(ToInt(*value, key, min, max, where)) : std::nullopt;
}

std::optional<double> FindNumber(const Json& object, std::string_view key, double min, double max,
                                 const std::string& where) {
  const Json* value = Member(object, key, where);
  return value ? std::optional(ToNumber(*value, key, min, max, where)) : std::nullopt;
}

std::optional<bool> FindBool(const Json& object, std::string_view key, const std::string& where) {
  const Json* value = Member(object, key, where);
  return value ? std::optional(ToBool(*value, key, where)) : std::nullopt;
}

std::optional<std::string> FindString(const Json& object, std::string_view key,
                                      const std::string& where) {
  const Json* value = Member(object, key, where);
  return value ? std::optional(ToText(*value, key, where)) : std::nullopt;
}

std::string DumpJson(const Json& value, int indent) {
  try {
    return value.dump(indent);
  } catch (const Json::exception& e) {
    Fail("cannot write JSON: {}", Reason(e));
  }
}

std::string ShowJson(const Json& value) {
  return EscapeJsonControls(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace graft
