// A requested stop in every phase, as the library's callers see it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/engines.h"
#include "xlstm/core/cache_request.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/runtime/generator.h"
#include "xlstm/runtime/sequence.h"

namespace xlstm {
namespace {

class StopTest : public testing::Test {
 protected:
  StopTest() {
    RuntimeOpts opts = test::quiet_opts();
    opts.prefill_segment = 64;
    engine_.emplace(test::load_engine(test::goldens() / "zoo/single_f32", opts));
    for (int64_t i = 0; i < 200; ++i) ids_.push_back(i % 160);
  }
  ~StopTest() override { clear_stop(); }

  std::optional<Engine> engine_;
  std::vector<int64_t> ids_;
};

TEST_F(StopTest, TheFirstReasonStays) {
  EXPECT_FALSE(stop_requested());
  EXPECT_TRUE(request_stop(StopReason::kMemory));
  EXPECT_FALSE(request_stop(StopReason::kInterrupt));
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
}

TEST_F(StopTest, EndsALoad) {
  request_stop(StopReason::kInterrupt);
  EXPECT_THROW((void)test::load_engine(test::goldens() / "zoo/single_f32"), Stopped);
}

TEST_F(StopTest, AbandonsAPassThatNobodyKeeps) {
  Sequence sequence(*engine_);
  request_stop(StopReason::kTerminate);
  EXPECT_THROW(sequence.feed(ids_), Stopped);
}

TEST_F(StopTest, EndsAKeptPrefillBehindASegmentWithTheNextIdPending) {
  Sequence sequence(*engine_);
  int rows_seen = 0;
  const LogitSink sink = [&](std::span<const float> rows) {
    rows_seen += static_cast<int>(rows.size()) / 160;
    if (rows_seen == 128) request_stop(StopReason::kInterrupt);
  };
  sequence.feed(ids_, sink, OnStop::kFinish);
  EXPECT_EQ(rows_seen, 128);
  ASSERT_EQ(sequence.ids().size(), 129U);
  EXPECT_EQ(sequence.ids().back(), ids_[128]);
  EXPECT_TRUE(sequence.has_pending());

  // Going on with the rest gives what one run gives.
  const SavedState saved = sequence.save(0);
  EXPECT_TRUE(saved.logits.empty()) << "there are none behind a pending id";
  clear_stop();
  Sequence whole(*engine_);
  whole.feed(ids_);
  Sequence resumed(*engine_);
  resumed.restore(saved);
  resumed.feed(std::span(ids_).subspan(129));
  EXPECT_EQ(std::vector<float>(resumed.logits().begin(), resumed.logits().end()),
            std::vector<float>(whole.logits().begin(), whole.logits().end()));
}

TEST_F(StopTest, AStoppedPrefillReportsTheIdsThatWereFed) {
  Sequence sequence(*engine_);
  GenerationRequest request;
  request.prompt = ids_;
  request.on_stop = OnStop::kFinish;
  request.keep_logits = true;
  request_stop(StopReason::kInterrupt);
  const GenerationResult result = generate(sequence, *engine_, test::quiet_opts(), request);
  EXPECT_EQ(result.finish, FinishReason::kInterrupted);
  EXPECT_TRUE(result.prompt_ids.empty());
  EXPECT_TRUE(result.prompt_logits.empty());
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(sequence.ids(), std::vector<int64_t>{ids_.front()}) << "pending";
}

TEST_F(StopTest, ARestoredSequenceCanBeSavedAfterAStoppedPrefill) {
  Sequence first(*engine_);
  first.feed(std::vector<int64_t>{1, 2, 3});
  Sequence sequence(*engine_);
  sequence.restore(first.save(0));
  request_stop(StopReason::kInterrupt);
  sequence.feed(ids_, {}, OnStop::kFinish);
  const SavedState saved = sequence.save(0);
  EXPECT_EQ(saved.ids, (std::vector<int64_t>{1, 2, 3, ids_.front()}));
  EXPECT_EQ(saved.pending_id, ids_.front());
  EXPECT_TRUE(saved.logits.empty());
}

TEST_F(StopTest, EndsDecodingBehindTheCurrentToken) {
  Sequence sequence(*engine_);
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  int seen = 0;
  request.on_token = [&](int64_t) {
    if (++seen == 5) request_stop(StopReason::kInterrupt);
    return true;
  };
  RuntimeOpts opts = test::quiet_opts();
  opts.ignore_eos = true;
  const GenerationResult result = generate(sequence, *engine_, opts, request);
  EXPECT_EQ(result.finish, FinishReason::kInterrupted);
  EXPECT_EQ(result.ids.size(), 5U);
  EXPECT_EQ(sequence.ids().size(), 8U);
}

TEST_F(StopTest, RunCountersFollowPrefillAndDecode) {
  const int64_t prompt_before = run_counters().prompt_tokens;
  const int64_t decoded_before = run_counters().decoded_tokens;
  Sequence sequence(*engine_);
  GenerationRequest request;
  request.prompt = ids_;
  request.on_token = [&](int64_t) {
    EXPECT_EQ(run_counters().phase, RunPhase::kDecode);
    return true;
  };
  RuntimeOpts opts = test::quiet_opts();
  opts.max_new_tokens = 7;
  opts.ignore_eos = true;
  (void)generate(sequence, *engine_, opts, request);
  EXPECT_EQ(run_counters().prompt_tokens - prompt_before, 200);
  EXPECT_EQ(run_counters().decoded_tokens - decoded_before, 7);
  EXPECT_EQ(run_counters().done, 7);
  EXPECT_EQ(run_counters().total, 7);
}

TEST_F(StopTest, EmptyingTheCacheChangesNoResult) {
  Sequence plain(*engine_);
  plain.feed(ids_);
  Sequence emptied(*engine_);
  for (const int64_t id : ids_) {
    request_empty_cache();
    emptied.feed(std::span(&id, 1));
    EXPECT_FALSE(take_empty_cache_request());
  }
  Sequence single(*engine_);
  for (const int64_t id : ids_) single.feed(std::span(&id, 1));
  EXPECT_EQ(std::vector<float>(emptied.logits().begin(), emptied.logits().end()),
            std::vector<float>(single.logits().begin(), single.logits().end()));
}

TEST_F(StopTest, ReschedulingGivesTheResultsOfAFreshEngine) {
  RuntimeOpts opts = test::quiet_opts();
  opts.prefill_segment = 100;
  for (const char* backend : {"queued_compiled_steps", "cpu", "native", "ray_compiled_steps"}) {
    SCOPED_TRACE(backend);
    opts.chunkwise_backend = backend;
    opts.chunk_size = opts.chunk_size == 16 ? 40 : 16;
    engine_->reschedule(opts, resolve(opts));
    EXPECT_EQ(engine_->segment_rows(false), 100 / opts.chunk_size * opts.chunk_size);
    Engine fresh = test::load_engine(test::goldens() / "zoo/single_f32", opts);
    Sequence one(*engine_);
    Sequence other(fresh);
    one.feed(ids_);
    other.feed(ids_);
    EXPECT_EQ(std::vector<float>(one.logits().begin(), one.logits().end()),
              std::vector<float>(other.logits().begin(), other.logits().end()));
  }
}

}  // namespace
}  // namespace xlstm
