// The main() of programs of several test files. Started under the name of one of them, as
// build/checkpoint_test is, a program runs the tests of that file alone; under its own, all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace {

// Adds to gtest's filter what leaves out the tests of other files than NAME.cc, and returns how
// many tests there are in that one.
int KeepTestsOf(const std::string& name) {
  int kept = 0;
  std::string others;
  const auto& program = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < program.total_test_suite_count(); ++i) {
    const ::testing::TestSuite& suite = *program.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const ::testing::TestInfo& test = *suite.GetTestInfo(j);
      if (std::filesystem::path(test.file()).stem() == name)
        ++kept;
      else
        others += std::string(":") + suite.name() + "." + test.name();
    }
  }
  std::string filter = ::testing::GTEST_FLAG(filter);
  if (filter.find('-') == std::string::npos) filter += "-";
  ::testing::GTEST_FLAG(filter) = filter + others;
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
