// Tests help, the man page, completions, the list of models, and errors as JSON.
#include <algorithm>
#include <set>

#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_help_test {
namespace {

const Words kCommands{"demo",    "train",   "eval",   "predict", "fuse",       "export",
                      "inspect", "profile", "plan",   "data",    "bench",      "ablate",
                      "runs",    "search",  "models", "help",    "completions"};

// The options that the help of a command shows.
Words OptionsOf(const std::string& help) {
  std::set<std::string> options;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find_first_not_of(' ');
    if (begin != 2 || line[2] != '-') continue;
    const size_t at = line.find("--");
    if (at != line.npos && at < 8)
      options.insert(line.substr(at, line.find_first_of(" ,", at) - at));
  }
  return {options.begin(), options.end()};
}

TEST(Help, ByItselfIsNoMistake) {
  const Outcome alone = Graft({}), help = Graft({"help"}), flag = Graft({"--help"});
  for (const Outcome& o : {alone, help, flag}) {
    EXPECT_EQ(o.code, 0);
    EXPECT_EQ(o.err, "");
    for (const std::string& command : kCommands)
      EXPECT_NE(o.out.find("\n  " + command + " "), std::string::npos) << command;
  }
  EXPECT_EQ(alone.out, help.out);
  EXPECT_EQ(alone.out, flag.out);
}

TEST(Help, OfACommandIsThatOfItsFlag) {
  for (const std::string& command : kCommands) {
    const Outcome help = Graft({"help", command});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_EQ(help.out, Graft({command, "--help"}).out);
  }
  EXPECT_EQ(Graft({"help", "data", "make"}).out, Graft({"data", "make", "--help"}).out);
}

TEST(Help, Mistakes) {
  const TempDir dir;
  ExpectMistakes({{"unknown", {"help", "trian"}, 2, {"no command 'trian'", "'train'"}},
                  {"below", {"help", "data", "mak"}, 2, {"no command 'mak'", "'make'"}},
                  {"below none", {"help", "train", "x"}, 2, {"no command 'x'"}},
                  {"both", {"help", "train", "--man"}, 2, {"--man or a command"}},
                  {"no shell", {"completions"}, 2, {"shell"}},
                  {"shell", {"completions", "zhs"}, 2, {"no shell 'zhs'", "'zsh'"}},
                  {"model", {"models", "vti"}, 1, {"no architecture", "'vti'"}},
                  {"unknown command", {"evla"}, 2, {"did you mean 'eval'"}}},
                 dir);
}

TEST(Help, EveryCommandHasAnExample) {
  for (const std::string& command : kCommands) {
    EXPECT_NE(Graft({command, "--help"}).out.find("Example"), std::string::npos) << command;
  }
}

// No description is wider than a usual terminal, and what is of models stands where one is opened.
TEST(Help, FitsATerminal) {
  for (const std::string& command : kCommands) {
    std::istringstream lines(Graft({command, "--help"}).out);
    for (std::string line; std::getline(lines, line) && !line.starts_with("Example");)
      if (line.starts_with("  ") && line.find(' ', 30) != line.npos) {
        EXPECT_LE(line.size(), 80u) << command << ": " << line;
      }
  }
  EXPECT_EQ(Graft({"runs", "--help"}).out.find("--dtype"), std::string::npos);
  EXPECT_NE(Graft({"eval", "--help"}).out.find("--dtype"), std::string::npos);
}

// Every command and every option is in all of them.
TEST(Help, ManPageAndCompletionsHaveEverything) {
  std::map<std::string, std::string> texts{{"man", Graft({"help", "--man"}).out}};
  for (const char* shell : {"bash", "zsh", "fish"})
    texts[shell] = Graft({"completions", shell}).out;
  std::string& man = texts["man"];
  for (size_t at; (at = man.find("\\-")) != man.npos;) man.erase(at, 1);
  size_t options = 0;
  for (const std::string& command : kCommands) {
    for (const auto& [kind, text] : texts)
      EXPECT_NE(text.find(command), std::string::npos) << kind << " " << command;
    for (const std::string& option : OptionsOf(Graft({command, "--help"}).out)) {
      ++options;
      for (const auto& [kind, text] : texts)
        EXPECT_NE(text.find(kind == "fish" ? "-l " + option.substr(2) + " " : option),
                  std::string::npos)
            << kind << " " << command << " " << option;
    }
  }
  EXPECT_GT(options, 150u);
  EXPECT_NE(man.find(".SS graft data make"), std::string::npos);
  EXPECT_NE(man.find(".SH EXIT STATUS"), std::string::npos);
}

// Words between the command and the cursor; the shell that every machine has.
std::string CompleteInBash(const std::string& line) {
  const TempDir dir;
  Spill(dir / "graft.bash", Graft({"completions", "bash"}).out);
  Spill(dir / "ask.bash", "source " + (dir / "graft.bash") + "\nCOMP_WORDS=(" + line +
                              " \"$1\")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_graft\n"
                              "echo \"${COMPREPLY[@]}\"\n");
  const auto ask = [&](const std::string& word) {
    const std::string command = "bash " + (dir / "ask.bash") + " '" + word + "' > " + (dir / "out");
    EXPECT_EQ(std::system(command.c_str()), 0);
    return Slurp(dir / "out");
  };
  const size_t bar = line.rfind('|');
  return ask(bar == line.npos ? "" : line.substr(bar + 1));
}

TEST(Help, BashCompletes) {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"graft",
       "demo train eval predict fuse export inspect profile plan data bench ablate runs search "
       "models help completions --help --version\n"},
      {"graft train --schedule", "cosine linear constant\n"},
      {"graft data", "make check"},
      {"graft bench", "vtab few-shot text shift"},
      {"graft bench vtab --schedule", "cosine linear constant\n"},
      {"graft completions", "bash zsh fish\n"},
      {"graft train --data", "\n"}};  // the shell then completes files
  for (const auto& [line, words] : rows)
    EXPECT_TRUE(CompleteInBash(line).starts_with(words)) << line << ": " << CompleteInBash(line);
}

TEST(Models, NamesAndSizes) {
  const nlohmann::json json = GraftJson({"models"});
  std::map<std::string, nlohmann::json> models;
  for (const nlohmann::json& m : json["models"]) {
    ExpectKeys(m, {"name", "kind", "width", "depth", "heads", "parameters", "classes"});
    models[m["name"]] = m;
  }
  // timm's and transformers' counts.
  const std::vector<std::tuple<std::string, int64_t, int64_t, int64_t, int64_t>> known{
      {"vit_base_patch16_224", 768, 12, 12, 86567656},
      {"deit_tiny_patch16_224", 192, 12, 3, 5717416},
      {"vit_large_patch16_224", 1024, 24, 16, 304326632}};
  for (const auto& [name, width, depth, heads, parameters] : known) {
    ASSERT_TRUE(models.contains(name)) << name;
    EXPECT_EQ(models[name]["width"], width);
    EXPECT_EQ(models[name]["depth"], depth);
    EXPECT_EQ(models[name]["heads"], heads);
    EXPECT_EQ(models[name]["parameters"], parameters) << name;
  }
  EXPECT_TRUE(models.contains("bert_base"));
  const nlohmann::json deit = GraftJson({"models", "deit3"});
  for (const nlohmann::json& m : deit["models"])
    EXPECT_TRUE(m["name"].get<std::string>().starts_with("deit3_"));
}

// There is one object on standard output, whatever goes wrong, and the line for people as ever.
TEST(ErrorsAsJson, HaveKindAndExitCode) {
  const TempDir dir;
  MakeData(dir / "data");
  ASSERT_EQ(Graft(TrainArgs(dir / "data", dir / "run")).code, 0);
  Spill(dir / "bad.jpg", "no image");
  Spill(dir / "data/cut.txt", "images/test/none.png 0\n");
  struct Row {
    Words args;
    int code;
    std::string kind;
  };
  const Row rows[] = {
      {{"train"}, 2, "usage"},
      {{"train", "--epohcs", "3"}, 2, "usage"},
      {{"train", "--epochs", "x"}, 2, "usage"},
      {{"evla"}, 2, "usage"},
      {{"runs", dir / "data"}, 1, "user"},
      {{"eval", "--run", dir / "none", "--data", dir / "data"}, 1, "user"},
      {{"eval", "--run", dir / "run", "--data", dir / "data", "--split", "cut"}, 1, "user"},
      {{"predict", "--run", dir / "run", dir / "bad.jpg"}, 1, "user"},
      {{"predict", "--run", dir / "run"}, 2, "usage"},
      {{"fuse", "--run", dir / "run", "--out", dir / "bad.jpg"}, 1, "user"},
      {{"inspect", "init:none"}, 1, "user"}};
  for (Row row : rows) {
    const Outcome plain = Graft(row.args);
    EXPECT_EQ(plain.code, row.code) << plain.err;
    EXPECT_EQ(plain.out.find("\"error\""), std::string::npos);
    row.args.push_back("--json");
    const Outcome o = Graft(row.args);
    SCOPED_TRACE(row.args[0] + ": " + o.err);
    EXPECT_EQ(o.code, row.code);
    EXPECT_EQ(std::count(o.out.begin(), o.out.end(), '\n'), 1) << o.out;
    const nlohmann::json json = nlohmann::json::parse(o.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << o.out;
    EXPECT_EQ(json["kind"], row.kind);
    EXPECT_EQ(json["exit_code"], row.code);
    EXPECT_NE(o.err.find("graft: " + json["error"].get<std::string>()), std::string::npos);
  }
}

}  // namespace
}  // namespace graft::cli::cli_help_test
