// What data sets of images and of texts share: lists of names in files, and the choice of a split.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// A larger label means a broken list and no data set: so large a head would fit nowhere.
inline constexpr int kMaxClasses = 100'000;

// The bounds of a data set and of its files. A larger file is refused before it is read, and a
// larger data set when the first example too many is.
inline constexpr size_t kMaxExamples = 1 << 24;
inline constexpr uint64_t kMaxNamesBytes = 1 << 24, kMaxListBytes = 1 << 29;
inline constexpr uint64_t kMaxTableBytes = uint64_t{1} << 31;
inline constexpr size_t kMaxColumns = 1000;  // of a table
inline constexpr uint64_t kMaxJsonLine = 1 << 20;

// Throws Error if `count` examples, the last of them at `where`, are too many.
void CheckExampleCount(size_t count, const std::string& where);

// The whole file without its byte order mark.
std::string ReadTextFile(const std::string& path, uint64_t max_bytes);

// Reads one class name in each line; blank lines at the end are left out. Throws Error if there is
// none, and for more than kMaxClasses.
std::vector<std::string> ReadClassNames(const std::string& path);

bool Contains(const std::vector<std::string>& names, std::string_view name);

// What a split of this name is for, in any case of letters: train, training, train800; val, valid,
// validation, dev, eval, val200 and the like; test, testing. kOther: the name is not a usual one.
enum class SplitPurpose { kTrain, kValidation, kTest, kOther };
SplitPurpose PurposeOf(std::string_view name);

// The name of the part that HoldOut takes from a training split.
inline constexpr const char* kHoldout = "holdout";

// The splits to train on, to validate on and to measure on: the first of the usual names that
// exists, else any of this purpose, else "". The only split of all is for training unless its name
// says otherwise. What is held out is for validation. One measures on the test split or, where
// there is none, on the only split or on that for validation: PurposeOf tells which it is.
std::string DefaultTrain(const std::vector<std::string>& names);
std::string DefaultValidation(const std::vector<std::string>& names);
std::string DefaultEval(const std::vector<std::string>& names);

// The first of `wanted` that `names` contains, or "".
std::string FirstOf(const std::vector<std::string>& wanted, const std::vector<std::string>& names);

[[noreturn]] void NoSuchSplit(const std::string& directory, std::string_view name,
                              const std::vector<std::string>& names);

}  // namespace graft
