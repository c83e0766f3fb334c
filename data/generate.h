// Makes image tasks for `graft demo` and `graft data make`: nothing is downloaded, yet there is
// enough structure for a small ViT to learn one task and transfer to another.
//
// Image `index` of a task depends on (task, size, seed, index) only, through a counter-based hash
// and arithmetic that IEEE 754 fixes to the bit (no sin, no exp, no std:: distribution), so every
// machine makes the same bytes. Every block of as many consecutive indices as the task has classes
// holds each class once, in hashed order.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace graft {

struct GeneratedTask {
  std::string name, about;
  std::vector<std::string> classes;
};

// The tasks shapes, count, position, color and texture.
const std::vector<GeneratedTask>& GeneratedTasks();

// Throws Error with the nearest name if there is no such task.
const GeneratedTask& FindGeneratedTask(std::string_view name);

inline constexpr int kMinGeneratedSize = 16, kMaxGeneratedSize = 512;

int GenerateLabel(const GeneratedTask& task, uint64_t seed, uint64_t index);
// An image has size x size pixels. Throws Error for a size outside the bounds above.
Image GenerateImage(const GeneratedTask& task, int size, uint64_t seed, uint64_t index);

struct TaskCounts {
  size_t train = 800, val = 200, test = 1000;
};
// Test images are those from this index on, so they do not depend on the other counts. It is a
// multiple of every number of classes.
inline constexpr uint64_t kFirstTestIndex = 7'200'000'000;

// Writes PNG images and lists in the layout of VTAB-1k (train800.txt, ..., whatever the counts
// are). Throws Error if `directory` exists and is not empty.
void WriteTask(const std::string& directory, std::string_view task, int size,
               const TaskCounts& counts, uint64_t seed);

}  // namespace graft
