#include "xlstm/text/stop_strings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/text/tiny_tokenizer.h"

namespace xlstm {
namespace {

using testing_text::expect_error;

TEST(StopStrings, PassesTextThroughWithoutStops) {
  StopStrings stops({});
  EXPECT_EQ(stops.push("anything"), "anything");
  EXPECT_EQ(stops.push(""), "");
  EXPECT_EQ(stops.finish(), "");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, HoldsBackOnlyWhatMayBeginAStop) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("the E"), "the ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("EN"), "EN");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.push("D and more"), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, DropsTheStopAndWhatFollows) {
  StopStrings stops({"\n\n", "User:"});
  EXPECT_EQ(stops.push("hi User: x\n\n"), "hi ");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, ReturnsAHeldBeginningAtTheEnd) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("the EN"), "the ");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, TheEarliestPlaceWinsEvenIfALaterStopIsCompleteFirst) {
  StopStrings stops({"c", "abcde"});
  EXPECT_EQ(stops.push("xabcd"), "x");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.push("e"), "");
  EXPECT_TRUE(stops.stopped());

  StopStrings other({"c", "abcde"});
  EXPECT_EQ(other.push("xabcd"), "x");
  EXPECT_EQ(other.push("z"), "ab");
  EXPECT_TRUE(other.stopped());

  StopStrings ending({"c", "abcde"});
  EXPECT_EQ(ending.push("xabcd"), "x");
  EXPECT_EQ(ending.finish(), "ab");
  EXPECT_TRUE(ending.stopped());
}

TEST(StopStrings, RefusesAnEmptyStop) {
  expect_error([] { StopStrings({"a", ""}); }, ExitCode::kUsage, {"stop", "not empty"});
}

TEST(StopStrings, AnyCutIntoPartsGivesTheTextBeforeTheEarliestStop) {
  std::mt19937 random(7);
  const auto word = [&random](size_t longest) {
    std::string out(1 + random() % longest, 'a');
    for (char& c : out) c = static_cast<char>('a' + random() % 2);
    return out;
  };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> list(1 + random() % 3);
    for (std::string& stop : list) stop = word(6);
    const std::string text = word(14);
    size_t cut = std::string::npos;
    for (const std::string& stop : list) cut = std::min(cut, text.find(stop));

    StopStrings stops(list);
    std::string out;
    for (size_t pos = 0; pos < text.size();) {
      const size_t size = 1 + random() % 4;
      out += stops.push(std::string_view(text).substr(pos, size));
      pos += size;
    }
    out += stops.finish();
    ASSERT_EQ(out, text.substr(0, cut)) << text;
    ASSERT_EQ(stops.stopped(), cut != std::string::npos);
    stopped += stops.stopped() ? 1 : 0;
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 2900);
}

}  // namespace
}  // namespace xlstm
