#include "runtime/process_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <optional>

#include "runtime/cpu.h"
#include "tests/process_group_testing.h"
#include "tests/test_util.h"

namespace graft::process_group_test {
namespace {

TEST(ProcessGroup, PiecesCoverAllItemsInOrder) {
  for (const int size : {1, 2, 3, 5})
    InGroup(size, [&](ProcessGroup& group) {
      if (!group.IsFirst()) return;
      for (int64_t items = 0; items < 12; ++items) {
        int64_t next = 0, most = 0, least = items;
        for (int rank = 0; rank < size; ++rank) {
          const Piece piece = group.PieceOf(items, rank);
          EXPECT_EQ(piece.begin, next);
          next += piece.size;
          most = std::max(most, piece.size), least = std::min(least, piece.size);
        }
        EXPECT_EQ(next, items);
        EXPECT_LE(most - least, 1);
        EXPECT_EQ(group.PieceOf(items, 0).size, most);
        EXPECT_EQ(group.PieceOf(items, size - 1).size, least);
      }
    });
}

// Terms of very different sizes: any other order would round otherwise.
std::vector<float> Term(int64_t i, size_t length) {
  std::vector<float> term(length);
  for (size_t k = 0; k < length; ++k)
    term[k] =
        std::ldexp(static_cast<float>((static_cast<size_t>(i) * 7919 + k * 104729) % 1009) - 500.5f,
                   static_cast<int>((static_cast<size_t>(i) * 5 + k) % 23) - 11);
  return term;
}

TEST(ProcessGroup, SumsHaveTheBitsOfOneProcess) {
  for (const size_t length : {size_t{1}, size_t{1000}, (size_t{1} << 19) + 3})
    for (int64_t terms = 1; terms <= 7; ++terms) {
      if (length > 1000 && terms != 5) continue;
      std::vector<float> expected = Term(0, length);
      for (int64_t i = 1; i < terms; ++i) {
        const std::vector<float> term = Term(i, length);
        for (size_t k = 0; k < length; ++k) expected[k] += term[k];
      }
      for (const int size : {1, 2, 3, 4, 6})
        InGroup(size, [&](ProcessGroup& group) {
          const Piece mine = group.Mine(terms);
          std::vector<std::vector<float>> own(static_cast<size_t>(terms),
                                              std::vector<float>(length, 7));  // not of the sum
          for (int64_t i = mine.begin; i < mine.begin + mine.size; ++i)
            own[static_cast<size_t>(i)] = Term(i, length);
          std::vector<std::span<float>> spans(own.begin(), own.end());
          group.SumInOrder(spans);
          EXPECT_EQ(own[0], expected) << terms << " terms, rank " << group.rank() << " of " << size;
        });
    }
}

TEST(ProcessGroup, RowsAndTextsReachAll) {
  for (const int size : {1, 2, 3})
    InGroup(size, [&](ProcessGroup& group) {
      std::vector<int> values(10, -1);
      const Piece mine = group.Mine(5);
      for (int64_t i = 2 * mine.begin; i < 2 * (mine.begin + mine.size); ++i)
        values[static_cast<size_t>(i)] = static_cast<int>(i);
      group.ShareRows(std::span(values), 5);
      std::vector<int> expected(10);
      std::iota(expected.begin(), expected.end(), 0);
      EXPECT_EQ(values, expected);
      const std::vector<std::string> texts =
          group.Gather(std::string(static_cast<size_t>(group.rank()), 'x'));
      ASSERT_EQ(std::ssize(texts), size);
      for (int rank = 0; rank < size; ++rank) EXPECT_EQ(std::ssize(texts[rank]), rank);
    });
}

TEST(ProcessGroup, OneThatWantsToStopStopsAll) {
  InGroup(3, [](ProcessGroup& group) {
    EXPECT_FALSE(group.Meet());
    EXPECT_TRUE(group.Meet(group.rank() == 2));
    EXPECT_FALSE(group.Meet(false));
  });
}

// What one throws all of them throw, wherever they meet next; of two the first is heard.
TEST(ProcessGroup, AnErrorIsEverybodys) {
  struct Case {
    std::vector<int> failing;
    std::string message;
  };
  const Case cases[] = {{{0}, "of 0"},
                        {{1}, "process 2 of 3: of 1"},
                        {{2, 1}, "process 2 of 3: of 1"},
                        {{0, 1, 2}, "of 0"}};
  for (const Case& c : cases)
    InGroup(3, [&](ProcessGroup& group) {
      std::optional<ErrorKind> kind;
      const std::string message = MessageOf([&] {
        try {
          group.Together([&] {
            group.Together([&] {
              group.Meet();
              for (const int rank : c.failing)
                if (group.rank() == rank)
                  throw Error(fmt::format("of {}", rank), ErrorKind::kInterrupted);
              group.Meet();
              ADD_FAILURE() << "nobody heard";
            });
          });
        } catch (const Error& e) {
          kind = e.kind;
          throw;
        }
      });
      EXPECT_EQ(message, c.message);
      EXPECT_EQ(kind, ErrorKind::kInterrupted);
    });
}

TEST(ProcessGroup, ExceptionsOfTheLibraryAreErrors) {
  InGroup(2, [](ProcessGroup& group) {
    EXPECT_EQ(MessageOf([&] {
                group.Together([&] {
                  if (group.rank() == 1) throw std::runtime_error("no file");
                });
              }),
              "process 2 of 2: no file");
  });
  InGroup(2, [](ProcessGroup& group) {
    EXPECT_NE(
        MessageOf([&] { group.Together([] { throw std::bad_alloc(); }); }).find("out of memory"),
        std::string::npos);
  });
}

struct Launch {
  std::vector<std::pair<const char*, const char*>> variables;
  int rank, size;
};

TEST(ProcessGroup, LaunchersTellByTheEnvironment) {
  constexpr const char* kAll[] = {
      "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK",    "PMI_SIZE",
      "SLURM_PROCID",         "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
  const Launch launches[] = {
      {{}, 0, 1},
      {{{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}, 2, 4},
      {{{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, 0, 1},
      {{{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}, 1, 2},
      {{{"SLURM_PROCID", "3"}, {"SLURM_STEP_NUM_TASKS", "8"}}, 3, 8},
      {{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}, 0, 1}};  // a batch script
  for (const Launch& launch : launches) {
    for (const char* name : kAll) unsetenv(name);
    for (const auto& [name, value] : launch.variables) setenv(name, value, 1);
    EXPECT_EQ(ReadLaunch().rank, launch.rank);
    EXPECT_EQ(ReadLaunch().size, launch.size);
  }
  for (const char* name : kAll) unsetenv(name);
  EXPECT_EQ(OpenProcessGroup(), nullptr);
}

TEST(ProcessGroup, ThreadsAreDividedAmongThoseOnTheSameCores) {
  InGroup(3, [](ProcessGroup& group) {
    EXPECT_EQ(ThreadsInGroup(group), std::max(1, DefaultThreads() / 3));
  });
}

}  // namespace
}  // namespace graft::process_group_test
