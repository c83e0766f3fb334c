// Reads the JSON files of others by nlohmann's parser, with the limits that a hostile file needs
// (size, depth, duplicate keys, nothing after the value) and by getters whose errors name file, key
// and range.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

using Json = nlohmann::json;

struct JsonLimits {
  uint64_t bytes = 32 << 20;  // a parsed value may take some 30 times the text
  int depth = 64;
};

// Every message begins with `where`, which is a path mostly.
Json ParseJson(std::string_view text, const std::string& where, const JsonLimits& limits = {});
Json ReadJson(const std::string& path, const JsonLimits& limits = {});

// The member `key` of an object. Get... requires it; Find... returns nothing when it is absent or
// null. Both throw Error for a value of another type or outside [min, max].
int64_t GetInt(const Json& object, std::string_view key, int64_t min, int64_t max,
               const std::string& where);
double GetNumber(const Json& object, std::string_view key, double min, double max,
                 const std::string& where);
bool GetBool(const Json& object, std::string_view key, const std::string& where);
std::string GetString(const Json& object, std::string_view key, const std::string& where);
const Json& GetObject(const Json& object, std::string_view key, const std::string& where);
const Json& GetArray(const Json& object, std::string_view key, const std::string& where);
std::vector<int64_t> GetInts(const Json& object, std::string_view key, int64_t min, int64_t max,
                             const std::string& where);
std::vector<std::string> GetStrings(const Json& object, std::string_view key,
                                    const std::string& where);

std::optional<int64_t> FindInt(const Json& object, std::string_view key, int64_t min, int64_t max,
                               const std::string& where);
std::optional<double> FindNumber(const Json& object, std::string_view key, double min, double max,
                                 const std::string& where);
std::optional<bool> FindBool(const Json& object, std::string_view key, const std::string& where);
std::optional<std::string> FindString(const Json& object, std::string_view key,
                                      const std::string& where);

// Returns the text of a value. Throws Error for a string that is not UTF-8.
std::string DumpJson(const Json& value, int indent = -1);
// The same for output that is shown and is not read back as a path or a name. Bytes of a string
// that are not UTF-8, as file names may have them, become U+FFFD, and controls are escaped
// (EscapeJsonControls).
std::string ShowJson(const Json& value);

}  // namespace graft
