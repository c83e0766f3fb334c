// Tests what graft predict takes and writes: folders, patterns, tables; CSV, JSON lines, arrays.
#include "tests/cli_predict_testing.h"

namespace graft::cli::cli_predict_test {
namespace {

TEST_F(Predict, FoldersAndPatterns) {
  const Words below{At("photos/a.PNG"), At("photos/b.png"), At("photos/deep/er/c.png")};
  EXPECT_EQ(Inputs(Images({At("photos")})), below);
  EXPECT_EQ(Inputs(Images({At("photos/*.png")})), Words{At("photos/b.png")});
  EXPECT_EQ(Inputs(Images({At("photos/[ab].*"), At("photos/deep")})), below);
  EXPECT_EQ(Inputs(Images({At("ph?tos")})), below);
  // A file may have such a name.
  fs::copy_file(At("photos/b.png"), At("photos/x[1].png"));
  EXPECT_EQ(Inputs(Images({At("photos/x[1].png")})), Words{At("photos/x[1].png")});
  fs::remove(At("photos/x[1].png"));
  EXPECT_EQ(Images({At("photos/b.png")})[0]["top"], Images({At("photos")})[1]["top"]);
  // Browsers save JPEGs under these names.
  fs::copy_file(At("photos/b.png"), At("photos/saved.jfif"));
  EXPECT_EQ(Inputs(Images({At("photos")})).size(), 4u);
  fs::remove(At("photos/saved.jfif"));
  Spill(At("photos/phone.HEIC"), "x"), Spill(At("photos/readme.txt"), "a b\n");
  const Outcome o = Graft({"predict", "--run", At("run"), At("photos")});
  EXPECT_NE(o.out.find("photos: 1 image of a format that is not read left out"), o.out.npos)
      << o.out;
  const Outcome texts = Graft({"predict", "--run", At("text_run"), At("photos")});
  EXPECT_NE(texts.out.find("4 images that the model, which reads texts,"), o.out.npos) << texts.out;
  fs::remove(At("photos/phone.HEIC")), fs::remove(At("photos/readme.txt"));
  ExpectRefused({"predict", "--run", At("text_run"), At("photos/b.png")}, 1,
                "an image by its name");
}

// What eval measures without --data.
TEST_F(Predict, EvalHasTheDataOfTheRun) {
  const Words eval{"eval", "--run", At("run")};
  const nlohmann::json own = GraftJson(eval);
  EXPECT_EQ(own["accuracy"], GraftJson(WithOptions(eval, {"--data", At("data")}))["accuracy"]);
  EXPECT_EQ(own["split"], "test");
  EXPECT_NE(Graft(eval).out.find("note: --data of the run, " + At("data")), std::string::npos);
  EXPECT_EQ(Graft({"eval", "--model", kNano}).code, 2);
}

// A table names images where training looks for them, too.
TEST_F(Predict, ImagesOfATable) {
  const Words paths{At("photos/b.png"), At("photos/a.PNG"), At("photos/gone.png")};
  struct Table {
    std::string name, text;
    Words more = {};
  };
  for (const Table& t :
       {Table{"named.csv", "file,label\nb.png,x\na.PNG,y\ngone.png,x\n"},
        {"other.tsv",
         "nr\twhat\n1\tphotos/b.png\n2\tphotos/a.PNG\n3\tphotos/gone.png\n",
         {"--columns", "what"}},
        {"bare.csv", "photos\\b.png,x\nphotos\\a.PNG,y\nphotos\\gone.png,x\n"},
        {"lines.jsonl",
         "{\"path\": \"b.png\"}\n{\"path\": \"a.PNG\"}\n{\"path\": \"gone.png\"}\n"}}) {
    SCOPED_TRACE(t.name);
    Spill(At(t.name), t.text);
    const Outcome o =
        Graft(WithOptions({"predict", "--run", At("run"), At(t.name), "--json"}, t.more));
    EXPECT_EQ(o.code, 1) << o.err;
    EXPECT_NE(
        o.err.find("1 of 3 inputs could not be read; the first: " + paths[2] + ": no such file"),
        std::string::npos)
        << o.err;
    const nlohmann::json predictions = o.json()["predictions"];
    EXPECT_EQ(Inputs(predictions), paths);
    for (size_t i = 0; i < predictions.size(); ++i) {
      EXPECT_EQ(predictions[i]["file"], At(t.name));
      EXPECT_EQ(predictions[i]["row"], i + 1);
    }
    EXPECT_EQ(predictions[0]["top"], Images({paths[0]})[0]["top"]);
    fs::remove(At(t.name));
  }
}

TEST_F(Predict, TopOfACsvAndJsonLines) {
  EXPECT_EQ(
      Graft({"predict", "--run", At("run"), At("photos"), "--top", "3", "--out", At("top.csv")})
          .code,
      0);
  const std::vector<Words> rows = ParseCsv(Slurp(At("top.csv")));
  EXPECT_EQ(rows[0].size(), 3 + 3 * 4 + 1u);
  EXPECT_EQ(rows[0][7], "class_2");
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].size(), rows[0].size());
    EXPECT_GE(std::stod(rows[i][5]), std::stod(rows[i][9]));
  }
  EXPECT_EQ(Graft({"predict", "--run", At("run"), At("photos"), "--out", At("top.jsonl")}).code, 0);
  std::istringstream text(Slurp(At("top.jsonl")));
  const nlohmann::json predictions = Images({At("photos")});
  size_t i = 0;
  for (std::string line; std::getline(text, line); ++i)
    EXPECT_EQ(nlohmann::json::parse(line), predictions[i]);
  EXPECT_EQ(i, 3u);
}

// What exists is not replaced unless that is asked for, and no directory is made for a file.
TEST_F(Predict, ExistingFilesStay) {
  for (const char* option : {"--out", "--logits"}) {
    const std::string file = At(std::string(option) == "--out" ? "there.csv" : "there.npy");
    Spill(file, "mine");
    Words args{"predict", "--run", At("run"), At("photos"), option, file};
    ExpectRefused(args, 1, file + ": the file exists; choose another name, or --force");
    EXPECT_EQ(Slurp(file), "mine");
    args.push_back("--force");
    EXPECT_EQ(Graft(args).code, 0);
    EXPECT_NE(Slurp(file), "mine");
    args[args.size() - 2] = At("no/") + fs::path(file).filename().string();
    ExpectRefused(args, 1, "there is no directory " + At("no") + "; hint: mkdir -p ");
  }
}

struct Table {
  std::string name, text;
  Words columns, inputs;  // what is read
  std::vector<int64_t> rows;
};

TEST_F(Predict, Tables) {
  const Table tables[] = {
      {"plain.txt", "a b\n\nc d\n", {}, {"a b", "c d"}, {1, 2}},
      {"pairs.txt", "a b\tc d\n", {}, {"a b\tc d"}, {1}},
      {"run.csv", "id,review,x\n7,a b,\n8,\"c, d\",\n", {}, {"a b", "c, d"}, {1, 2}},
      {"usual.csv", "Label,Text\n1,a b\n0,c d\n", {}, {"a b", "c d"}, {1, 2}},
      {"pairs.tsv", "sentence1\tsentence2\na\tb\nc\td\n", {}, {"a\tb", "c\td"}, {1, 2}},
      {"one.csv", "a b\nc d\n", {}, {"a b", "c d"}, {1, 2}},
      // A first line of usual names is no example.
      {"alone.csv", "comment\na b\nc d\n", {}, {"a b", "c d"}, {1, 2}},
      {"labelled.csv", "id,tweet,stars\n7,a b,1\n", {}, {"a b"}, {1}},
      {"pairs.csv", "premise,hypothesis\na,b\n", {}, {"a\tb"}, {1}},
      {"labelled.tsv", "a b\todd\nc d\teven\n", {}, {"a b", "c d"}, {1, 2}},
      {"numbered.csv", "a b,1\nc d,0\n", {}, {"a b", "c d"}, {1, 2}},
      // A number of a column is no name of one, as the label of line 1.
      {"of_one.tsv", "a b\t1\nc d\t0\n", {"--columns", "1,2"}, {"a b", "c d"}, {1, 2}},
      {"of_two.tsv", "a b\t2\nc d\t1\n", {"--columns", "1,2"}, {"a b", "c d"}, {1, 2}},
      {"headed.tsv", "label\ttext\n1\ta b\n", {"--columns", "2,1"}, {"a b"}, {1}},
      {"quoted.tsv", "\"a \"\"b\"\"\"\t1\n\"c\"\t0\n", {}, {"a \"b\"", "c"}, {1, 2}},
      {"second.tsv", "a b\tx y\nc d\teven\n", {}, {"a b\tx y", "c d\teven"}, {1, 2}},
      {"named.csv", "q,a\nx y,z\n\"l1\nl2\",w\n", {"--columns", "q"}, {"x y", "l1\nl2"}, {1, 2}},
      {"three.csv", "q,a,l\nx,y,1\n", {"--columns", "q,a,l"}, {"x\ty"}, {1}},
      {"commas.csv",
       "Kommentar\na, b\n\"c; \"\"d\"\"\"\n",
       {},
       {"Kommentar", "a, b", "c; \"d\""},
       {1, 2, 3}},
      {"headed.csv", "text\r\na, b, c\r\nd\r\n", {}, {"a, b, c", "d"}, {1, 2}},
      {"asked.csv", "q\na, b\n", {"--columns", "q"}, {"a, b"}, {1}},
      {"missing.csv", "q,a\nx,y\n", {"--columns", "q,nolabel"}, {"x"}, {1}},
      {"number.csv", "1,2,3,a b\n4,5,6,c d\n", {"--columns", "4"}, {"a b", "c d"}, {1, 2}},
      {"lines.jsonl", "{\"text\": \"a\", \"x\": 1}\n{\"text\": \"b\"}\n", {}, {"a", "b"}, {1, 2}},
      {"keys.jsonl", "{\"review\": \"a\"}\n{\"review\": \"b\"}\n", {}, {"a", "b"}, {1, 2}},
      {"pairs.jsonl",
       "{\"text\": \"a\", \"hypothesis\": \"b\", \"label\": 1}\n",
       {},
       {"a\tb"},
       {1}},
      {"glue.jsonl", "{\"question\": \"a\", \"sentence\": \"b\"}\n", {}, {"a\tb"}, {1}},
      {"asked.jsonl", "{\"q\": \"a\", \"text\": \"b\"}\n", {"--columns", "q"}, {"a"}, {1}}};
  for (const Table& t : tables) {
    SCOPED_TRACE(t.name);
    Spill(At(t.name), t.text);
    Words args{At(t.name)};
    args.insert(args.end(), t.columns.begin(), t.columns.end());
    const bool pairs = t.inputs[0].find('\t') != std::string::npos;
    const nlohmann::json predictions = Texts(args, pairs ? "pair_run" : "text_run");
    EXPECT_EQ(Inputs(predictions), t.inputs);
    for (size_t i = 0; i < predictions.size(); ++i) {
      EXPECT_EQ(predictions[i]["file"], At(t.name));
      EXPECT_EQ(predictions[i]["row"], t.rows[i]);
    }
    fs::remove(At(t.name));
  }
}

TEST_F(Predict, NamesOfClasses) {
  Spill(At("names.txt"), "n0\nn1\nn2\nn3\nn4\nn5\nn6\nn7\n");
  const nlohmann::json named = Images({At("photos/b.png"), "--labels", At("names.txt")});
  for (const nlohmann::json& c : named[0]["top"]) EXPECT_EQ(c["name"], "n" + c["class"].dump());
  // A file with 1,000 classes and no names has those of ImageNet; a seeded one has none.
  ASSERT_EQ(Graft({"export", "--model", kNano, "--format", "timm", "--out", At("thousand")}).code,
            0);
  const nlohmann::json known =
      GraftJson({"predict", "--model", At("thousand"), At("photos/b.png"), "--top", "1000"});
  std::map<int, std::string> names;
  for (const nlohmann::json& c : known["predictions"][0]["top"])
    names[c["class"]] = c["name"].is_null() ? "" : c["name"].get<std::string>();
  ASSERT_EQ(names.size(), 1000u);
  EXPECT_EQ(names[0], "tench, Tinca tinca");
  EXPECT_EQ(names[281], "tabby, tabby cat");
  EXPECT_EQ(names[999], "toilet tissue, toilet paper, bathroom tissue");
  EXPECT_TRUE(GraftJson({"predict", "--model", kNano,
                         At("photos/b.png")})["predictions"][0]["top"][0]["name"]
                  .is_null());
}

TEST_F(Predict, Mistakes) {
  fs::create_directory_symlink(".", At("linked"));
  Spill(At("wide.csv"), "a,b,c,d\n1,2,3,4\n");
  Spill(At("few.txt"), "x\ny\n");
  Spill(At("clip.txt"), "text\n");
  ExpectMistakes(
      {{"empty folder", {"predict", "--run", "@run", "@none"}, 1, {"no images in this folder"}},
       {"no match", {"predict", "--run", "@run", "@none/*.png"}, 1, {"no file has such a name"}},
       {"no texts",
        {"predict", "--run", "@text_run", "@photos/deep"},
        1,
        {"no texts in this folder"}},
       {"ending",
        {"predict", "--run", "@run", "@photos", "--out", "@p.txt"},
        2,
        {".csv or .jsonl"}},
       {"columns of images",
        {"predict", "--run", "@run", "@photos", "--columns", "x"},
        2,
        {"--columns x", "of tables"}},
       {"text of images",
        {"predict", "--run", "@run", "--text", "x"},
        2,
        {"--text", "reads images"}},
       {"no column",
        {"predict", "--run", "@text_run", "@wide.csv", "--columns", "e"},
        2,
        {"there is no column 'e'"}},
       {"which column", {"predict", "--run", "@text_run", "@wide.csv"}, 1, {"--columns"}},
       {"names",
        {"predict", "--run", "@run", "@photos", "--labels", "@few.txt"},
        1,
        {"2 names", "8"}},
       {"one file, twice",
        {"predict", "--run", "@run", "@photos", "--out", "@x.csv", "--logits", "@x.csv"},
        2,
        {"--logits and --out name one file"}},
       {"one file through a link",
        {"predict", "--run", "@run", "@photos", "--out", "@x.csv", "--logits", "@linked/x.csv"},
        2,
        {"--logits and --out name one file"}},
       {"one bad image", {"predict", "--run", "@run", "@photos/notes.txt"}, 1, {"notes.txt"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_predict_test
