// Programs of several test files (tests/main.cc), started under the name of one of them.
#include <sys/wait.h>

#include <cstdio>
#include <sstream>

#include "tests/cli_testing.h"

namespace graft::programs_test {
namespace {

struct Said {
  int code = 0;
  std::string out;
};

Said Shell(const std::string& command) {
  Said said;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof(buffer), pipe)) said.out.append(buffer, n);
  said.code = WEXITSTATUS(pclose(pipe));
  return said;
}

// Every suite that is listed stands in the file of that name, and none of that file is missing.
TEST(Programs, RunTheTestsOfTheFileTheyAreCalled) {
  for (const std::string name : {"programs_test", "parameter_words_test", "rng_test"}) {
    const Said said = Shell(cli::BesideTheTest(name.c_str()).string() + " --gtest_list_tests");
    EXPECT_EQ(said.code, 0) << said.out;
    const std::string source = cli::Slurp(std::string(GRAFT_SOURCE_DIR) + "/tests/" + name + ".cc");
    std::istringstream lines(said.out);
    size_t listed = 0, written = 0;
    std::string suite;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  ")) {
        ++listed;
        EXPECT_NE(source.find("(" + suite + ", " + line.substr(2)), source.npos) << line;
      } else if (line.ends_with(".")) {
        suite = line.substr(0, line.size() - 1);
      }
    }
    for (size_t at = 0; (at = source.find("\nTEST", at)) != source.npos; ++at) ++written;
    EXPECT_EQ(listed, written) << name << "\n" << said.out;
  }
}

TEST(Programs, AFilterHoldsWithinTheFile) {
  const std::string program = cli::BesideTheTest("programs_test").string();
  EXPECT_NE(
      Shell(program + " --gtest_list_tests --gtest_filter='*AFilter*'").out.find("AFilterHolds"),
      std::string::npos);
  for (const char* filter : {"*AFilter*", "-*TheFile*", "*:-*TheFile*"}) {
    const Said said =
        Shell(fmt::format("{} --gtest_list_tests --gtest_filter='{}'", program, filter));
    EXPECT_EQ(said.out.find("RunTheTests"), std::string::npos) << filter << "\n" << said.out;
  }
}

TEST(Programs, ANameWithoutAFileIsAnError) {
  const TempDir dir;
  const std::string link = dir / "no_such_test";
  std::filesystem::create_symlink(std::filesystem::read_symlink("/proc/self/exe"), link);
  const Said said = Shell(link);
  EXPECT_EQ(said.code, 2) << said.out;
  EXPECT_NE(said.out.find("no test of no_such_test.cc"), std::string::npos) << said.out;
}

}  // namespace
}  // namespace graft::programs_test
