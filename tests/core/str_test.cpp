#include "xlstm/core/str.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace xlstm {
namespace {

TEST(Str, CatJoinsStreamRepresentations) {
  EXPECT_EQ(cat("chunk ", 3, " of ", 5u, ' ', 0.5, std::string("!")), "chunk 3 of 5 0.5!");
}

TEST(Str, FixedRoundsToTheGivenDecimals) {
  EXPECT_EQ(fixed(3.14159, 2), "3.14");
  EXPECT_EQ(fixed(2.5e9, 0), "2500000000");
  EXPECT_EQ(fixed(-0.999, 1), "-1.0");
  EXPECT_EQ(fixed(std::numeric_limits<double>::infinity(), 1), "inf");
}

TEST(Str, JoinPutsTheSeparatorBetweenPartsOnly) {
  EXPECT_EQ(join({}, ", "), "");
  EXPECT_EQ(join({"a"}, ", "), "a");
  EXPECT_EQ(join({"a", "", "b"}, ", "), "a, , b");
}

TEST(Str, ShapeTextIsBracketed) {
  EXPECT_EQ(shape_text({}), "[]");
  EXPECT_EQ(shape_text({7}), "[7]");
  EXPECT_EQ(shape_text({2, 0, 4}), "[2, 0, 4]");
}

TEST(Str, BytesTextUsesDecimalUnitsWithOneDecimal) {
  const std::vector<std::pair<uint64_t, std::string>> cases = {
      {0, "0 B"},
      {999, "999 B"},
      {1000, "1.0 kB"},
      {17'130'000, "17.1 MB"},
      {999'949, "999.9 kB"},
      {999'999, "1.0 MB"},  // not "1000.0 kB"
      {13'700'000'000, "13.7 GB"},
      {std::numeric_limits<uint64_t>::max(), "18446744.1 TB"},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(bytes_text(bytes), text) << bytes;
}

TEST(Str, PrintableKeepsTextAndEscapesControlCharactersAndInvalidBytes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"plain text", "plain text"},
      {"", ""},
      {"a\nb\tc\rd", "a\\nb\\tc\\rd"},
      {std::string("\0\x1b\x7f", 3), "\\x00\\x1b\\x7f"},
      {"Straße — 日本 🙂", "Straße — 日本 🙂"},
      {"\xc2\x85", "\\xc2\\x85"},                    // U+0085 is a control character
      {"\xff\xfe", "\\xff\\xfe"},                    // never in UTF-8
      {"\xe6\x97", "\\xe6\\x97"},                    // cut short
      {"\xc0\xaf", "\\xc0\\xaf"},                    // overlong
      {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},           // overlong
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // a surrogate
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // above U+10FFFF
      {"\xe6x", "\\xe6x"},
  };
  for (const auto& [text, shown] : cases) {
    EXPECT_EQ(printable(text), shown);
    EXPECT_EQ(printable(printable(text)), shown) << "printing twice changes nothing";
  }
}

TEST(Str, PrintableCutsLongTextBetweenCharacters) {
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdefg", 6), "abcdef…");
  EXPECT_EQ(printable("ßßß", 3), "ßß…");
  EXPECT_EQ(printable("a", 0), "…");
}

TEST(Str, NearestFindsLikelyTyposOnly) {
  const std::vector<std::string> keys = {"chunk_size", "heads_per_band", "threads", "workers", "seed"};
  EXPECT_EQ(nearest("chunk_sise", keys), "chunk_size");
  EXPECT_EQ(nearest("heads_per_bands", keys), "heads_per_band");
  EXPECT_EQ(nearest("thread", keys), "threads");
  EXPECT_EQ(nearest("seed", keys), "seed");
  EXPECT_EQ(nearest("temperature", keys), "");
  EXPECT_EQ(nearest("", keys), "");
  EXPECT_EQ(nearest("seed", {}), "");
}

TEST(Str, NearestPrefersTheSmallestDistanceThenTheFirst) {
  EXPECT_EQ(nearest("top_k", {"top_n", "top_k", "top_p"}), "top_k");
  EXPECT_EQ(nearest("top_x", {"top_n", "top_k"}), "top_n");
}

}  // namespace
}  // namespace xlstm
