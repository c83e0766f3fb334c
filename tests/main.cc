// The main() of programs of several test files. Started under the name of one of them, as
// build/checkpoint_test is, a program runs the tests of that file alone; under its own, all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace {

bool IsIn(const ::testing::TestInfo& test, const std::string& file) {
  return std::filesystem::path(test.file()).stem() == file;
}

// Leaves only tests of NAME.cc in gtest's filter, and returns how many there are.
int KeepTestsOf(const std::string& name) {
  int kept = 0;
  std::string own, others;  // patterns, each behind a colon
  const auto& program = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < program.total_test_suite_count(); ++i) {
    const ::testing::TestSuite& suite = *program.GetTestSuite(i);
    const int tests = suite.total_test_count();
    int here = 0;
    for (int j = 0; j < tests; ++j) here += IsIn(*suite.GetTestInfo(j), name);
    kept += here;
    // Suites of two files, test by test: nobody reads a filter that long otherwise.
    for (int j = 0; j < tests && here != 0 && here != tests; ++j)
      (IsIn(*suite.GetTestInfo(j), name) ? own : others) +=
          std::string(":") + suite.name() + "." + suite.GetTestInfo(j)->name();
    if (here == 0 || here == tests)
      (here == 0 ? others : own) += std::string(":") + suite.name() + ".*";
  }
  std::string& filter = ::testing::GTEST_FLAG(filter);
  if (filter == "*" && !own.empty())
    filter = own.substr(1);
  else if (filter.find('-') == std::string::npos)
    filter += "-" + others;
  else
    filter += others;
  return kept;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = std::filesystem::path(argv[0]).filename().string();
  ::testing::InitGoogleMock(&argc, argv);
  if (name.ends_with("_test") && KeepTestsOf(name) == 0) {
    std::fprintf(stderr, "%s: no test of %s.cc in this program\n", argv[0], name.c_str());
    return 2;
  }
  return RUN_ALL_TESTS();
}
