#include "xlstm/text/stream_decoder.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/text/tiny_tokenizer.h"
#include "xlstm/text/utf8.h"

namespace xlstm {
namespace {

using testing_text::add_token;
using testing_text::expect_error;
using testing_text::Ids;
using testing_text::tiny_json;
using testing_text::tokenizer_from;

constexpr int64_t kSpecial = 256;

Tokenizer byte_tokenizer() {
  auto json = tiny_json();
  add_token(json, kSpecial, "<end>", {{"special", true}});
  return tokenizer_from(json);
}

TEST(StreamDecoder, NeverReturnsHalfACharacter) {
  const Tokenizer tokenizer = byte_tokenizer();
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.push('b'),
            "\uFFFD"
            "b");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, FinishReplacesAnUnfinishedCharacterOnce) {
  const Tokenizer tokenizer = byte_tokenizer();
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push(0x82), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, LeavesSpecialTokensOutUnlessAsked) {
  const Tokenizer tokenizer = byte_tokenizer();
  StreamDecoder skipping(tokenizer);
  EXPECT_EQ(skipping.push(kSpecial), "");
  StreamDecoder keeping(tokenizer, false);
  EXPECT_EQ(keeping.push(kSpecial), "<end>");
}

TEST(StreamDecoder, RefusesUnknownIds) {
  const Tokenizer tokenizer = byte_tokenizer();
  StreamDecoder decoder(tokenizer);
  expect_error([&] { (void)decoder.push(257); }, ExitCode::kUsage, {"token id", "257"});
  expect_error([&] { (void)decoder.push(-1); }, ExitCode::kUsage, {"token id", "-1"});
}

TEST(StreamDecoder, JoinedTextEqualsDecodingAllIdsAtOnce) {
  const Tokenizer tokenizer = byte_tokenizer();
  std::mt19937 random(3);
  // Mostly the bytes that begin and continue characters, so that sequences form, break off and go wrong.
  const Ids likely = {'a', 0x80, 0xBF, 0x90, 0x9F, 0xA0, 0xC3, 0xE0, 0xE2, 0xED, 0xF0, 0xF4, 0xFF, kSpecial};
  for (int round = 0; round < 4000; ++round) {
    Ids ids(random() % 12);
    for (int64_t& id : ids) id = random() % 4 == 0 ? static_cast<int64_t>(random() % 257) : likely[random() % 14];
    for (const bool skip_special : {false, true}) {
      StreamDecoder decoder(tokenizer, skip_special);
      std::string joined;
      for (const int64_t id : ids) {
        const std::string part = decoder.push(id);
        ASSERT_EQ(find_invalid_utf8(part), std::nullopt);
        joined += part;
      }
      joined += decoder.finish();
      ASSERT_EQ(joined, tokenizer.decode(ids, skip_special));
    }
  }
}

}  // namespace
}  // namespace xlstm
