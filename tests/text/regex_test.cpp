#include "src/text/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/text/tiny_tokenizer.h"

namespace xlstm {
namespace {

using testing_text::expect_error;
using Texts = std::vector<std::string>;

Texts matches(const std::string& pattern, const std::string& subject) {
  std::vector<Regex::Match> found;
  Regex(pattern, "t.json").find_all(subject, found);
  Texts out;
  for (const Regex::Match& match : found) out.push_back(subject.substr(match.begin, match.end - match.begin));
  return out;
}

TEST(Regex, SpaceClassHoldsWhiteSpaceAndNothingElse) {
  EXPECT_EQ(matches(R"(\s)", "a \u0085\u00a0\u1680\u2003\u3000\x1c\u180e\u200b\ufeff"),
            (Texts{" ", "\u0085", "\u00a0", "\u1680", "\u2003", "\u3000"}));
  EXPECT_EQ(matches(R"([\s])", "\u180e "), (Texts{" "}));
  EXPECT_EQ(matches(R"([^\s]+)", "a\u180eb c"), (Texts{"a\u180e"
                                                       "b",
                                                       "c"}));
  EXPECT_EQ(matches(R"(\S+)", "a\u180e \u3000z"), (Texts{"a\u180e", "z"}));
  EXPECT_EQ(matches(R"([\S\n]+)", "a\u180e\nb c"), (Texts{"a\u180e\nb", "c"}));
}

TEST(Regex, WordClassHoldsMarksConnectorsAndLatin1Numbers) {
  EXPECT_EQ(matches(R"(\w+)", "e\u0301_\u203f\u2167\u24b6-\u00bd\u00b2 \u2074"),
            (Texts{"e\u0301_\u203f\u2167\u24b6", "\u00bd\u00b2"}));
  EXPECT_EQ(matches(R"(\W+)", "a\u2074-b"), (Texts{"\u2074-"}));
  EXPECT_EQ(matches(R"(\b\p{L})", "ab e\u0301x"), (Texts{"a", "e"}));
  EXPECT_EQ(matches(R"(\Bb)", "ab b"), (Texts{"b"}));
  EXPECT_EQ(matches(R"([\w-]+)", "a-b c"), (Texts{"a-b", "c"}));
}

TEST(Regex, ReadsOtherConstructsAsRubyDoes) {
  EXPECT_EQ(matches(R"(\h+)", "xAf09 g"), (Texts{"Af09"}));
  EXPECT_EQ(matches(R"(\H)", "xA"), (Texts{"x"}));
  EXPECT_EQ(matches("^.", "ab\ncd\n"), (Texts{"a", "c"}));
  EXPECT_EQ(matches(".$", "ab\ncd\n"), (Texts{"b", "d"}));
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Texts{"aab"}));
  EXPECT_EQ(matches("a{2}", "aaaaa"), (Texts{"aa", "aa"}));
  EXPECT_EQ(matches("a{1,}", "aab"), (Texts{"aa"}));
  EXPECT_EQ(matches("{x}", "{x}"), (Texts{"{x}"}));
  EXPECT_EQ(matches(R"(\u00e9|\xe8|\x{4e2d}|\v)", "\u00e9\u00e8\u4e2d\x0b"),
            (Texts{"\u00e9", "\u00e8", "\u4e2d", "\x0b"}));
  EXPECT_EQ(matches("(?i:'s|'LL)", "'S 'll"), (Texts{"'S", "'ll"}));
  EXPECT_EQ(matches("(?i)a", "aA"), (Texts{"a", "A"}));
  EXPECT_EQ(matches(R"(\p{Han}+|\p{^L})", "\u4e2d\u3001"), (Texts{"\u4e2d", "\u3001"}));
  EXPECT_EQ(matches(R"(\-\.\é)", "-.é"), (Texts{"-.é"}));
}

TEST(Regex, FindsEmptyMatchesOnceAndNotBehindAMatch) {
  EXPECT_EQ(matches("x*", "axx\u00e9"), (Texts{"", "xx", ""}));
  EXPECT_EQ(matches("x*", ""), (Texts{""}));
}

TEST(Regex, EscapedTextMatchesOnlyItself) {
  const std::string text = "a.b*[\\s]{2}\n\u00e9\"#";
  EXPECT_EQ(matches(escape_pattern(text), "axb" + text), (Texts{text}));
}

TEST(Regex, RefusesWhatItCannotCarryOver) {
  for (const std::string pattern :
       {"(",         "a)",      "[a",     "[]",      "[a[b]]",   "[a&&b]",   R"([\W])", "(?m:a)",      "a(?i)b",
        "(?<n>a)",   "(*FAIL)", "a{2}+",  R"(\R)",   R"(\Qa\E)", R"(\k<n>)", R"(\1)",   R"(\p{Nope})", R"(\pL)",
        R"(\p{L&})", "a\\",     R"(\xg)", R"(\u12)", R"(\x{12)", "*a",       R"([\)"}) {
    SCOPED_TRACE(pattern);
    expect_error([&] { (void)matches(pattern, "a"); }, ExitCode::kCheckpoint, {"pre_tokenizer pattern (t.json)"});
  }
}

TEST(Regex, StopsAtItsStepLimitInsteadOfHanging) {
  const std::string subject(64, 'a');
  expect_error([&] { (void)matches("(?:a+)+b(?=c)|(?:a|aa)+$z", subject + "!"); }, ExitCode::kCheckpoint,
               {"pre_tokenizer pattern (t.json)", "limit"});
}

TEST(Regex, HandlesAMillionCharactersOfOneKind) {
  const std::string words = R"('s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
  for (const std::string unit : {"a", " ", "\n", "\u00e9", "!"}) {
    std::string subject;
    for (int i = 0; i < 1'000'000; ++i) subject += unit;
    EXPECT_EQ(matches(words, subject), (Texts{subject})) << unit;
  }
}

}  // namespace
}  // namespace xlstm
