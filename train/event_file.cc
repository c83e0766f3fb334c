#include "train/event_file.h"

#include <array>
#include <bit>
#include <cstring>

#include "runtime/io/json.h"

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

// The table of CRC-32C for one byte: Castagnoli's polynomial, bits reversed.
constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

template <class T>
std::string Bytes(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

template <class T>
T ReadAs(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

// --- fields of protocol buffers: a key, which is the number and the wire type, and the value

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr char Key(int number, WireType type) { return static_cast<char>(number << 3 | type); }

std::string BytesField(int number, std::string_view bytes) {
  std::string field{Key(number, kBytes)};
  return field += Varint(bytes.size()), field += bytes;
}

// tensorflow.Event: wall_time = 1 (double), step = 2 (int64), file_version = 3, summary = 5.
constexpr size_t kWallTimeBytes = 1 + sizeof(double);

std::string WallTime(double seconds) { return Key(1, kFixed64) + Bytes(seconds); }

// tensorflow.Summary.Value: tag = 1, simple_value = 2 (float).
std::string SummaryValue(const std::string& tag, double value) {
  return BytesField(1, tag) + Key(2, kFixed32) + Bytes(static_cast<float>(value));
}

std::string TagOf(const std::string& key) {
  for (const char* group : {"train_", "val_"})
    if (key.starts_with(group)) {
      std::string tag = key;
      tag[std::strlen(group) - 1] = '/';
      return tag;
    }
  return key;
}

// TFRecord: length (u64), its checksum, data, their checksum.
std::string Record(const std::string& data) {
  const std::string length = Bytes(static_cast<uint64_t>(data.size()));
  return length + Bytes(MaskedCrc32c(length)) + data + Bytes(MaskedCrc32c(data));
}
constexpr size_t kHeadBytes = sizeof(uint64_t) + sizeof(uint32_t), kFootBytes = sizeof(uint32_t);

// Reads the step of an event that EventRecord has made; returns false for any other event.
bool ReadStep(std::string_view event, int64_t* step) {
  if (event.size() <= kWallTimeBytes || event[0] != Key(1, kFixed64)) return false;
  event.remove_prefix(kWallTimeBytes);
  if (event[0] != Key(2, kVarint)) return false;
  uint64_t value = 0;
  for (size_t i = 1; i < event.size() && i < 10; ++i) {
    value |= static_cast<uint64_t>(event[i] & 0x7f) << (7 * (i - 1));
    if (event[i] & 0x80) continue;
    *step = static_cast<int64_t>(value);
    return true;
  }
  return false;
}

}  // namespace

uint32_t MaskedCrc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

std::string EventFileStart(double wall_time) {
  return Record(WallTime(wall_time) + BytesField(3, "brain.Event:2"));
}

std::string EventRecord(const nlohmann::json& line, double wall_time) {
  const auto step = line.is_object() ? line.find("step") : line.end();
  if (step == line.end() || !step->is_number_integer()) return "";
  std::string summary;
  for (const auto& [key, value] : line.items())
    if (key != "step" && value.is_number())
      summary += BytesField(1, SummaryValue(TagOf(key), value.get<double>()));
  return Record(WallTime(wall_time) + Key(2, kVarint) +
                Varint(static_cast<uint64_t>(step->get<int64_t>())) + BytesField(5, summary));
}

std::map<int64_t, double> EventTimes(std::string_view file) {
  std::map<int64_t, double> times;
  while (file.size() >= kHeadBytes + kFootBytes) {
    const std::string_view length = file.substr(0, sizeof(uint64_t));
    const uint64_t size = ReadAs<uint64_t>(length);
    if (ReadAs<uint32_t>(file.substr(length.size())) != MaskedCrc32c(length)) break;
    if (size > file.size() - kHeadBytes - kFootBytes) break;
    const std::string_view event = file.substr(kHeadBytes, size);
    file.remove_prefix(kHeadBytes + size);
    if (ReadAs<uint32_t>(file) != MaskedCrc32c(event)) break;
    file.remove_prefix(kFootBytes);
    int64_t step = 0;
    if (ReadStep(event, &step)) times[step] = ReadAs<double>(event.substr(1));
  }
  return times;
}

std::string EventFile(std::string_view metrics, const std::map<int64_t, double>& times,
                      double now) {
  std::string file = EventFileStart(times.empty() ? now : times.begin()->second);
  while (!metrics.empty()) {
    const size_t end = std::min(metrics.find('\n'), metrics.size());
    const nlohmann::json line = nlohmann::json::parse(metrics.substr(0, end), nullptr, false);
    metrics.remove_prefix(std::min(end + 1, metrics.size()));
    double time = now;
    if (const auto step = line.is_object() ? line.find("step") : line.end();
        step != line.end() && step->is_number_integer())
      if (const auto found = times.find(step->get<int64_t>()); found != times.end())
        time = found->second;
    file += EventRecord(line, time);
  }
  return file;
}

}  // namespace graft
