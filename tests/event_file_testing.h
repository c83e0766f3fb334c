// Reads an events file with none of the product's code: frames with their checksums, protocol
// buffers field by field.
#pragma once
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::map<std::string, float> scalars;
};

template <class T>
T TakeRaw(std::string_view* bytes) {
  T value{};
  if (bytes->size() < sizeof value) throw std::runtime_error("cut short");
  std::memcpy(&value, bytes->data(), sizeof value);
  bytes->remove_prefix(sizeof value);
  return value;
}

inline std::string_view TakeBytes(std::string_view* bytes, uint64_t count) {
  if (bytes->size() < count) throw std::runtime_error("cut short");
  const std::string_view taken = bytes->substr(0, count);
  bytes->remove_prefix(count);
  return taken;
}

inline uint64_t TakeVarint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = TakeRaw<uint8_t>(bytes);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
}

// Computes it bit by bit, as RFC 3720 defines it, then masks it.
inline uint32_t ReferenceMaskedCrc(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

inline void ReadValue(std::string_view bytes, Event* event) {
  std::string tag;
  float value = 0;
  while (!bytes.empty()) switch (TakeVarint(&bytes)) {
      case 1 << 3 | 2:
        tag = TakeBytes(&bytes, TakeVarint(&bytes));
        break;
      case 2 << 3 | 5:
        value = TakeRaw<float>(&bytes);
        break;
      default:
        throw std::runtime_error("unknown field of a value");
    }
  EXPECT_TRUE(event->scalars.emplace(tag, value).second) << tag;
}

inline Event ReadEvent(std::string_view bytes) {
  Event event;
  while (!bytes.empty()) switch (TakeVarint(&bytes)) {
      case 1 << 3 | 1:
        event.wall_time = TakeRaw<double>(&bytes);
        break;
      case 2 << 3 | 0:
        event.step = static_cast<int64_t>(TakeVarint(&bytes));
        break;
      case 3 << 3 | 2:
        event.version = TakeBytes(&bytes, TakeVarint(&bytes));
        break;
      case 5 << 3 | 2: {
        std::string_view summary = TakeBytes(&bytes, TakeVarint(&bytes));
        while (!summary.empty()) {
          if (TakeVarint(&summary) != (1 << 3 | 2)) throw std::runtime_error("unknown field");
          ReadValue(TakeBytes(&summary, TakeVarint(&summary)), &event);
        }
        break;
      }
      default:
        throw std::runtime_error("unknown field of an event");
    }
  return event;
}

// Throws if the file is cut short; its checksums are expected to be right.
inline std::vector<Event> ReadEvents(std::string_view file) {
  std::vector<Event> events;
  while (!file.empty()) {
    const std::string_view head = file.substr(0, 8);
    const auto length = TakeRaw<uint64_t>(&file);
    EXPECT_EQ(TakeRaw<uint32_t>(&file), ReferenceMaskedCrc(head));
    const std::string_view data = TakeBytes(&file, length);
    EXPECT_EQ(TakeRaw<uint32_t>(&file), ReferenceMaskedCrc(data));
    events.push_back(ReadEvent(data));
  }
  return events;
}

// That the file says what metrics.jsonl says, each line once and in order.
inline void ExpectEventsOf(const std::string& metrics, std::string_view file) {
  const std::vector<Event> events = ReadEvents(file);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events[0].version, "brain.Event:2");
  size_t i = 0;
  std::istringstream lines(metrics);
  for (std::string text; std::getline(lines, text);) {
    const nlohmann::json line = nlohmann::json::parse(text);
    std::map<std::string, float> expected;
    for (const auto& [key, value] : line.items()) {
      if (key == "step") continue;
      std::string tag = key;
      if (key.starts_with("train_")) tag = "train/" + key.substr(6);
      if (key.starts_with("val_")) tag = "val/" + key.substr(4);
      expected[tag] = value.get<float>();
    }
    ASSERT_LT(++i, events.size());
    EXPECT_EQ(events[i].step, line["step"]);
    EXPECT_EQ(events[i].scalars, expected);
    EXPECT_GE(events[i].wall_time, events[i - 1].wall_time);
    EXPECT_GT(events[i].wall_time, 1.7e9);  // seconds since 1970
  }
  EXPECT_EQ(i + 1, events.size());
}

}  // namespace graft
