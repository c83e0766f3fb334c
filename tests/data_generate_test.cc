// Tests the procedural tasks: they have the same bytes everywhere, balanced labels, and give a
// readable data set on disk.
#include <gmock/gmock.h>

#include <map>

#include "data/check.h"
#include "data/generate.h"
#include "tests/image_test_util.h"

namespace graft::data_generate_test {
namespace {

using ::testing::HasSubstr;

// There is one checksum for each task over four images. A change here changes everybody's generated
// data.
TEST(Generate, BytesAreFixed) {
  const std::map<std::string, std::string> expected = {
      {"shapes", "694cf952"}, {"count", "d8c30acc"},   {"position", "a29b7ebb"},
      {"color", "9a4244b2"},  {"texture", "a8aaccbd"},
  };
  for (const GeneratedTask& task : GeneratedTasks()) {
    Image all{1, 1, {}};
    for (uint64_t index : {0u, 1u, 2u, 1000u}) {
      const Image image = GenerateImage(task, 32, 5, index);
      EXPECT_EQ(image.width, 32);
      EXPECT_EQ(image.height, 32);
      all.rgb.insert(all.rgb.end(), image.rgb.begin(), image.rgb.end());
    }
    EXPECT_EQ(Crc(all), expected.at(task.name)) << task.name;
  }
}

TEST(Generate, SeedTaskAndIndexMatter) {
  const GeneratedTask& shapes = FindGeneratedTask("shapes");
  const Image image = GenerateImage(shapes, 32, 0, 0);
  EXPECT_EQ(image, GenerateImage(shapes, 32, 0, 0));
  EXPECT_NE(image, GenerateImage(shapes, 32, 1, 0));
  EXPECT_NE(image, GenerateImage(shapes, 32, 0, 1));
  EXPECT_NE(image, GenerateImage(FindGeneratedTask("color"), 32, 0, 0));
}

TEST(Generate, LabelsAreBalanced) {
  for (const GeneratedTask& task : GeneratedTasks()) {
    std::vector<int> counts(task.classes.size());
    for (uint64_t i = 0; i < 100 * task.classes.size(); ++i) ++counts[GenerateLabel(task, 3, i)];
    for (int count : counts) EXPECT_EQ(count, 100) << task.name;
  }
}

TEST(Generate, EverySize) {
  for (const GeneratedTask& task : GeneratedTasks())
    for (int size : {16, 33, 224}) EXPECT_EQ(GenerateImage(task, size, 0, 7).width, size);
  EXPECT_THAT(MessageOf([] { GenerateImage(FindGeneratedTask("shapes"), 8, 1, 0); }),
              HasSubstr("expected an image size from 16 to 512, found 8"));
  EXPECT_THAT(MessageOf([] { FindGeneratedTask("shape"); }),
              HasSubstr("there is no task 'shape'; did you mean 'shapes'?"));
  EXPECT_THAT(MessageOf([] { FindGeneratedTask("nonsense"); }),
              HasSubstr("known: shapes, count, position, color, texture"));
}

TEST(Generate, WriteTask) {
  const TempDir folder;
  const std::string root = folder / "out";
  WriteTask(root, "count", 24, {.train = 30, .val = 12, .test = 18}, 9);
  const DatasetReport report = CheckDataset(root);
  EXPECT_TRUE(report.ok()) << ToString(report);
  EXPECT_TRUE(report.duplicates.empty());
  EXPECT_EQ(report.num_classes, 6);
  ASSERT_EQ(report.splits.size(), 4u);
  EXPECT_EQ(report.splits[2].images, 42u);
  EXPECT_EQ(report.splits[3].per_class, std::vector<size_t>(6, 3));

  // What is on disk is what the generator makes in memory.
  const ImageDataset data(root);
  const GeneratedTask& task = FindGeneratedTask("count");
  const Split on_disk = data.Load("train800"), tests = data.Load("test");
  EXPECT_EQ(ReadImage(on_disk.examples[29].path), GenerateImage(task, 24, 9, 29));
  EXPECT_EQ(on_disk.examples[29].label, GenerateLabel(task, 9, 29));
  EXPECT_EQ(ReadImage(tests.examples[17].path), GenerateImage(task, 24, 9, kFirstTestIndex + 17));
  EXPECT_EQ(data.class_names(), task.classes);

  EXPECT_THAT(MessageOf([&] { WriteTask(root, "count", 24, {}, 9); }),
              HasSubstr("out: the directory exists and is not empty"));
  EXPECT_THAT(MessageOf([&] { WriteTask(root + "/test.txt", "count", 24, {}, 9); }),
              HasSubstr("test.txt: exists and is not a directory"));
  EXPECT_THAT(MessageOf([&] { WriteTask(folder / "no", "count", 24, {.val = 0}, 9); }),
              HasSubstr("expected at least one image per split"));
}

}  // namespace
}  // namespace graft::data_generate_test
