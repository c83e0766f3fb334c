// Tests the listing of directories.
#include "runtime/io/listing.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "runtime/error.h"
#include "tests/test_util.h"

namespace graft::listing_test {
namespace {

namespace fs = std::filesystem;
using Kind = DirectoryEntry::Kind;

TEST(Listing, SaysWhatLinksLeadToInTheOrderOfBytes) {
  const TempDir dir;
  std::ofstream(dir / "b.txt") << "text";
  std::ofstream(dir / ".hidden") << "text";
  fs::create_directory(dir / "a");
  std::ofstream(dir / "a/below") << "text";
  fs::create_symlink(dir / "a", dir / "Z");
  fs::create_symlink(dir / "b.txt", dir / "\xc3\xa4");
  fs::create_symlink(dir / "nothing", dir / "c");
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  const std::vector<DirectoryEntry> entries = ListDirectory(dir.path());
  const DirectoryEntry expected[] = {{".hidden", Kind::kFile, false}, {"Z", Kind::kDirectory, true},
                                     {"a", Kind::kDirectory, false},  {"b.txt", Kind::kFile, false},
                                     {"c", Kind::kOther, true},       {"pipe", Kind::kOther, false},
                                     {"\xc3\xa4", Kind::kFile, true}};
  ASSERT_EQ(entries.size(), std::size(expected));
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].name, expected[i].name);
    EXPECT_EQ(entries[i].kind, expected[i].kind) << entries[i].name;
    EXPECT_EQ(entries[i].link, expected[i].link) << entries[i].name;
  }
  EXPECT_EQ(ListIfReadable(dir.path()).size(), entries.size());
  EXPECT_EQ(ListIfReadable(dir.path(), 2).size(), 2u);
}

TEST(Listing, WhatCannotBeReadIsNamed) {
  const TempDir dir;
  std::ofstream(dir / "file") << "text";
  for (const std::string& name : {dir / "none", dir / "file"}) {
    try {
      ListDirectory(name);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find(name + ": cannot read the directory: "), 0u) << e.what();
    }
    EXPECT_TRUE(ListIfReadable(name).empty());
  }
}

}  // namespace
}  // namespace graft::listing_test
