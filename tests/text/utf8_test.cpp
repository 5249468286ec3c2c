#include "xlstm/text/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace xlstm {
namespace {

TEST(Utf8, AcceptsTheFirstAndLastCodePointOfEveryLength) {
  for (const std::string text :
       {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "plain text that is longer than a machine word, then \xC3\xA9"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
    EXPECT_EQ(replace_invalid_utf8(text), text);
    EXPECT_EQ(incomplete_utf8_suffix(text), 0U);
  }
}

TEST(Utf8, AcceptsTheNulCharacter) {
  EXPECT_EQ(find_invalid_utf8(std::string("a\0b", 3)), std::nullopt);
}

struct BadCase {
  std::string text;
  size_t offset;
  std::string replaced;
  size_t incomplete;
};

TEST(Utf8, ReplacesEachMaximalSubpartOfAnInvalidSequenceOnce) {
  const std::string r = "\xEF\xBF\xBD";
  const std::vector<BadCase> cases = {
      {"\x80", 0, r, 0},
      {"ab\xFF", 2, "ab" + r, 0},
      {"\xC0\xAF", 0, r + r, 0},                  // overlong
      {"\xE0\x9F\xBF", 0, r + r + r, 0},          // overlong
      {"\xED\xA0\x80", 0, r + r + r, 0},          // surrogate
      {"\xF4\x90\x80\x80", 0, r + r + r + r, 0},  // above U+10FFFF
      {"\xF5\x80", 0, r + r, 0},
      {"a\xE2\x82", 1, "a" + r, 2},  // ends inside a character
      {"a\xE2\x82z", 1, "a" + r + "z", 0},
      {"\xF0\x9F\x98", 0, r, 3},
      {"\xF0\x9F\x98\xC3", 0, r + r, 1},
      {"\xF0", 0, r, 1},
      {"\xC3\xC3\xA9", 0, r + "\xC3\xA9", 0},
      {"12345678\xE2\x28\xA1 tail of some length", 8, "12345678" + r + "(" + r + " tail of some length", 0},
      {"\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", 0, r + r + r + "b" + r + "c" + r + r + "d", 0},
  };
  for (const BadCase& c : cases) {
    SCOPED_TRACE(c.replaced);
    EXPECT_EQ(find_invalid_utf8(c.text), c.offset);
    EXPECT_EQ(replace_invalid_utf8(c.text), c.replaced);
    EXPECT_EQ(incomplete_utf8_suffix(c.text), c.incomplete);
  }
}

TEST(Utf8, EveryScalarValueSurvivesWritingAndReading) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    append_utf8(text, code_point);
    size_t pos = 0;
    ASSERT_EQ(find_invalid_utf8(text), std::nullopt) << static_cast<uint32_t>(code_point);
    ASSERT_EQ(next_code_point(text, pos), code_point);
    ASSERT_EQ(pos, text.size());
  }
}

}  // namespace
}  // namespace xlstm
