#include "xlstm/runtime/sequence.h"

#include <gtest/gtest.h>

#include "tests/support/engines.h"
#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using test::expect_error;

std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

class SequenceTest : public testing::Test {
 protected:
  SequenceTest() : engine_(test::load_engine(test::goldens() / "zoo/single_f32")) {}
  Engine engine_;
};

TEST_F(SequenceTest, RefusesAnIdOutsideTheVocabularyAndFeedsNothing) {
  Sequence sequence(engine_);
  const std::vector<int64_t> bad = {1, 160};
  expect_error([&] { sequence.feed(bad); }, ExitCode::kUsage, {"token id", "0 to 159", "160"});
  const std::vector<int64_t> negative = {-1};
  expect_error([&] { sequence.feed(negative); }, ExitCode::kUsage, {"-1"});
  EXPECT_TRUE(sequence.ids().empty());
  EXPECT_TRUE(sequence.logits().empty());
}

TEST_F(SequenceTest, HasNoLogitsWhileAnIdIsPending) {
  Sequence sequence(engine_);
  sequence.feed(std::vector<int64_t>{3, 4});
  EXPECT_EQ(sequence.logits().size(), 160U);
  sequence.append_pending(5);
  EXPECT_TRUE(sequence.has_pending());
  EXPECT_TRUE(sequence.logits().empty());
  sequence.feed({});
  EXPECT_FALSE(sequence.has_pending());
  EXPECT_EQ(sequence.ids(), (std::vector<int64_t>{3, 4, 5}));
}

TEST_F(SequenceTest, ContinuesExactlyFromASavedStateWithAPendingId) {
  Sequence whole(engine_);
  whole.feed(std::vector<int64_t>{3, 4, 9});
  whole.append_pending(7);
  const SavedState saved = whole.save(/*seed=*/5);
  EXPECT_EQ(saved.pending_id, 7);
  EXPECT_TRUE(saved.logits.empty());
  whole.feed({});

  Sequence resumed(engine_);
  resumed.restore(saved);
  EXPECT_TRUE(resumed.has_pending());
  resumed.feed({});
  EXPECT_EQ(copy(resumed.logits()), copy(whole.logits()));
}

TEST_F(SequenceTest, KeepsTheLastLogitsInASavedStateWithoutAPendingId) {
  Sequence whole(engine_);
  whole.feed(std::vector<int64_t>{3, 4, 9});
  Sequence resumed(engine_);
  resumed.restore(whole.save(0));
  EXPECT_FALSE(resumed.has_pending());
  EXPECT_EQ(copy(resumed.logits()), copy(whole.logits()));
}

TEST_F(SequenceTest, GivesEveryRowsLogitsInOrderAcrossSegments) {
  RuntimeOpts opts = test::quiet_opts();
  opts.prefill_segment = 64;
  Engine engine = test::load_engine(test::goldens() / "zoo/single_f32", opts);
  std::vector<int64_t> ids(150);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i % 160);
  Sequence sequence(engine);
  std::vector<float> rows;
  int calls = 0;
  sequence.feed(ids, [&](std::span<const float> more) {
    rows.insert(rows.end(), more.begin(), more.end());
    ++calls;
  });
  EXPECT_EQ(calls, 3);
  ASSERT_EQ(rows.size(), 150U * 160U);
  EXPECT_EQ(copy(sequence.logits()), (std::vector<float>(rows.end() - 160, rows.end())));
}

TEST(EngineSegments, AreWholeChunksAndAtLeastOne) {
  RuntimeOpts opts = test::quiet_opts();
  opts.chunk_size = 48;
  for (const auto& [segment, rows] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 48}, {100, 96}, {2048, 2016}, {INT64_MAX, kMostPassRows / 48 * 48}}) {
    opts.prefill_segment = segment;
    EXPECT_EQ(test::load_engine(test::goldens() / "zoo/single_f32", opts).segment_rows(false), rows);
  }
}

}  // namespace
}  // namespace xlstm
