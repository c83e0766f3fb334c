// Tables of images: where the images are that they name.
#include "data/image_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "data/dataset.h"
#include "tests/test_util.h"

namespace graft::image_places_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Words = std::vector<std::string>;

void Fill(const TempDir& folder, const Words& files) {
  for (const std::string& file : files) {
    std::filesystem::create_directories(std::filesystem::path(folder / file).parent_path());
    folder.Write(file, "");
  }
}

std::string TableOf(const Words& names) {
  std::string text = "file,label\n";
  for (size_t i = 0; i < names.size(); ++i) text += names[i] + (i % 2 ? ",x\n" : ",y\n");
  return text;
}

struct Layout {
  std::string what;
  Words files, names;
  Words paths;  // of the names; empty: this is no table of images
  std::string note;
};

const Layout kLayouts[] = {
    {"as they are named", {"a.jpg", "b/c.png"}, {"a.jpg", "b/c.png"}, {"a.jpg", "b/c.png"}, ""},
    {"in a folder",
     {"pictures/a.jpg", "pictures/b.jpg"},
     {"a.jpg", "b.jpg"},
     {"pictures/a.jpg", "pictures/b.jpg"},
     "its images are found in 'pictures/'"},
    {"in the folder of the split, not in others",
     {"images/a.jpg", "Train/a.jpg", "another/a.jpg", "images/b.jpg", "Train/b.jpg"},
     {"a.jpg", "b.jpg"},
     {"Train/a.jpg", "Train/b.jpg"},
     "its images are found in 'Train/'"},
    {"in images, not in another",
     {"another/a.jpg", "images/a.jpg"},
     {"a.jpg"},
     {"images/a.jpg"},
     "its images are found in 'images/'"},
    {"as they are named, although a folder has the same",
     {"a.jpg", "images/a.jpg"},
     {"a.jpg"},
     {"a.jpg"},
     ""},
    {"where most of them are",
     {"a.jpg", "images/a.jpg", "images/b.jpg"},
     {"a.jpg", "b.jpg", "gone.jpg"},
     {"images/a.jpg", "images/b.jpg", "images/gone.jpg"},
     "its images are found in 'images/'"},
    {"by the names of another system",
     {"b/a.jpg", "b/c.jpg"},
     {"b\\a.jpg", "b\\c.jpg"},
     {"b/a.jpg", "b/c.jpg"},
     "its images are found by names in which '\\' ends a folder"},
    {"without endings",
     {"train/a.png", "train/7.png"},
     {"a", "7"},
     {"train/a.png", "train/7.png"},
     "its images are found in 'train/', with '.png' behind their names"},
    {"most of which are there",
     {"train/a.png", "train/7.png"},
     {"a", "7", "gone"},
     {"train/a.png", "train/7.png", "train/gone.png"},
     "its images are found in 'train/', with '.png' behind their names"},
    {"of which some are none",
     {"a.jpg", "b.jpg", "notes.txt"},
     {"a.jpg", "b.jpg", "notes.txt", "c.heic", "d.jpg"},
     {"a.jpg", "b.jpg", "notes.txt", "c.heic", "d.jpg"},
     ""},
    {"nowhere", {"x.jpg"}, {"a.jpg", "b.jpg"}, {"a.jpg", "b.jpg"}, ""},
    {"texts, one of which is a file's name", {"a.jpg"}, {"a", "a film"}, {}, ""},
    {"hidden folders are none", {".b/a.jpg"}, {"a.jpg"}, {"a.jpg"}, ""}};

TEST(ImagePlaces, Layouts) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(layout.what);
    const TempDir folder;
    Fill(folder, layout.files);
    folder.Write("train.csv", TableOf(layout.names));
    const TextDataset tables(folder.path().string());
    EXPECT_EQ(NamesImages(tables), !layout.paths.empty());
    if (layout.paths.empty()) continue;
    ImageDataset images(tables);
    images.AllowMissing();
    Words paths;
    for (const Example& e : images.Load("train").examples)
      paths.push_back(std::filesystem::path(e.path).lexically_relative(folder.path()).string());
    EXPECT_EQ(paths, layout.paths);
    Words notes = images.Notes(false);
    std::erase_if(notes, [](const std::string& n) { return n.find("its images") == n.npos; });
    if (layout.note.empty())
      EXPECT_THAT(notes, IsEmpty());
    else
      EXPECT_THAT(notes, ElementsAre(folder.path().string() + ", split 'train': " + layout.note));
  }
}

// A wrong row does not make texts of images: it is told as of any table.
TEST(ImagePlaces, WrongRows) {
  const TempDir folder;
  folder.Write("train.csv", "file,label\na.jpg,x\nb.jpg,\nc.jpg,y\n");
  const TextDataset tables(folder.path().string());
  EXPECT_TRUE(NamesImages(tables));
  EXPECT_NE(MessageOf([&] { ImageDataset images(tables); }).find("train.csv:3: the label is empty"),
            std::string::npos);
  const TextDataset skipping(folder.path().string(), {}, true);
  EXPECT_EQ(ImageDataset(skipping).splits().at(0).examples.size(), 2u);
}

// A table gives the classes where folders cannot.
TEST(ImagePlaces, ClassesOf) {
  struct Row {
    Words files;
    std::string place;  // "" = the folder itself
  };
  for (const Row& row : {Row{{"labels.csv", "1.jpg", "2.jpg"}, ""},  // one of its tables
                         {{"labels.csv", "images/1.jpg"}, "labels.csv"},
                         {{"labels.jsonl", "images/a/1.jpg", "images/b/2.jpg"}, "labels.jsonl"},
                         {{"labels.tsv", "train/1.jpg", "test/2.jpg"}, "labels.tsv"},
                         {{"labels.csv", "a/1.jpg", "b/2.jpg"}, ""},
                         {{"labels.csv", "train/a/1.jpg"}, ""},
                         {{"others.csv", "images/1.jpg"}, ""},
                         {{"train.csv", "labels.csv", "images/1.jpg"}, ""}}) {
    const TempDir folder;
    Fill(folder, row.files);
    const std::string path = folder.path().string();
    EXPECT_EQ(ClassesOf(path), row.place.empty() ? path : folder / row.place) << row.files[0];
    folder.Write("train.txt", "a.jpg 0\n");
    if (!row.place.empty()) {
      EXPECT_EQ(ClassesOf(path), path) << row.files[0];
    }
  }
}

}  // namespace
}  // namespace graft::image_places_test
