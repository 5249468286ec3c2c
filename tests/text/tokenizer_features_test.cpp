// Each feature of tokenizer.json on a small file of its own.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/text/tiny_tokenizer.h"

namespace xlstm {
namespace {

using testing_text::add_merge;
using testing_text::add_token;
using testing_text::expect_error;
using testing_text::Ids;
using testing_text::Json;
using testing_text::pieces_of;
using testing_text::tiny_json;
using testing_text::tokenizer_from;
using Texts = std::vector<std::string>;

Json split_step(const std::string& kind, const std::string& pattern, const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{kind, pattern}}}, {"behavior", behavior}, {"invert", invert}};
}

// A file whose pre-tokenizer is these steps and ByteLevel without a pattern of its own.
Json with_steps(const std::vector<Json>& steps) {
  Json json = tiny_json();
  Json list = steps;
  list.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", list}};
  return json;
}

TEST(TokenizerMerges, LowestRankFirstThenLeftmost) {
  Json json = tiny_json();
  add_merge(json, "b", "c");   // 256
  add_merge(json, "a", "b");   // 257
  add_merge(json, "a", "bc");  // 258
  add_merge(json, "a", "a");   // 259
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{258}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{257}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{259, 'a'}));
  EXPECT_EQ(tokenizer.encode("aaaab"), (Ids{259, 'a', 257}));
}

TEST(TokenizerMerges, BothJsonFormsMeanTheSame) {
  Json pairs = tiny_json();
  add_merge(pairs, "a", "b");
  add_merge(pairs, "ab", "c");
  Json strings = pairs;
  strings["model"]["merges"] = {"#version: 0.2", "a b", "ab c"};
  for (const Json& json : {pairs, strings}) EXPECT_EQ(tokenizer_from(json).encode("abcab"), (Ids{257, 256}));
}

TEST(TokenizerMerges, StopAtPieceBoundaries) {
  Json json = tiny_json();
  add_merge(json, "a", "\u0120");
  add_merge(json, "\u0120", "a");
  EXPECT_EQ(tokenizer_from(json).encode("a a"), (Ids{'a', 257}));
}

TEST(TokenizerMerges, IgnoreMergesTakesWholePiecesFromTheVocabulary) {
  Json json = tiny_json();
  json["model"]["vocab"]["abc"] = 256;
  EXPECT_EQ(tokenizer_from(json).encode("abc"), (Ids{'a', 'b', 'c'}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(tokenizer_from(json).encode("abc"), (Ids{256}));
  EXPECT_EQ(tokenizer_from(json).encode("abcd"), (Ids{'a', 'b', 'c', 'd'}));
}

TEST(TokenizerMerges, ModelWithoutTypeIsReadAsBpe) {
  Json json = tiny_json();
  json["model"].erase("type");
  json["model"]["unk_token"] = "";
  EXPECT_EQ(tokenizer_from(json).encode("a"), (Ids{'a'}));
}

TEST(TokenizerPieces, ByteLevelCutsWithGpt2sPattern) {
  const Texts expected = {"I", "'ll", " don", "'t", " x", "12", "  ", " y", "!?", "\n"};
  EXPECT_EQ(pieces_of(tiny_json(), "I'll don't x12   y!?\n", expected), expected);
}

TEST(TokenizerPieces, UseRegexFalseKeepsTheTextWhole) {
  Json json = tiny_json();
  json["pre_tokenizer"]["use_regex"] = false;
  EXPECT_EQ(pieces_of(json, "a b, c", {"a b, c"}), (Texts{"a b, c"}));
}

TEST(TokenizerPieces, UseRegexIsOnWhenAbsent) {
  Json json = tiny_json();
  json["pre_tokenizer"].erase("use_regex");
  EXPECT_EQ(pieces_of(json, "a b", {"a", " b", "a b"}), (Texts{"a", " b"}));
}

TEST(TokenizerPieces, AddPrefixSpaceGivesEveryStretchOfTextALeadingSpace) {
  Json json = tiny_json();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  add_token(json, 300, "<t>");
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("a<t>b"), (Ids{' ', 'a', 300, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode(" a"), (Ids{' ', 'a'}));
  EXPECT_EQ(tokenizer.encode("\na"), (Ids{' ', '\n', 'a'}));
  EXPECT_EQ(tokenizer.encode(""), (Ids{}));
}

struct SplitCase {
  std::string behavior;
  bool invert;
  Texts expected;
};

TEST(TokenizerPieces, SplitBehavesAsNamed) {
  const std::vector<SplitCase> cases = {
      {"Isolated", false, {"a", "-", "-", "b", "-", "c"}},
      {"Removed", false, {"a", "b", "c"}},
      {"MergedWithPrevious", false, {"a-", "-", "b-", "c"}},
      {"MergedWithNext", false, {"a", "-", "-b", "-c"}},
      {"Contiguous", false, {"a", "--", "b", "-", "c"}},
      {"Isolated", true, {"a", "-", "-", "b", "-", "c"}},
      {"Removed", true, {"-", "-", "-"}},
      {"MergedWithPrevious", true, {"a", "-", "-b", "-c"}},
      {"MergedWithNext", true, {"a-", "-", "b-", "c"}},
      {"Contiguous", true, {"a", "--", "b", "-", "c"}},
  };
  for (const SplitCase& c : cases) {
    for (const std::string kind : {"String", "Regex"}) {
      SCOPED_TRACE(c.behavior + (c.invert ? " inverted " : " ") + kind);
      EXPECT_EQ(pieces_of(with_steps({split_step(kind, "-", c.behavior, c.invert)}), "a--b-c",
                          {"a-", "-b", "--", "b-", "-c", "a--b-c"}),
                c.expected);
    }
  }
}

TEST(TokenizerPieces, StringPatternsAreTakenLiterally) {
  EXPECT_EQ(pieces_of(with_steps({split_step("String", "a.", "Isolated")}), "aba.b", {"ab", "a.", "b"}),
            (Texts{"ab", "a.", "b"}));
}

TEST(TokenizerPieces, StepsOfASequenceWorkOnEachOthersPieces) {
  const Json json =
      with_steps({split_step("Regex", R"(\p{N}{1,3})", "Isolated"), split_step("Regex", R"(\s+)", "MergedWithNext")});
  EXPECT_EQ(pieces_of(json, "ab cd12345", {"ab", " cd", "123", "45"}), (Texts{"ab", " cd", "123", "45"}));
}

TEST(TokenizerPieces, Llama3PatternWorks) {
  const Json json = with_steps({split_step("Regex",
                                           R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                                           R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                                           "Isolated")});
  const Texts expected = {"We", "'LL", " go", " ", "123", "4", "!!\n\n", "  \n", "(ok", ")"};
  EXPECT_EQ(pieces_of(json, "We'LL go 1234!!\n\n  \n(ok)", expected), expected);
}

TEST(TokenizerPieces, PostProcessorsThatAddNothingAreAccepted) {
  Json json = tiny_json();
  for (const Json& processor :
       {Json{{"type", "ByteLevel"}}, Json{{"type", "TemplateProcessing"}, {"single", Json::array()}},
        Json{{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}}}}}}) {
    json["post_processor"] = processor;
    EXPECT_EQ(tokenizer_from(json).encode("a"), (Ids{'a'}));
  }
}

TEST(TokenizerNormalizer, AppliesTheNamedForms) {
  const std::string text = "e\u0301\ufb01";
  const std::vector<std::pair<Json, std::string>> cases = {
      {nullptr, text},
      {{{"type", "NFC"}}, "\u00e9\ufb01"},
      {{{"type", "NFD"}}, text},
      {{{"type", "NFKC"}}, "\u00e9fi"},
      {{{"type", "NFKD"}}, "e\u0301fi"},
      {{{"type", "Sequence"}, {"normalizers", Json::array()}}, text},
      {{{"type", "Sequence"}, {"normalizers", {{{"type", "NFKD"}}, {{"type", "NFC"}}}}}, "\u00e9fi"},
  };
  for (const auto& [normalizer, expected] : cases) {
    SCOPED_TRACE(normalizer.dump());
    Json json = tiny_json();
    json["normalizer"] = normalizer;
    const Tokenizer tokenizer = tokenizer_from(json);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), expected);
  }
}

TEST(TokenizerAddedTokens, LongestWinsAtTheLeftmostPlace) {
  Json json = tiny_json();
  add_token(json, 300, "ab");
  add_token(json, 301, "abcd");
  add_token(json, 302, "bcdef");
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("abcdef"), (Ids{301, 'e', 'f'}));
  EXPECT_EQ(tokenizer.encode("abce"), (Ids{300, 'c', 'e'}));
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{300, 300}));
  EXPECT_EQ(tokenizer.encode("xbcdef"), (Ids{'x', 302}));
}

TEST(TokenizerAddedTokens, NormalizedOnesAreSoughtAfterNormalizationOthersBefore) {
  Json json = tiny_json();
  json["normalizer"] = {{"type", "NFC"}};
  add_token(json, 300, "e\u0301!");
  add_token(json, 301, "o\u0301!", {{"normalized", true}});
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("e\u0301!"), (Ids{300}));
  EXPECT_EQ(tokenizer.encode("\u00e9!"), (Ids{0xC3, 0xA9, '!'}));
  EXPECT_EQ(tokenizer.encode("o\u0301!"), (Ids{301}));
  EXPECT_EQ(tokenizer.encode("\u00f3!"), (Ids{301}));
}

TEST(TokenizerAddedTokens, StripFlagsTakeWhiteSpaceAlong) {
  Json json = tiny_json();
  add_token(json, 300, "<l>", {{"lstrip", true}});
  add_token(json, 301, "<r>", {{"rstrip", true}});
  add_token(json, 302, "<n>");
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("a \u3000<l> b"), (Ids{'a', 300, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("a <r> \n\u00a0b"), (Ids{'a', ' ', 301, 'b'}));
  EXPECT_EQ(tokenizer.encode("a <n> b"), (Ids{'a', ' ', 302, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("<r>  <l>"), (Ids{301, 300}));
  EXPECT_EQ(tokenizer.encode(" <l>"), (Ids{300}));
  EXPECT_EQ(tokenizer.encode("<r> "), (Ids{301}));
}

TEST(TokenizerAddedTokens, SingleWordCountsOnlyBetweenWords) {
  Json json = tiny_json();
  add_token(json, 300, "hi", {{"single_word", true}});
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("hi"), (Ids{300}));
  EXPECT_EQ(tokenizer.encode("-hi."), (Ids{'-', 300, '.'}));
  EXPECT_EQ(tokenizer.encode("hix"), (Ids{'h', 'i', 'x'}));
  EXPECT_EQ(tokenizer.encode("_hi"), (Ids{'_', 'h', 'i'}));
  EXPECT_EQ(tokenizer.encode("\u00e9hi"), (Ids{0xC3, 0xA9, 'h', 'i'}));
}

TEST(TokenizerAddedTokens, TextOfATokenThatIsAllWhiteSpaceCanBeUsedUpByANeighbour) {
  Json json = tiny_json();
  add_token(json, 300, "<r>", {{"rstrip", true}});
  add_token(json, 301, "\t", {{"lstrip", true}});
  EXPECT_EQ(tokenizer_from(json).encode("<r> \tx"), (Ids{300, 'x'}));
}

TEST(TokenizerAddedTokens, StripFlagsStayLinearInALongRunOfSpaces) {
  Json json = tiny_json();
  add_token(json, 300, "  ", {{"rstrip", true}});
  add_token(json, 301, "\t", {{"lstrip", true}});
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode(std::string(1'000'000, ' ') + "x").back(), 'x');
  EXPECT_EQ(tokenizer.encode(std::string(1'000'001, '\t')), Ids(1'000'001, 301));
}

TEST(TokenizerAddedTokens, DecodeAsTheirOwnTextAndSpecialOnesOnRequestNot) {
  Json json = tiny_json();
  add_token(json, 300, "\u00e9 \u0120", {{"special", true}});
  add_token(json, 301, "\u00e9\u00e8");            // in the byte alphabet, but not in the vocabulary
  add_token(json, '!', "!", {{"special", true}});  // a token of the vocabulary, made special
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.decode(Ids{'a', 300, 301, '!'}), "a\u00e9 \u0120\u00e9\u00e8!");
  EXPECT_EQ(tokenizer.decode(Ids{'a', 300, 301, '!'}, true), "a\u00e9\u00e8");
  EXPECT_EQ(tokenizer.id_of("\u00e9\u00e8"), 301);
  EXPECT_EQ(tokenizer.size(), 302);
  EXPECT_FALSE(tokenizer.has_id(256));
  EXPECT_TRUE(tokenizer.is_special('!'));
}

TEST(TokenizerDecode, GivesReplacementCharactersForBrokenSequences) {
  const Tokenizer tokenizer = tokenizer_from(tiny_json());
  EXPECT_EQ(tokenizer.decode(Ids{'a', 0xC3, 'b', 0xE2, 0x82}),
            "a\uFFFD"
            "b\uFFFD");
  EXPECT_EQ(tokenizer.decode(Ids{0xC3, 0xA9}), "\u00e9");
  EXPECT_EQ(tokenizer.token_bytes(0xC3), "\xC3");
}

TEST(TokenizerDecode, VocabularyEntriesOutsideTheByteAlphabetAreLiteral) {
  Json json = tiny_json();
  json["model"]["vocab"]["a \u4e2d"] = 256;
  EXPECT_EQ(tokenizer_from(json).decode(Ids{256}), "a \u4e2d");
}

TEST(TokenizerDecode, RefusesUnknownIds) {
  Json json = tiny_json();
  add_token(json, 300, "<t>");
  const Tokenizer tokenizer = tokenizer_from(json);
  for (const int64_t id : {int64_t{-1}, int64_t{256}, int64_t{301}, INT64_MAX, INT64_MIN}) {
    expect_error([&] { (void)tokenizer.decode(Ids{'a', id}); }, ExitCode::kUsage, {"token id", std::to_string(id)});
    expect_error([&] { (void)tokenizer.token_bytes(id); }, ExitCode::kUsage, {"token id", std::to_string(id)});
  }
}

TEST(TokenizerEncode, NamesTheByteOfInvalidUtf8) {
  const Tokenizer tokenizer = tokenizer_from(tiny_json());
  expect_error([&] { (void)tokenizer.encode("caf\xE9!"); }, ExitCode::kUsage, {"byte 3", "valid UTF-8", "\\xe9"});
  expect_error([&] { (void)tokenizer.encode("ab\xE2\x82"); }, ExitCode::kUsage, {"byte 2"});
}

TEST(TokenizerEncode, KeepsNulCharacters) {
  EXPECT_EQ(tokenizer_from(tiny_json()).encode(std::string("a\0b", 3)), (Ids{'a', 0, 'b'}));
}

TEST(TokenizerEncode, RefusesTextWithBytesThatTheVocabularyLacks) {
  Json json = tiny_json();
  json["model"]["vocab"].erase("z");
  const Tokenizer tokenizer = tokenizer_from(json);
  EXPECT_EQ(tokenizer.encode("y"), (Ids{'y'}));
  expect_error([&] { (void)tokenizer.encode("yz"); }, ExitCode::kCheckpoint, {"model.vocab", "yz"});
}

TEST(TokenizerObject, CanBeMoved) {
  Tokenizer first = tokenizer_from(tiny_json());
  Tokenizer second = std::move(first);
  EXPECT_EQ(second.encode("a"), (Ids{'a'}));
  first = std::move(second);
  EXPECT_EQ(first.encode("b"), (Ids{'b'}));
}

}  // namespace
}  // namespace xlstm
