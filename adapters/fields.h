// Structs that have Visit(self, f) as flat JSON objects, a key for each field.
#pragma once
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace graft {

template <class Fields>
nlohmann::json FieldsToJson(const Fields& fields) {
  nlohmann::json json = nlohmann::json::object();
  Fields::Visit(fields, [&](const char* name, const auto& field) { json[name] = field; });
  return json;
}

// Throws Error naming the file and the key for a missing or mistyped one; other keys are not read.
template <class Fields>
Fields FieldsFromJson(const nlohmann::json& json, const std::string& where) {
  Fields fields;
  if (!json.is_object()) Fail("{}: expected an object", where);
  Fields::Visit(fields, [&](const char* name, auto& field) {
    const auto it = json.find(name);
    if (it == json.end())
      Fail("{}: no '{}'; the file is of another version or was edited", where, name);
    try {
      it->get_to(field);
    } catch (const nlohmann::json::exception& e) {
      Fail("{}: '{}' has the wrong type: {}", where, name, it->dump());
    }
  });
  return fields;
}

}  // namespace graft
