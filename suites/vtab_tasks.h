// The 19 tasks of VTAB-1k (Zhai et al. 2019) and what others have published on them.
#pragma once
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct VtabTask {
  const char* name;   // the directory's, as NOAH's exporter and all that follow it call it
  const char* group;  // natural, specialised, structured
  int classes;
  const char* column;                // of tables: at most eight characters
  std::vector<std::string> aliases;  // other names of the directory: TFDS's among them
};
// The tasks in the published order: 7 natural, 4 specialised, 8 structured.
const std::vector<VtabTask>& VtabTasks();
inline constexpr std::array<const char*, 3> kVtabGroups{"natural", "specialised", "structured"};

// The task that a directory of this name holds, with or without "vtab-" before it; null if none
// does.
const VtabTask* FindVtabTask(std::string_view directory);

// Published accuracies in percent of a ViT-B/16 that was trained on ImageNet-21k.
struct PublishedRow {
  const char* method;
  const char* parameters;           // millions, without the head
  std::array<double, 19> accuracy;  // in the order of VtabTasks
  double average;                   // of the three group means, as published
  const char* note;                 // "" or what makes it unlike the others
};
std::span<const PublishedRow> PublishedVtab();
// What a reader has to know of all published figures.
inline constexpr const char* kPublishedNote =
    "published figures are of ViT-B/16 (ImageNet-21k), another checkpoint, and of other protocols: "
    "pictures saved as JPEG, ImageNet mean and std, and in several papers the best epoch on test";

}  // namespace graft
