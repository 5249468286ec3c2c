#include "src/monitor/cells.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace xlstm {
namespace {

constexpr Charset kUtf8 = Charset::kUnicode;
constexpr Charset kAscii = Charset::kAscii;

TEST(Cells, TextIsCutAndPaddedToExactlyTheWidth) {
  EXPECT_EQ(fit("abc", 5, kUtf8), "abc  ");
  EXPECT_EQ(fit("abc", 5, kUtf8, Align::kRight), "  abc");
  EXPECT_EQ(fit("abcdef", 4, kUtf8), "abc…");
  EXPECT_EQ(fit("abcdef", 4, kAscii), "abc~");
  EXPECT_EQ(fit("abcdef", 1, kUtf8), "…");
  EXPECT_EQ(fit("abcdef", 0, kUtf8), "");
  EXPECT_EQ(fit("", 2, kUtf8), "  ");
}

TEST(Cells, WideCharactersTakeTwoCellsAndAreNeverHalved) {
  EXPECT_EQ(cell_width("漢字"), 4u);
  EXPECT_EQ(fit("漢字漢字", 6, kUtf8), "漢字… ");
  for (size_t width = 0; width < 12; ++width) EXPECT_EQ(cell_width(fit("a漢b字c漢d", width, kUtf8)), width);
}

TEST(Cells, AccentsThatCombineTakeNoCell) {
  EXPECT_EQ(cell_width("e\u0301"), 1u);
  EXPECT_EQ(cell_width(fit("e\u0301e\u0301e\u0301", 2, kUtf8)), 2u);
}

TEST(Cells, NothingThatControlsATerminalComesThrough) {
  EXPECT_EQ(clean_text("a\x1b[31mb", kUtf8), "a\\x1b[31mb");
  EXPECT_EQ(clean_text("a\nb\tc", kUtf8), "a\\nb\\tc");
  EXPECT_EQ(clean_text("a\u202e"
                       "b",
                       kUtf8),
            "a?b");  // right-to-left override
  EXPECT_EQ(clean_text("a\xff"
                       "b",
                       kUtf8),
            "a\\xffb");
}

TEST(Cells, InAsciiOtherCharactersBecomeQuestionMarks) {
  EXPECT_EQ(clean_text("modèle", kAscii), "mod?le");
}

TEST(Cells, ABarIsFilledInProportion) {
  EXPECT_EQ(bar(0, 4, kUtf8), "░░░░");
  EXPECT_EQ(bar(0.5, 4, kUtf8), "██░░");
  EXPECT_EQ(bar(0.6, 4, kUtf8), "██▍░");
  EXPECT_EQ(bar(1, 4, kUtf8), "████");
  EXPECT_EQ(bar(0.5, 6, kAscii), "[##--]");
}

TEST(Cells, ABarHasItsWidthForAnyShare) {
  for (const double share :
       {-1.0, 0.0, 0.001, 0.33, 0.999, 1.0, 7.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    for (size_t width = 0; width < 9; ++width) {
      EXPECT_EQ(cell_width(bar(share, width, kUtf8)), width) << share;
      EXPECT_EQ(bar(share, width, kAscii).size(), width) << share;
    }
  }
}

TEST(Cells, ASparklineEndsWithTheNewestValueScaledToTheLargest) {
  EXPECT_EQ(sparkline({1, 2, 4, 8}, 6, kUtf8), "  ▁▂▄█");
  EXPECT_EQ(sparkline({1, 2, 4, 8}, 2, kUtf8), "▄█");
  EXPECT_EQ(sparkline({1, 2, 4, 8}, 4, kAscii), ".:=#");
}

TEST(Cells, ASparklineShowsZeroAsNothingAndAnythingAboveAsSomething) {
  EXPECT_EQ(sparkline({0, 0, 0}, 3, kUtf8), "   ");
  EXPECT_EQ(sparkline({0, 0.001, 100}, 3, kUtf8), " ▁█");
  EXPECT_EQ(sparkline({}, 3, kUtf8), "   ");
  EXPECT_EQ(sparkline({std::nan(""), 1}, 2, kUtf8), " █");
}

TEST(Cells, ACurveIsASparklineOfSeveralRows) {
  const std::vector<std::string> rows = curve({1, 2, 3, 4}, 5, 2, kUtf8);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0], "   ▄█");
  EXPECT_EQ(rows[1], " ▄███");
}

}  // namespace
}  // namespace xlstm
