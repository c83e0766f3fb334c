// Reads and writes structs that have Visit(self, f) as flat JSON objects, with a key for each
// field.
#pragma once
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace graft {

template <class Fields>
nlohmann::json FieldsToJson(const Fields& fields) {
  nlohmann::json json = nlohmann::json::object();
  Fields::Visit(fields, [&](const char* name, const auto& field) { json[name] = field; });
  return json;
}

inline bool IsOfType(const nlohmann::json& json, int64_t) {
  return json.is_number_integer() &&
         !(json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX});
}
inline bool IsOfType(const nlohmann::json& json, double) { return json.is_number(); }
inline bool IsOfType(const nlohmann::json& json, bool) { return json.is_boolean(); }
inline bool IsOfType(const nlohmann::json& json, const std::string&) { return json.is_string(); }
inline bool IsOfType(const nlohmann::json& json, const std::vector<std::string>&) {
  return json.is_array() &&
         std::ranges::all_of(json, [](const nlohmann::json& item) { return item.is_string(); });
}

// Whether earlier versions wrote no such field. Fields::kLater lists the names of these; a struct
// without later fields need not have it.
template <class Fields>
bool IsLater(std::string_view name) {
  if constexpr (requires { Fields::kLater; })
    return std::ranges::find(Fields::kLater, name) != std::ranges::end(Fields::kLater);
  return false;
}

// Throws Error naming the file and the key for a missing or mistyped one; nothing is converted, so
// 1.5 and true are no whole numbers. Other keys are not read. A later field that is missing keeps
// its default.
template <class Fields>
Fields FieldsFromJson(const nlohmann::json& json, const std::string& where) {
  Fields fields;
  if (!json.is_object()) Fail("{}: expected an object, found {}", where, json.type_name());
  Fields::Visit(fields, [&](const char* name, auto& field) {
    const auto it = json.find(name);
    if (it == json.end() && IsLater<Fields>(name)) return;
    if (it == json.end())
      Fail("{}: no '{}'; the file is of another version or was edited", where, name);
    if (!IsOfType(*it, field)) Fail("{}: '{}' has the wrong type: {}", where, name, it->dump());
    it->get_to(field);
  });
  return fields;
}

}  // namespace graft
