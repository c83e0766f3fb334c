// A table of texts with what reading it gives, for the tests of tables.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/text.h"
#include "tests/test_util.h"

namespace graft {

struct TextTableCase {
  std::string name, file, text;
  std::string columns;  // --columns
  size_t rows;
  std::vector<std::string> classes;
  std::string first;  // text of the first example
  std::string told;   // in one of the notes; "" = there is none
};

inline void ExpectRead(const TextTableCase& t) {
  SCOPED_TRACE(t.name);
  const TempDir folder;
  folder.Write(t.file, t.text);
  const TextDataset data(folder.path().string(), ParseTextColumns(t.columns));
  const TextSplit split = data.Load("train");
  EXPECT_EQ(split.examples.size(), t.rows);
  EXPECT_EQ(data.class_names(), t.classes);
  EXPECT_EQ(split.examples.at(0).text, t.first);
  if (t.told.empty())
    EXPECT_THAT(data.Notes(false), ::testing::IsEmpty());
  else
    EXPECT_THAT(data.Notes(false), ::testing::Contains(::testing::HasSubstr(t.told)));
}

}  // namespace graft
