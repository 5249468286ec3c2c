#include "xlstm/runtime/generator.h"

#include <gtest/gtest.h>

#include "tests/model/editable_checkpoint.h"
#include "tests/support/engines.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class GeneratorTest : public testing::Test {
 protected:
  GeneratorTest() : engine_(test::load_engine(test::bundled_model())) {}

  std::vector<int64_t> prompt(const std::string& text) {
    std::vector<int64_t> ids = engine_.tokenizer()->encode(text);
    ids.insert(ids.begin(), engine_.bos_id());
    return ids;
  }

  GenerationResult run(const RuntimeOpts& opts, uint64_t seed, const std::string& text = "Once upon a time") {
    Sequence sequence(engine_);
    GenerationRequest request;
    request.prompt = prompt(text);
    request.seed = seed;
    return generate(sequence, engine_, opts, request);
  }

  Engine engine_;
};

TEST_F(GeneratorTest, EqualSeedsGiveEqualTextsAndOthersDiffer) {
  RuntimeOpts opts = test::quiet_opts();
  opts.max_new_tokens = 30;
  const std::vector<int64_t> first = run(opts, 1).ids;
  EXPECT_EQ(first.size(), 30U);
  EXPECT_EQ(run(opts, 1).ids, first);
  EXPECT_NE(run(opts, 2).ids, first);
}

TEST_F(GeneratorTest, AnInterruptedRunContinuesWithTheIdsOfOneRun) {
  RuntimeOpts opts = test::quiet_opts();
  opts.repeat_penalty = 1.2;
  opts.max_new_tokens = 40;
  const std::vector<int64_t> whole = run(opts, 9).ids;
  for (const int64_t cut : {0, 1, 17}) {
    SCOPED_TRACE(cut);
    opts.max_new_tokens = cut;
    Sequence sequence(engine_);
    GenerationRequest request;
    request.prompt = prompt("Once upon a time");
    request.seed = 9;
    std::vector<int64_t> ids = generate(sequence, engine_, opts, request).ids;

    Sequence resumed(engine_);
    resumed.restore(sequence.save(9));
    opts.max_new_tokens = 40 - cut;
    request.prompt.clear();
    const std::vector<int64_t> rest = generate(resumed, engine_, opts, request).ids;
    ids.insert(ids.end(), rest.begin(), rest.end());
    EXPECT_EQ(ids, whole);
  }
}

TEST_F(GeneratorTest, KeepsTheLogitsThatEachIdWasChosenFrom) {
  RuntimeOpts opts = test::quiet_opts();
  opts.temperature = 0;
  opts.max_new_tokens = 5;
  Sequence sequence(engine_);
  GenerationRequest request;
  request.prompt = prompt("The");
  request.keep_logits = true;
  const GenerationResult result = generate(sequence, engine_, opts, request);
  const size_t vocab = 4096;
  ASSERT_EQ(result.prompt_logits.size(), request.prompt.size() * vocab);
  ASSERT_EQ(result.logits.size(), result.ids.size() * vocab);
  EXPECT_TRUE(std::equal(result.prompt_logits.end() - static_cast<std::ptrdiff_t>(vocab), result.prompt_logits.end(),
                         result.logits.begin()))
      << "the first id is chosen from the prompt's last row";
  for (size_t j = 0; j < result.ids.size(); ++j) {
    const auto row = result.logits.begin() + static_cast<std::ptrdiff_t>(j * vocab);
    EXPECT_EQ(std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab)) - row, result.ids[j]);
  }
}

TEST_F(GeneratorTest, StopsAtEndOfTextUnlessToldToIgnoreIt) {
  RuntimeOpts opts = test::quiet_opts();
  opts.temperature = 0;
  opts.max_new_tokens = 48;
  // This prompt's greedy continuation has an end of text after a dozen tokens.
  const std::string text = "Das Mädchen sagte: « Où est le roi ? » — 你好";
  const GenerationResult stopped = run(opts, 0, text);
  EXPECT_EQ(stopped.finish, FinishReason::kEndOfText);
  ASSERT_FALSE(stopped.ids.empty());
  EXPECT_EQ(stopped.ids.back(), 0);
  EXPECT_LT(stopped.ids.size(), 48U);
  opts.ignore_eos = true;
  const GenerationResult ignored = run(opts, 0, text);
  EXPECT_EQ(ignored.finish, FinishReason::kLength);
  EXPECT_EQ(ignored.ids.size(), 48U);
}

TEST_F(GeneratorTest, StopsWhereTheCallerSays) {
  RuntimeOpts opts = test::quiet_opts();
  Sequence sequence(engine_);
  GenerationRequest request;
  request.prompt = prompt("The");
  int seen = 0;
  request.on_token = [&](int64_t) { return ++seen < 3; };
  const GenerationResult result = generate(sequence, engine_, opts, request);
  EXPECT_EQ(result.ids.size(), 3U);
  EXPECT_EQ(result.finish, FinishReason::kStopString);
}

TEST_F(GeneratorTest, RefusesToStartFromNothing) {
  Sequence sequence(engine_);
  test::expect_error([&] { (void)generate(sequence, engine_, test::quiet_opts(), {}); }, ExitCode::kUsage,
                     {"prompt", "at least one token"});
}

TEST(EndOfText, BelievesAConfiguredSpecialToken) {
  const Engine engine = test::load_engine(test::bundled_model());
  std::string note;
  EXPECT_EQ(end_of_text_ids(engine, &note), (std::vector<int64_t>{0}));
  EXPECT_EQ(note, "");
}

TEST(EndOfText, DoesNotBelieveAnOrdinaryTokenAndSaysSo) {
  const test::TempDir dir;
  test::EditableCheckpoint checkpoint(test::bundled_model());
  checkpoint.config["eos_token_id"] = 2;  // "!" in this vocabulary, as in the xLSTM-7b configuration
  checkpoint.write(dir.path());
  std::filesystem::copy(test::bundled_model() / "tokenizer.json", dir / "tokenizer.json");
  const Engine engine = test::load_engine(dir.path());
  std::string note;
  EXPECT_EQ(end_of_text_ids(engine, &note), (std::vector<int64_t>{0}));
  EXPECT_THAT(note, HasSubstr("2 (\"!\")"));
  EXPECT_THAT(note, HasSubstr("id 0"));
}

}  // namespace
}  // namespace xlstm
