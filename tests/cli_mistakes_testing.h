// Tables of what a user does wrong. Every row is a command line with its exit code, the words of
// the one line on standard error, and the promise that nothing was written.
#pragma once
#include <algorithm>
#include <map>

#include "tests/cli_testing.h"

namespace graft::cli {

using Words = std::vector<std::string>;

struct Mistake {
  std::string name;
  Words args;  // "@" begins a path inside the test's directory
  int code;
  Words says;  // all of them, in the one line of standard error
};

// A training that would work but for the words at the end.
inline Words Train(Words more, const char* method = "lora") {
  Words args{"train", "--model", kNano, "--data", "@data", "--method", method, "--out", "@fresh"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// Returns the words with these options, each with its value ("" for a flag), in the place of their
// own.
inline Words WithOptions(Words args, const Words& options) {
  for (size_t i = 0; i + 1 < options.size(); i += 2) {
    const auto at = std::ranges::find(args, options[i]);
    if (at != args.end()) {
      *(at + 1) = options[i + 1];
      continue;
    }
    args.push_back(options[i]);
    if (!options[i + 1].empty()) args.push_back(options[i + 1]);
  }
  return args;
}

inline Words InDirectory(const TempDir& dir, Words args) {
  for (std::string& arg : args)
    if (arg.starts_with('@')) arg = dir / arg.substr(1);
  return args;
}

// Lists every file and directory with its size and time of change.
inline std::map<std::string, std::string> Listing(const fs::path& root) {
  std::map<std::string, std::string> listing;
  const auto options = fs::directory_options::skip_permission_denied;
  for (const auto& entry : fs::recursive_directory_iterator(root, options)) {
    struct stat s {};
    if (lstat(entry.path().c_str(), &s) == 0)
      listing[entry.path()] =
          fmt::format("{} bytes, changed {}.{}", s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
  }
  return listing;
}

// What is in `after` and not, or not the same, in `before`.
inline Words Written(const std::map<std::string, std::string>& before, const fs::path& root) {
  Words written;
  for (const auto& [path, state] : Listing(root))
    if (const auto it = before.find(path); it == before.end() || it->second != state)
      if (!fs::is_directory(path) || it == before.end()) written.push_back(path);
  return written;
}

inline void ExpectMistakes(const std::vector<Mistake>& table, const TempDir& dir) {
  const auto before = Listing(dir.path());
  for (const Mistake& m : table) {
    SCOPED_TRACE(m.name);
    const Outcome o = Graft(InDirectory(dir, m.args));
    EXPECT_EQ(o.code, m.code) << o.err;
    const size_t begin = o.err.rfind("graft: ");
    ASSERT_NE(begin, std::string::npos) << o.err;
    const std::string message = o.err.substr(begin);
    for (const std::string& word : m.says)
      EXPECT_NE(message.find(word), std::string::npos) << word << " in:\n" << message;
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1) << message;
    EXPECT_LT(message.size(), 4000u);
    for (const std::string& path : Written(before, dir.path())) {
      ADD_FAILURE() << path << " was written";
      fs::remove_all(path);
    }
  }
}

}  // namespace graft::cli
