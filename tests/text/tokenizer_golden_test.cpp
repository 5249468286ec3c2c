// The ids and texts that the reference library gives for two real tokenizers, and inputs made to be slow.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "xlstm/text/stream_decoder.h"
#include "xlstm/text/tokenizer.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Ids = std::vector<int64_t>;

const fs::path kTales = fs::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m/tokenizer.json";
const fs::path kTalesGoldens = fs::path(XLSTM_TEST_DATA) / "goldens/tokenizer/xlstm-tales-8m.json";
const fs::path kNeox = fs::path(XLSTM_REFERENCE_DIR) / "tokenizers/gpt_neox_20b/tokenizer.json";
const fs::path kNeoxGoldens = fs::path(XLSTM_REFERENCE_DIR) / "goldens/tokenizer/gpt_neox_20b.json";

bool neox_available() {
  return !std::string(XLSTM_REFERENCE_DIR).empty() && fs::exists(kNeox) && fs::exists(kNeoxGoldens);
}

#define SKIP_WITHOUT_NEOX()                                                                                    \
  if (!neox_available()) {                                                                                     \
    std::cerr << "NOT RUN: the GPT-NeoX tokenizer tests; set the CMake variable XLSTM_REFERENCE_DIR to "       \
                 "a directory with tokenizers/gpt_neox_20b and goldens/tokenizer (now: \"" XLSTM_REFERENCE_DIR \
                 "\")\n";                                                                                      \
    GTEST_SKIP() << "XLSTM_REFERENCE_DIR holds no GPT-NeoX tokenizer";                                         \
  }                                                                                                            \
  static_assert(true)

void expect_goldens(const Tokenizer& tokenizer, const fs::path& goldens) {
  std::ifstream file(goldens);
  ASSERT_TRUE(file) << goldens;
  const Json cases = Json::parse(file).at("cases");
  ASSERT_EQ(cases.size(), 207U);
  for (const Json& golden : cases) {
    const auto text = golden.at("text").get<std::string>();
    SCOPED_TRACE(text.substr(0, 200));
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(ids, golden.at("ids").get<Ids>());
    EXPECT_EQ(tokenizer.decode(ids), golden.at("decoded").get<std::string>());
    StreamDecoder stream(tokenizer, false);
    std::string streamed;
    for (const int64_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    EXPECT_EQ(streamed, golden.at("decoded").get<std::string>());
  }
}

void expect_random_ids_stream_as_they_decode(const Tokenizer& tokenizer) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    Ids ids(random() % 40);
    for (int64_t& id : ids) id = static_cast<int64_t>(random() % static_cast<uint64_t>(tokenizer.size()));
    for (const bool skip_special : {false, true}) {
      StreamDecoder stream(tokenizer, skip_special);
      std::string streamed;
      for (const int64_t id : ids) streamed += stream.push(id);
      streamed += stream.finish();
      ASSERT_EQ(streamed, tokenizer.decode(ids, skip_special));
    }
  }
}

// A quadratic step would take hours here; the test program's time limit turns that into a failure.
void expect_a_million_repeats_survive(const Tokenizer& tokenizer) {
  for (const std::string unit : {"a", " ", "\n", "\u00e9", "!", "\u4e2d", "\t ", "1", "'", "ab"}) {
    SCOPED_TRACE(unit);
    std::string text;
    for (int i = 0; i < 1'000'000; ++i) text += unit;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(TalesTokenizer, GivesTheReferenceIdsAndTexts) {
  expect_goldens(Tokenizer::from_file(kTales), kTalesGoldens);
}

TEST(TalesTokenizer, RandomIdsStreamAsTheyDecode) {
  expect_random_ids_stream_as_they_decode(Tokenizer::from_file(kTales));
}

TEST(TalesTokenizer, EncodesAMillionRepeatsOfOneUnit) {
  expect_a_million_repeats_survive(Tokenizer::from_file(kTales));
}

TEST(TalesTokenizer, KnowsItsTokens) {
  const Tokenizer tokenizer = Tokenizer::from_file(kTales);
  EXPECT_EQ(tokenizer.size(), 4096);
  EXPECT_EQ(tokenizer.id_of("<|endoftext|>"), 0);
  EXPECT_EQ(tokenizer.id_of("!"), 2);
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
  EXPECT_TRUE(tokenizer.has_id(0));
  EXPECT_TRUE(tokenizer.has_id(4095));
  EXPECT_FALSE(tokenizer.has_id(4096));
  EXPECT_FALSE(tokenizer.has_id(-1));
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(2));
  EXPECT_FALSE(tokenizer.is_special(4096));
  EXPECT_EQ(tokenizer.token_bytes(222), " ");
  EXPECT_EQ(tokenizer.encode("a<|endoftext|>"), (Ids{66, 0}));
  EXPECT_EQ(tokenizer.decode(Ids{0, 66, 1}, true), "a");
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
  EXPECT_EQ(tokenizer.encode(""), (Ids{}));
}

TEST(TalesTokenizer, EncodesOnSeveralThreadsAtOnce) {
  const Tokenizer tokenizer = Tokenizer::from_file(kTales);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "Once upon a time, e\u0301t\u00e9 \u4f60\u597d 123 <|endoftext|>\n";
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) threads.emplace_back([&] { result = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

TEST(NeoxTokenizer, GivesTheReferenceIdsAndTexts) {
  SKIP_WITHOUT_NEOX();
  expect_goldens(Tokenizer::from_file(kNeox), kNeoxGoldens);
}

TEST(NeoxTokenizer, RandomIdsStreamAsTheyDecode) {
  SKIP_WITHOUT_NEOX();
  expect_random_ids_stream_as_they_decode(Tokenizer::from_file(kNeox));
}

TEST(NeoxTokenizer, EncodesAMillionRepeatsOfOneUnit) {
  SKIP_WITHOUT_NEOX();
  expect_a_million_repeats_survive(Tokenizer::from_file(kNeox));
}

TEST(NeoxTokenizer, TakesRunsOfSpacesAsSingleIds) {
  SKIP_WITHOUT_NEOX();
  const Tokenizer tokenizer = Tokenizer::from_file(kNeox);
  EXPECT_EQ(tokenizer.id_of("  "), 50276);
  EXPECT_EQ(tokenizer.encode("a  b"), (Ids{66, 50276, 67}));
  EXPECT_EQ(tokenizer.encode(std::string(30, ' ')), (Ids{50254, 50272}));
}

}  // namespace
}  // namespace xlstm
