// The line that says how far long work is: when it comes, how wide it is, and that it ends.
#include "tools/lib/progress_meter.h"

#include <gtest/gtest.h>

namespace graft::progress_meter_test {
namespace {

struct Screen {
  double now = 100;
  int columns = 80;
  std::string text;

  ProgressMeter Meter(bool terminal) {
    return ProgressMeter({.terminal = terminal,
                          .columns = [this] { return columns; },
                          .seconds = [this] { return now; },
                          .write = [this](const std::string& t) { text += t; }});
  }
};

TEST(ProgressMeter, APipeGetsALineEvery30Seconds) {
  Screen screen;
  ProgressMeter meter = screen.Meter(false);
  std::vector<double> lines;
  for (size_t done = 0; done < 1000; ++done, screen.now += 0.1) {
    const size_t before = screen.text.size();
    meter.Work("eval", done, 1000, "images");
    if (screen.text.size() > before) lines.push_back(screen.now - 100);
  }
  ASSERT_EQ(lines.size(), 3u) << screen.text;
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_NEAR(lines[i], 30 * (i + 1), 0.5);
  EXPECT_TRUE(screen.text.starts_with("eval:  30")) << screen.text;
  EXPECT_NE(screen.text.find(" of 1,000 images  10.0 images/s  1m10s left\n"), std::string::npos)
      << screen.text;
  EXPECT_EQ(screen.text.find('\r'), std::string::npos);
}

TEST(ProgressMeter, ShortWorkShowsNothing) {
  for (const bool terminal : {false, true}) {
    Screen screen;
    ProgressMeter meter = screen.Meter(terminal);
    for (int piece = 0; piece < 5; ++piece)  // each begins again
      for (size_t done = 0; done <= 10; ++done, screen.now += 0.15)
        meter.Work("eval", done, 10, "images");
    EXPECT_EQ(screen.text, "");
  }
}

TEST(ProgressMeter, ATerminalIsNeverTooNarrow) {
  for (const int columns : {1, 2, 10, 23, 40, 200}) {
    Screen screen;
    screen.columns = columns;
    ProgressMeter meter = screen.Meter(true);
    for (size_t done = 0; done < 100; ++done, screen.now += 0.5)
      meter.Work("features of the frozen l\u00e4yers", done, 100, "images");
    ASSERT_FALSE(screen.text.empty());
    for (size_t at = 0; (at = screen.text.find("\r\033[K", at)) != std::string::npos; ++at) {
      const std::string line = screen.text.substr(at + 4, screen.text.find('\r', at + 1) - at - 4);
      const auto wide = std::ranges::count_if(
          line, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
      EXPECT_LT(wide, std::max(columns, 2)) << line;
      EXPECT_EQ(line.find('\n'), std::string::npos);
    }
  }
}

TEST(ProgressMeter, WhatIsWorthLeastGoesFirst) {
  const std::vector<LinePart> parts{{"abc", 3}, {"defg", 1}, {"hi", 2}};
  EXPECT_EQ(FitLine(parts, 13), "abc  defg  hi");
  EXPECT_EQ(FitLine(parts, 12), "abc  hi");
  EXPECT_EQ(FitLine(parts, 6), "abc");
  EXPECT_EQ(FitLine(parts, 2), "a~");
}

TEST(ProgressMeter, Durations) {
  EXPECT_EQ(DurationText(0.4), "0s");
  EXPECT_EQ(DurationText(59.4), "59s");
  EXPECT_EQ(DurationText(80), "1m20s");
  EXPECT_EQ(DurationText(7260), "2h01m");
}

}  // namespace
}  // namespace graft::progress_meter_test
