// Folders of images as people have them: what torchvision's ImageFolder reads, names of splits,
// folders of data sets, parts that are held out.
#include <gmock/gmock.h>

#include "data/check.h"
#include "data/dataset.h"
#include "data/split_files.h"
#include "data/splits.h"
#include "tests/image_test_util.h"

namespace graft::data_folders_test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Words = std::vector<std::string>;

// Files with a picture each, a PNG whatever the name; a name that ends in '/' is a folder.
void Fill(const TempDir& folder, const Words& paths) {
  uint32_t seed = 1;
  for (const std::string& path : paths) {
    fs::create_directories((folder.path() / path).parent_path());
    if (!path.ends_with('/')) WritePng(folder / path, NoiseImage(seed++, 4, 4));
  }
}

// Classes and samples are those that torchvision 0.29 reads from this folder, but for the .gif that
// it leaves out.
TEST(DataFolders, AsImageFolder) {
  const TempDir folder;
  Fill(folder, {"cats/a.png", "cats/more/b.png", "Dogs/c.JPG", "10/x.webp", "2/x.bmp", "2/y.tif",
                "2/z.gif", "2/q.jpg", "elsewhere/birds/z.png", "elsewhere/y.png"});
  fs::create_directory_symlink(folder.path() / "elsewhere/birds", folder.path() / "birds");
  fs::create_directory_symlink(folder.path() / "elsewhere/birds", folder.path() / "cats/linked");
  fs::create_directory_symlink(folder.path() / "cats", folder.path() / "cats/loop");
  for (const char* hidden : {"cats/._a.png", "cats/.hidden/b.png", ".cache/a.png", "__MACOSX/a.png",
                             "cats/__MACOSX/._a.jpg", "Dogs/.DS_Store", "Dogs/Thumbs.db"}) {
    fs::create_directories((folder.path() / hidden).parent_path());
    folder.Write(hidden, "no image");
  }
  const ImageDataset data(folder.path().string());
  EXPECT_THAT(data.class_names(), ElementsAre("10", "2", "Dogs", "birds", "cats", "elsewhere"));
  Words samples;
  for (const Example& e : data.Load("train").examples)
    samples.push_back(
        fmt::format("{} {}", fs::path(e.path).lexically_relative(folder.path()).string(), e.label));
  EXPECT_THAT(samples,
              ElementsAre("10/x.webp 0", "2/q.jpg 1", "2/x.bmp 1", "2/y.tif 1", "2/z.gif 1",
                          "Dogs/c.JPG 2", "birds/z.png 3", "cats/a.png 4", "cats/linked/z.png 4",
                          "cats/more/b.png 4", "elsewhere/birds/z.png 5", "elsewhere/y.png 5"));
  EXPECT_THAT(data.left_out(), IsEmpty());
}

struct Layout {
  Words paths, splits;  // splits: train, validation, test by default ("" = none)
  std::string told;     // in one of the notes; "" = there is none
};

TEST(DataFolders, NamesOfSplits) {
  const Layout layouts[] = {
      {{"Train/a/1.png", "Train/b/1.png", "VAL/a/1.png", "VAL/b/1.png"},
       {"Train", "VAL", "VAL"},
       ""},
      {{"training/a/1.png", "training/b/1.png", "testing/a/1.png", "validation/b/1.png"},
       {"training", "validation", "testing"},
       ""},
      {{"train/a/1.png", "train/b/1.png", "dev/a/1.png"}, {"train", "dev", "dev"}, ""},
      {{"train/a/1.png", "train/b/1.png", "Eval/a/1.png"}, {"train", "Eval", "Eval"}, ""},
      {{"train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png"},
       {"train", "", ""},
       "test: 2 images are left out: the split has no class folders"},
      {{"train/a/1.png", "train/b/1.png", "extra/a/1.png"},
       {"train", "", ""},
       "extra: 1 images are left out: no split has such a name"},
      {{"a/1.png", "b/1.png"}, {"train", "", ""}, ""},
      {{"Cat/1.png", "cat/1.png"}, {"train", "", ""}, "'Cat' and 'cat' differ only in case"},
  };
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.paths.back());
    const TempDir folder;
    Fill(folder, layout.paths);
    const ImageDataset data(folder.path().string());
    EXPECT_EQ(data.DefaultTrainSplit(), layout.splits[0]);
    EXPECT_EQ(data.DefaultValidationSplit(), layout.splits[1]);
    EXPECT_EQ(data.DefaultEvalSplit(), layout.splits[2]);
    EXPECT_EQ(data.num_classes(), 2);
    if (layout.told.empty())
      EXPECT_THAT(data.Notes(false), IsEmpty());
    else
      EXPECT_THAT(data.Notes(false), Contains(HasSubstr(layout.told)));
  }
}

TEST(DataFolders, AreRefused) {
  const std::pair<Words, Words> folders[] = {
      {{"training/1.png", "cats/1.png", "dogs/1.png"},
       {"training: a split by its name, but it has no class folders, and lies beside folders of "
        "other names (cats); hint: move it away, or rename it if it is a class"}},
      {{"dev/1.png", "test/1.png"},
       {"dev: expected class folders in the split, such as dev/CLASS/*.jpg; found 1 images"}},
      {{"train/a/1.png", "train/b/1.png", "Training/a/1.png"},
       {"two folders to train on, Training and train; hint: rename one"}},
      {{"flowers/rose/1.png", "flowers/lily/1.png", "pets/cat/1.png"},
       {"expected images in its class folders, found only folders there, as in a folder of data "
        "sets; hint: --data ",
        "/flowers"}},
      {{"photos/cat/1.png", "photos/dog/1.png"}, {"found only folders there", "/photos"}},
      {{"flowers/train/rose/1.png", "flowers/test/rose/1.png", "pets/train/cat/1.png"},
       {"a folder of data sets, of which flowers is one; hint: --data ", "/flowers"}},
      {{"train/x/a/1.png", "train/y/b/1.png"}, {"train: expected images in its class folders"}},
      {{"1.png", "2.png"}, {"expected a folder for each class, found 2 images without"}},
      {{"a/1.png", "b/"}, {"b: expected images (jpg, jpeg, png, webp, gif, bmp, tif, tiff, ppm"}},
  };
  for (const auto& [paths, says] : folders) {
    SCOPED_TRACE(paths.back());
    const TempDir folder;
    Fill(folder, paths);
    const std::string message = MessageOf([&] { ImageDataset data(folder.path().string()); });
    for (const std::string& word : says) EXPECT_THAT(message, HasSubstr(word));
  }
}

TEST(DataFolders, ListsAreTold) {
  const TempDir folder;
  Fill(folder, {"a.png", "b.png", "c.png"});
  const std::string path = folder.path().string();
  folder.Write("Train.txt", "a.png 1\nb.png 2\nc.png 1\n");
  folder.Write("._Train.txt", "a.png 1\n");
  const ImageDataset from_1(path);
  EXPECT_EQ(from_1.DefaultTrainSplit(), "Train");
  EXPECT_THAT(from_1.Notes(false),
              ElementsAre(HasSubstr("labels begin at 1, but classes count from 0")));
  folder.Write("Train.txt", "a.png 0\nb.png 1\n./a.png 1\n");
  EXPECT_THAT(ImageDataset(path).Notes(false),
              ElementsAre(AllOf(HasSubstr("a.png is listed with the labels 0 and 1"))));
  folder.Write("classes.txt", "x\ny\n");
  folder.Write("Train.txt", "a.png 1\nb.png 2\n");
  EXPECT_THAT(MessageOf([&] { ImageDataset data(path); }),
              HasSubstr("found 2; hint: labels count from 0"));
}

TEST(DataFolders, EverythingIsReportedAtOnce) {
  const TempDir folder;
  Fill(folder, {"a.png", "b.png", "c.png"});
  folder.Write("d.png", "no image");
  folder.Write("train.txt", "a.png 0\nb.png\nc.png x\nd.png 1\ne.png 1\na.png 1\n");
  const DatasetReport report = CheckDataset(folder.path().string());
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("train.txt:2: expected 'path label'"),
                                           HasSubstr("train.txt:3: expected the label")));
  ASSERT_EQ(report.unreadable.size(), 2u);
  EXPECT_THAT(report.unreadable[1].reason, HasSubstr("e.png: cannot open"));
  ASSERT_EQ(report.conflicts.size(), 1u);
  EXPECT_EQ(report.conflicts[0].second_label, 1);
  EXPECT_THAT(report.problem(), HasSubstr("2 mistakes in lists and folders, 2 unreadable images, 1 "
                                          "picture with two labels; the report above names them"));
  const std::string text = ToString(report);
  for (const char* word : {"mistakes: 2", "unreadable images: 2", "pictures with two labels: 1"})
    EXPECT_THAT(text, HasSubstr(word));
}

// One picture in two class folders, and classes of which one has no image.
TEST(DataFolders, ReportOfFolders) {
  const TempDir folder;
  Fill(folder, {"train/a/1.png", "train/b/2.png", "train/c/", "val/d/3.png"});
  fs::copy(folder.path() / "train/a/1.png", folder.path() / "train/b/copy.png");
  const DatasetReport report = CheckDataset(folder.path().string());
  EXPECT_THAT(report.problems,
              ElementsAre(HasSubstr("c: expected images"), HasSubstr("the class 'd' is not among"),
                          HasSubstr("val: expected images, found none")));
  ASSERT_EQ(report.conflicts.size(), 1u);
  EXPECT_THAT(ToString(report), HasSubstr("train/a/1.png is a, "));
  const TempDir one;
  Fill(one, {"a/1.png", "a/2.png"});
  EXPECT_THAT(CheckDataset(one.path().string()).problem(), HasSubstr("are of one class"));
  EXPECT_THAT(CheckDataset(one / "none").problem(), HasSubstr("does not exist"));
}

TEST(DataFolders, HoldOutIsStratifiedAndSeeded) {
  const TempDir folder;
  Words paths{"c/0.png"};
  for (int i = 0; i < 10; ++i) paths.push_back(fmt::format("a/{}.png", i));
  for (int i = 0; i < 33; ++i) paths.push_back(fmt::format("b/{}.png", i));
  Fill(folder, paths);
  const auto held = [&](double share, uint64_t seed) {
    ImageDataset data(folder.path().string());
    data.HoldOut("train", share, seed);
    EXPECT_EQ(data.Load("train").examples.size() + data.Load("holdout").examples.size(), 44u);
    EXPECT_EQ(Overlap(data.Load("train"), data.Load("holdout")).size(), 0u);
    EXPECT_EQ(data.DefaultValidationSplit(), "holdout");
    return data.Load("holdout").examples;
  };
  std::vector<int> per_class(3);
  for (const Example& e : held(0.2, 7)) ++per_class[e.label];
  EXPECT_THAT(per_class, ElementsAre(2, 7, 0));
  EXPECT_EQ(held(0.2, 7), held(0.2, 7));
  EXPECT_NE(held(0.2, 7), held(0.2, 8));
  EXPECT_EQ(held(0.9, 7).size(), 9u + 30u);
  EXPECT_EQ(held(0.01, 7).size(), 2u);
}

TEST(DataFolders, FoldsCoverEverythingOnce) {
  std::vector<ToDivide> examples;
  for (size_t i = 0; i < 23; ++i) examples.push_back({static_cast<int>(i % 2), i == 22 ? 0 : i});
  const std::vector<size_t> fold = DrawFolds(examples, 5, 1);
  std::vector<int> sizes(5), ones(5);
  for (size_t i = 0; i < fold.size(); ++i) {
    ++sizes[fold[i]];
    ones[fold[i]] += examples[i].label;
  }
  EXPECT_EQ(fold[22], fold[0]);
  for (size_t k = 0; k < 5; ++k) {
    EXPECT_GE(sizes[k], 4);
    EXPECT_LE(sizes[k], 6);
    EXPECT_GE(ones[k], 2);
    EXPECT_LE(ones[k], 3);
  }
  EXPECT_EQ(fold, DrawFolds(examples, 5, 1));
  EXPECT_NE(fold, DrawFolds(examples, 5, 2));
}

// There are 60 examples of up to four labels, the rarest of which occurs four times, and ten have
// none.
TEST(DataFolders, SeveralLabelsHaveTheirSharesInEachPart) {
  std::vector<ToDivide> examples;
  for (size_t i = 0; i < 60; ++i) {
    std::vector<int> labels;
    for (const auto& [label, each] : {std::pair<int, size_t>{0, 2}, {1, 3}, {2, 5}, {3, 15}})
      if (i % each == 0 && i % 6 != 5) labels.push_back(label);
    examples.push_back({0, i == 59 ? 0 : i, labels});
  }
  const auto count = [&](const auto& part, auto which, int label) {
    int n = 0;
    for (size_t i = 0; i < examples.size(); ++i)
      n += part[i] == which && (label < 0 || std::ranges::count(*examples[i].labels, label) > 0);
    return n;
  };
  const std::vector<bool> held = DrawHoldout(examples, 0.25, 3);
  EXPECT_EQ(held[59], held[0]);
  EXPECT_NEAR(count(held, true, -1), 15, 1);
  for (const auto& [label, share] : {std::pair{0, 7.5}, {1, 5.0}, {2, 2.5}, {3, 1.0}})
    EXPECT_NEAR(count(held, true, label), share, 1) << label;
  EXPECT_EQ(held, DrawHoldout(examples, 0.25, 3));
  EXPECT_NE(held, DrawHoldout(examples, 0.25, 4));
  const std::vector<size_t> fold = DrawFolds(examples, 4, 3);
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(count(fold, k, -1), 15, 1);
    for (const auto& [label, share] : {std::pair{0, 7.5}, {1, 5.0}, {2, 2.5}, {3, 1.0}})
      EXPECT_NEAR(count(fold, k, label), share, 1) << k << " " << label;
  }
}

TEST(DataFolders, WrittenPartsAreReadAgain) {
  const TempDir folder;
  Fill(folder, {"data/b c/1 2.png", "data/b c/3.png", "data/a/1.png"});
  const ImageDataset data(folder / "data");
  Split train = data.Load("train");
  fs::create_directories(folder.path() / "lists");
  WriteImageLists(folder / "lists", data.class_names(), {train});
  const ImageDataset again(folder / "lists");
  EXPECT_EQ(again.class_names(), data.class_names());
  EXPECT_EQ(again.Load("train").examples, train.examples);
  train.examples[0].path += "\n";
  EXPECT_THAT(MessageOf([&] { WriteImageLists(folder / "lists", {}, {train}); }),
              HasSubstr("a list cannot hold a path with a line end"));
  const TextSplit texts{"train", {{"a \"b\",\r\nc", {}, 1}, {"", {}, 0}, {" d", {}, 1}}};
  fs::create_directories(folder.path() / "texts");
  WriteTextTables(folder / "texts", {"x, y", "z"}, {texts});
  EXPECT_EQ(TextDataset(folder / "texts").Load("train").examples, texts.examples);
}

}  // namespace
}  // namespace graft::data_folders_test
