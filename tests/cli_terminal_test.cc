// What people see on a terminal fits its width; in a pipe nothing is left out.
#include <pty.h>

#include "tests/cli_data_testing.h"
#include "tools/lib/report.h"
#include "tools/lib/run_table.h"

namespace graft::cli::cli_terminal_test {
namespace {

// What a command writes to a terminal of so many columns, standard error with it.
std::string OnTerminal(Words args, unsigned short columns) {
  args.insert(args.begin(), "graft");
  const std::string binary = Binary();
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
  if (pid == 0) {
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  int status = 0;
  waitpid(pid, &status, 0);
  close(terminal);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
  std::erase(text, '\r');
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

size_t Widest(const std::string& text) {
  size_t most = 0;
  for (const std::string& line : Lines(text)) most = std::max(most, ColumnsOf(line));
  return most;
}

TEST(Terminal, TextsAreCutByCharacters) {
  EXPECT_EQ(FitText("abc", 3), "abc");
  EXPECT_EQ(FitText("abcd", 3), "ab~");
  EXPECT_EQ(FitText("abcd", 3, CutAt::kBegin), "~cd");
  EXPECT_EQ(FitText("\u00e4\u00f6\u00fc\u00df", 3), "\u00e4\u00f6~");
  EXPECT_EQ(FitText("\u00e4\u00f6\u00fc\u00df", 3, CutAt::kBegin), "~\u00fc\u00df");
  EXPECT_EQ(FitText("abcd", 1), "~");
  EXPECT_EQ(FitText("abcd", 0), "");
}

TEST(Terminal, TablesLoseColumnsThenCharacters) {
  constexpr size_t kDrop[] = {3, 1};
  constexpr TextTable::Shortened kShorten[] = {{0, CutAt::kBegin}, {2}};
  const auto fit = [&](size_t columns, std::vector<std::string>* left_out) {
    TextTable table({1, 3});
    table.Add({"run", "n", "method", "time"});
    table.Add({"sweeps/first/seed-0", "12", "lora(r=8)", "1m20s"});
    *left_out = table.FitTo(columns, kDrop, kShorten);
    return table.Lines("");
  };
  std::vector<std::string> out;
  EXPECT_EQ(fit(41, &out),
            "run                   n  method      time\n"
            "sweeps/first/seed-0  12  lora(r=8)  1m20s");
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(fit(36, &out),
            "run              n  method      time\n"
            "~/first/seed-0  12  lora(r=8)  1m20s");
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(fit(30, &out),
            "run               n  method\n"
            "~s/first/seed-0  12  lora(r=8)");
  EXPECT_EQ(out, (Words{"time"}));
  EXPECT_EQ(fit(25, &out), "run             method\n~/first/seed-0  lora(r=8)");
  EXPECT_EQ(out, (Words{"time", "n"}));
  EXPECT_EQ(fit(10, &out), "run   met~\n~d-0  lor~");
  EXPECT_EQ(fit(0, &out), "~  ~\n~  ~");
}

class TerminalRuns : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    GraftJson(TrainArgs(At("data"), At("runs/a_run_of_some_long_name")));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static inline TempDir* dir_ = nullptr;
};

TEST_F(TerminalRuns, FitAnyWidth) {
  const std::string whole = Graft({"runs", At("runs")}).out;
  EXPECT_EQ(whole.find("not shown"), std::string::npos);
  EXPECT_GT(Widest(whole), 120u);
  EXPECT_EQ(OnTerminal({"runs", At("runs")}, 250), whole);
  for (const unsigned short columns : {120, 100, 80, 60}) {
    const std::string text = OnTerminal({"runs", At("runs")}, columns);
    const std::vector<std::string> lines = Lines(text);
    ASSERT_GE(lines.size(), columns > 100 ? 2u : 3u) << text;  // names are cut first
    EXPECT_LE(std::max(ColumnsOf(lines[0]), ColumnsOf(lines[1])), columns) << text;
    if (lines.size() > 2) {
      EXPECT_TRUE(lines[2].starts_with("not shown: memory")) << text;
    }
    for (const char* column : {"run", "method", "best"})
      EXPECT_NE(lines[0].find(column), std::string::npos) << text;
  }
  // Programs get what they always got.
  const std::string csv = Graft({"runs", At("runs"), "--csv"}).out;
  EXPECT_EQ(OnTerminal({"runs", At("runs"), "--csv"}, 60), csv);
  EXPECT_NE(OnTerminal({"runs", At("runs"), "--json"}, 60).find("peak_memory_bytes"),
            std::string::npos);
}

// In this order.
TEST_F(TerminalRuns, LoseColumnsByTheirWorth) {
  const std::vector<nlohmann::json> runs{DescribeRun(At("runs/a_run_of_some_long_name"))};
  const Words order{"memory", "status", "trainable", "model",  "data",
                    "time",   "last",   "epochs",    "metric", "lr"};
  size_t before = 0;
  for (size_t columns = 140; columns > 20; --columns) {
    const std::string text = RunsText(runs, At("runs"), columns);
    const size_t at = text.find("not shown: ");
    std::string left_out;
    if (at != text.npos) left_out = text.substr(at + 11, text.find(';', at) - at - 11);
    size_t count = left_out.empty() ? 0 : 1;
    for (size_t i = 0; (i = left_out.find(", ", i)) != left_out.npos; ++i) ++count;
    EXPECT_GE(count, before);
    before = count;
    EXPECT_EQ(left_out, fmt::format("{}", fmt::join(std::span(order).first(count), ", ")));
  }
  EXPECT_EQ(before, order.size());
}

TEST(TerminalPredict, TextsAreShownInALine) {
  const TempDir dir;
  const std::string bert = MakeBert(dir);
  Fill(dir, "texts", {{"train.csv", Rows(40, ",", "text,label\n")}});
  GraftJson({"train", "--model", bert, "--data", dir / "texts", "--method", "linear", "--epochs",
             "1", "--out", dir / "run"});
  std::string text = "film";
  for (int i = 0; i < 60; ++i) text += i % 20 ? " b" : "\nfilm";
  Spill(dir / "new.csv", "text\n\"" + text + "\"\n");
  const Words predict{"predict", "--run", dir / "run", dir / "new.csv"};
  const std::string whole = Graft(predict).out;
  EXPECT_NE(whole.find(text), std::string::npos) << whole;
  const std::string shown = OnTerminal(predict, 50);
  EXPECT_LE(Widest(shown), 50u) << shown;
  EXPECT_NE(shown.find("film film b b b"), std::string::npos) << shown;
  EXPECT_NE(shown.find("~\n"), std::string::npos) << shown;
  OnTerminal(WithOptions(predict, {"--out", dir / "out.csv"}), 50);
  EXPECT_NE(Slurp(dir / "out.csv").find(text), std::string::npos);
}

}  // namespace
}  // namespace graft::cli::cli_terminal_test
