// Lists, class folders, their mistakes, and `graft data check`.
#include <gmock/gmock.h>

#include "data/check.h"
#include "data/dataset.h"
#include "tests/image_test_util.h"

namespace graft::data_dataset_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes lists, each with four images of two classes.
void WriteLists(const TempDir& folder) {
  std::filesystem::create_directories(folder.path() / "images");
  const auto list = [&](const std::string& name, uint32_t seed) {
    std::string lines;
    for (uint32_t i = 0; i < 4; ++i) {
      const std::string path = fmt::format("images/{} {}.png", name, i);
      WritePng(folder / path, NoiseImage(seed + i, 6 + static_cast<int>(i), 5));
      lines += fmt::format("{} {}\r\n", path, i % 2);
    }
    folder.Write(name + ".txt", lines);
    return lines;
  };
  folder.Write("train800val200.txt", list("train800", 10) + list("val200", 20));
  list("test", 30);
}

TEST(Dataset, Lists) {
  const TempDir folder;
  WriteLists(folder);
  folder.Write("notes.txt", "nothing to see\n");
  folder.Write("few.txt", "\n./images/test 0.png 1\n");
  folder.Write("requirements.txt", "numpy 2\n");
  const ImageDataset data(folder.path().string());
  EXPECT_EQ(data.form(), DatasetForm::kLists);
  EXPECT_THAT(data.split_names(), ElementsAre("train800", "val200", "train800val200", "test"));
  EXPECT_EQ(data.num_classes(), 2);
  EXPECT_TRUE(data.class_names().empty());
  const Split train = data.Load("train800");
  ASSERT_EQ(train.examples.size(), 4u);
  EXPECT_EQ(train.examples[3].path, folder / "images/train800 3.png");
  EXPECT_EQ(train.examples[3].label, 1);
  EXPECT_EQ(data.Load("test", 3).examples[2].path, folder / "images/test 2.png");
  EXPECT_EQ(data.Load("test", 99).examples.size(), 4u);
  EXPECT_EQ(Overlap(train, data.Load("val200")).size(), 0u);
  EXPECT_EQ(Overlap(data.Load("train800val200"), data.Load("val200")).size(), 4u);
  EXPECT_EQ(data.DefaultTrainSplit(), "train800");
  EXPECT_EQ(data.DefaultValidationSplit(), "val200");
  EXPECT_EQ(data.DefaultEvalSplit(), "test");
}

TEST(Dataset, ClassNames) {
  const TempDir folder;
  WriteLists(folder);
  folder.Write("classes.txt",
               "\xef\xbb\xbf"
               "cat\r\nsea lion\r\nunused\r\n\r\n");
  const ImageDataset data(folder.path().string());
  EXPECT_THAT(data.class_names(), ElementsAre("cat", "sea lion", "unused"));
  EXPECT_EQ(data.num_classes(), 3);
}

TEST(Dataset, ListErrors) {
  const std::pair<std::string, std::string> cases[] = {
      {"a.png 0\nb.png\n", "train800.txt:2: expected 'path label', found 'b.png'"},
      {"a.png 0\nb.png x1\n", "train800.txt:2: expected the label as a number"},
      {"a.png 0\nb.png 1.5\n", "train800.txt:2: expected the label as a number"},
      {"a.png -1\n",
       "train800.txt:1: expected a label from 0 to 1 (classes.txt has as many lines), "
       "found -1"},
      {"a.png 2\n", "train800.txt:1: expected a label from 0 to 1"},
      {"a.png 99999999999999999999\n", "train800.txt:1: expected a label from 0 to 1"},
      {"\n \n", "train800.txt: expected lines of the form 'path label', found none"},
      {"", "train800.txt: expected lines of the form 'path label', found none"},
  };
  for (const auto& [lines, message] : cases) {
    const TempDir folder;
    folder.Write("train800.txt", lines);
    folder.Write("classes.txt", "a\nb\n");
    EXPECT_THAT(MessageOf([&] { ImageDataset(folder.path().string()); }), HasSubstr(message));
  }
  const TempDir folder;
  folder.Write("train800.txt", "a.png 100000\n");
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder.path().string()); }),
              HasSubstr("expected a label from 0 to 99999, found 100000"));
}

TEST(Dataset, OpenErrors) {
  const TempDir folder;
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder / "none"); }), HasSubstr("does not exist"));
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder.path().string()); }),
              HasSubstr("expected a data set: images as lists such as train800.txt"));
  WriteLists(folder);
  const ImageDataset data(folder.path().string());
  EXPECT_THAT(MessageOf([&] { data.Load("train80"); }),
              HasSubstr("there is no split 'train80'; did you mean 'train800'?; it has train800, "
                        "val200, train800val200, test"));
  std::filesystem::remove(folder / "images/test 2.png");
  EXPECT_THAT(MessageOf([&] { data.Load("test"); }),
              HasSubstr("images/test 2.png, which does not exist"));
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder / "test.txt"); }), HasSubstr("found a file"));
}

void WriteClass(const TempDir& folder, const std::string& name, uint32_t seed, int count) {
  std::filesystem::create_directories(folder.path() / name);
  for (int i = 0; i < count; ++i)
    WritePng(folder / fmt::format("{}/{}.PNG", name, i),
             NoiseImage(seed + static_cast<uint32_t>(i), 4, 4));
}

TEST(Dataset, Folders) {
  const TempDir folder;
  WriteClass(folder, "train/zebra", 1, 3);
  WriteClass(folder, "train/ant", 11, 3);
  WriteClass(folder, "train/ant/deeper", 21, 2);
  WriteClass(folder, "test/zebra", 31, 2);
  folder.Write("train/ant/readme.md", "not an image");
  const ImageDataset data(folder.path().string());
  EXPECT_EQ(data.form(), DatasetForm::kFolders);
  EXPECT_THAT(data.split_names(), ElementsAre("train", "test"));
  EXPECT_THAT(data.class_names(), ElementsAre("ant", "zebra"));
  EXPECT_EQ(data.Load("train").examples.size(), 8u);
  EXPECT_EQ(data.Load("train").examples[7].label, 1);
  EXPECT_EQ(data.Load("test").examples[0].label, 1);  // the number it has in training
  const Split few = data.Load("train", 4);            // both classes
  EXPECT_EQ(few.examples[0].label + few.examples[3].label, 1);
  EXPECT_EQ(data.DefaultTrainSplit(), "train");

  WriteClass(folder, "test/zebu", 41, 1);
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder.path().string()); }),
              HasSubstr("the class 'zebu' is not among the 2 class folders of the training split; "
                        "did you mean 'zebra'?"));
}

TEST(Dataset, FoldersWithoutSplits) {
  const TempDir folder;
  WriteClass(folder, "b", 1, 2);
  WriteClass(folder, "a", 11, 1);
  const ImageDataset data(folder.path().string());
  EXPECT_THAT(data.split_names(), ElementsAre("train"));
  EXPECT_THAT(data.class_names(), ElementsAre("a", "b"));
  EXPECT_EQ(data.DefaultEvalSplit(), "");
  std::filesystem::create_directories(folder.path() / "c");
  EXPECT_THAT(MessageOf([&] { ImageDataset(folder.path().string()); }),
              HasSubstr("c: expected images (jpg, jpeg, png, webp, gif, bmp, tif, tiff, ppm, pgm, "
                        "pbm, pnm, jfif, jpe) in the class folder, found none"));
}

TEST(DataCheck, Report) {
  const TempDir folder;
  WriteLists(folder);
  EXPECT_TRUE(CheckDataset(folder.path().string()).ok());

  folder.Write("images/val200 1.png", "not an image");
  WritePng(folder / "images/test 2.png", NoiseImage(10, 6, 5));  // train800 0 again
  std::filesystem::remove(folder / "images/train800 3.png");
  const DatasetReport report = CheckDataset(folder.path().string(), 3);
  EXPECT_FALSE(report.ok());
  ASSERT_EQ(report.splits.size(), 4u);
  EXPECT_THAT(report.splits[2].per_class, ElementsAre(4u, 4u));
  EXPECT_EQ(report.splits[3].min_width, 6);
  EXPECT_EQ(report.splits[3].max_width, 9);
  ASSERT_EQ(report.unreadable.size(), 2u);
  EXPECT_THAT(report.unreadable[0].reason, HasSubstr("No such file"));
  EXPECT_THAT(report.unreadable[1].reason, HasSubstr("text that begins with 'not an image'"));
  ASSERT_EQ(report.duplicates.size(), 2u);  // from train800 and from train800val200
  EXPECT_EQ(report.duplicates[0].second_path, folder / "images/test 2.png");
  ASSERT_EQ(report.overlaps.size(), 2u);
  EXPECT_EQ(report.overlaps[0].count, 4u);
  EXPECT_THAT(ToString(report), HasSubstr("problems found"));
  EXPECT_THAT(ToString(report), HasSubstr("unreadable images: 2"));
}

TEST(DataCheck, SaysHowFarItIs) {
  const TempDir folder;
  WriteLists(folder);
  std::vector<std::string> paths;
  for (const Example& e : ImageDataset(folder.path().string()).Load("train800val200").examples)
    paths.push_back(e.path);
  for (const int threads : {1, 3}) {
    size_t before = 0;
    const auto grows = [&](size_t done, size_t total) {
      EXPECT_GE(done, before);
      EXPECT_LE(done, total);
      EXPECT_EQ(total, paths.size());
      before = done;
    };
    EXPECT_TRUE(FindUnreadable(paths, threads, grows).empty());
    EXPECT_EQ(before, paths.size()) << threads;
  }
}

TEST(DataCheck, SharedDataIsClean) {
  GRAFT_NEED_SHARED_DATA();
  const ImageDataset data((SharedData() / "data/vtab-1k/cifar10").string());
  EXPECT_EQ(data.num_classes(), 10);
  EXPECT_EQ(data.class_names().size(), 10u);
  EXPECT_EQ(data.Load("train800").examples.size(), 800u);
  EXPECT_EQ(data.Load("test", 64).examples.size(), 64u);
  const DatasetReport report = CheckDataset((SharedData() / "data/vtab-1k/mnist").string());
  EXPECT_TRUE(report.unreadable.empty());
  EXPECT_TRUE(report.ok()) << ToString(report);
}

}  // namespace
}  // namespace graft::data_dataset_test
