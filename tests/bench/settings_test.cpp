#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "src/bench/rounds.h"
#include "src/bench/settings.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/stop.h"

namespace xlstm {
namespace {

using test::expect_error;
using testing::ElementsAre;
using testing::HasSubstr;

BenchRequest small_request() {
  BenchRequest request;
  request.opts.device = "cpu";
  request.opts.dtype = "float32";
  request.opts.chunk_size = 8;
  request.opts.threads = 1;
  request.opts.workers = 1;
  request.opts.progress = false;
  request.shape = "E=32,blocks=1,heads=2,vocab=50";
  request.n_prompt = {24};
  request.n_gen = {0};
  request.batch = {1};
  request.repeats = 2;
  return request;
}

std::vector<BenchRow> rows_of(const BenchRequest& request) {
  return run_bench(request, {}).rows;
}

TEST(Settings, AreTheProductOfTheListsGroupedByWhatMustBeLoadedAnew) {
  BenchRequest request = small_request();
  request.dtype = {"float32", "bfloat16"};
  request.threads = {1, 2};
  request.chunk_size = {8, 16};
  request.heads_per_band = {1, 2, 4};
  const std::vector<LoadGroup> groups = expand_settings(request);
  ASSERT_EQ(groups.size(), 4U);
  for (const LoadGroup& group : groups) {
    EXPECT_EQ(group.size(), 6U);
    for (const BenchSetting& setting : group) {
      EXPECT_EQ(setting.resolution.weight_dtype, group.front().resolution.weight_dtype);
      EXPECT_EQ(setting.resolution.threads, group.front().resolution.threads);
    }
  }
}

TEST(Settings, ThatResolveToTheSameLoadShareIt) {
  BenchRequest request = small_request();
  request.dtype = {"auto", "bfloat16"};
  EXPECT_EQ(expand_settings(request).size(), 1U);
  request.cell = true;
  request.dtype = {"float32", "bfloat16"};
  EXPECT_EQ(expand_settings(request).size(), 1U) << "a cell has no weights";
}

TEST(Settings, OfKernelsThatDoNotDependOnThemAreAbsent) {
  BenchSetting setting;
  setting.opts = small_request().opts;
  setting.opts.heads_per_band = 9;
  setting.opts.chunkwise_backend = "queued_compiled_steps";
  setting.resolution = resolve(setting.opts);
  const Schedule scheduled = chunkwise_schedule(setting, 4);
  EXPECT_EQ(scheduled.kernel, "chunkwise--queued_compiled_steps");
  EXPECT_EQ(scheduled.workers, 1);
  EXPECT_EQ(scheduled.heads_per_band, 4) << "cut to the head count";
  EXPECT_EQ(scheduled.chunk_size, 8);
  EXPECT_EQ(prefill_schedule(setting, 4, 8), scheduled);
  EXPECT_EQ(prefill_schedule(setting, 4, 7), (Schedule{"native_sequence__cpu", {}, {}, {}}));
  EXPECT_EQ(prefill_schedule(setting, 4, 1), (Schedule{"cpu", {}, {}, {}}));

  setting.opts.chunkwise_backend = "native";
  setting.resolution = resolve(setting.opts);
  EXPECT_EQ(chunkwise_schedule(setting, 4), (Schedule{"chunkwise--native", {}, {}, 8}));
}

TEST(BenchRows, AreOnePerCombination) {
  BenchRequest request = small_request();
  request.dtype = {"float32", "bfloat16"};
  request.workers = {1, 2};
  request.heads_per_band = {1, 2};
  request.chunk_size = {8, 12};
  const std::vector<BenchRow> rows = rows_of(request);
  EXPECT_EQ(rows.size(), 16U);
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.test, "prefill");
    EXPECT_GT(row.tok_s, 0);
    EXPECT_LE(row.tok_s_min, row.tok_s);
    EXPECT_LE(row.tok_s, row.tok_s_max);
  }
}

TEST(BenchRows, ThatComeToTheSameRunAreMeasuredOnce) {
  BenchRequest request = small_request();
  request.heads_per_band = {2, 3, 100};
  EXPECT_EQ(rows_of(request).size(), 1U) << "two heads";

  request.workers = {1, 2};
  request.heads_per_band = {1, 2};
  request.chunkwise_backend = {"ray_compiled_steps", "native", "cpu"};
  std::vector<std::string> kernels;
  for (const BenchRow& row : rows_of(request)) kernels.push_back(row.kernel);
  const std::string ray = "chunkwise--ray_compiled_steps";
  EXPECT_THAT(kernels, ElementsAre(ray, ray, ray, ray, "chunkwise--native", "chunkwise--cpu"));

  request = small_request();
  request.chunk_size = {8, 16, 32};
  request.n_prompt = {5};
  EXPECT_EQ(rows_of(request).size(), 1U) << "a prompt below every chunk";
}

TEST(BenchRows, OfDecodingDoNotMultiplyWithTheScheduling) {
  BenchRequest request = small_request();
  request.n_prompt = {0};
  request.n_gen = {2, 3};
  request.batch = {1, 2};
  request.threads = {1, 2};
  request.workers = {1, 2};
  request.chunk_size = {8, 16};
  const std::vector<BenchRow> rows = rows_of(request);
  EXPECT_EQ(rows.size(), 8U);
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.test, "decode");
    EXPECT_FALSE(row.workers || row.heads_per_band || row.chunk_size);
    EXPECT_GT(row.state_gb_s, 0);
  }
}

TEST(BenchRows, MultiplyWithTheTypeOfTheStateWithoutLoadingAgain) {
  BenchRequest request = small_request();
  request.n_gen = {2};
  request.batch = {1, 32};
  request.state_dtype = {"float32", "bfloat16"};
  EXPECT_EQ(expand_settings(request).size(), 1U);
  const std::vector<BenchRow> rows = rows_of(request);
  ASSERT_EQ(rows.size(), 8U);
  EXPECT_EQ(rows[0].state_dtype, "float32");
  EXPECT_EQ(rows[2].state_dtype, "bfloat16");
  EXPECT_EQ(rows[2].test, "prefill");
  request.cell = true;
  const std::vector<BenchRow> cells = rows_of(request);
  ASSERT_EQ(cells.size(), 4U);
  EXPECT_EQ(cells[3].dtype, "bfloat16");
}

TEST(BenchRows, OfAPromptInManySegmentsReportAPeak) {
  BenchRequest request = small_request();
  request.opts.prefill_segment = 64;
  request.n_prompt = {3001};
  request.repeats = 1;
  const std::vector<BenchRow> rows = rows_of(request);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_GT(rows[0].peak_mb, 0);
}

TEST(BenchRows, HaveSharesWithLimitsOnly) {
  BenchRequest request = small_request();
  request.n_gen = {2};
  request.repeats = 1;
  for (const BenchRow& row : rows_of(request)) {
    EXPECT_FALSE(row.limit_share || row.peak_share || row.ratio);
    EXPECT_EQ(row.rejected, 0);
    EXPECT_EQ(row.repeats, 1);
  }
  request.limits = true;
  const BenchResult result = run_bench(request, {});
  ASSERT_TRUE(result.limits.has_value());
  ASSERT_EQ(result.rows.size(), 2U);
  for (const BenchRow& row : result.rows) {
    EXPECT_GE(row.repeats, 1) << row.test;
    if (row.limit_share) {
      EXPECT_GT(*row.limit_share, 0) << row.test;
    }
    EXPECT_EQ(row.peak_share.has_value(), row.limit_share.has_value() && row.test == "prefill");
    EXPECT_GT(row.peak_mb, 0);
  }
}

TEST(BenchRows, MeasureLimitsOnceForSeveralNumbersOfThreads) {
  BenchRequest request = small_request();
  request.limits = true;
  request.repeats = 1;
  request.threads = {1, 2};
  const BenchResult result = run_bench(request, {});
  EXPECT_EQ(result.rows.size(), 2U);
  EXPECT_EQ(result.limits->threads, 2) << "the most threads of the run";
}

TEST(BenchRows, OfUnknownOrUnavailableSettingsFailBeforeAnyWork) {
  BenchRequest request = small_request();
  request.chunkwise_backend = {"cpu", "quue"};
  int seen = 0;
  expect_error([&] { run_bench(request, [&](const BenchRow&) { ++seen; }); }, ExitCode::kUsage,
               {"chunkwise_backend", "quue"});
  request.chunkwise_backend = {"cpu", "metal"};
  expect_error([&] { run_bench(request, [&](const BenchRow&) { ++seen; }); }, ExitCode::kDevice,
               {"chunkwise_backend", "metal"});
  EXPECT_EQ(seen, 0);
}

TEST(CellRows, MeasureTheKernelAlone) {
  BenchRequest request = small_request();
  request.cell = true;
  request.n_prompt = {16, 27};
  request.n_gen = {128};
  request.batch = {1, 3};
  request.dtype = {"float32", "bfloat16"};
  request.chunkwise_backend = {"ray_compiled_steps", "queued_compiled_steps", "native", "cpu"};
  const std::vector<BenchRow> rows = rows_of(request);
  EXPECT_EQ(rows.size(), 16U) << "nothing is decoded, and there are no weights";
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.test, "cell");
    EXPECT_EQ(row.dtype, "float32") << "of the state";
    EXPECT_GT(row.tok_s, 0);
    EXPECT_EQ(row.weight_gb_s, 0);
  }
}

TEST(CellRows, MakeNoModel) {
  BenchRequest request = small_request();
  request.cell = true;
  request.shape = "E=512,blocks=100000,heads=8,vocab=1000000";  // a terabyte of weights
  EXPECT_EQ(rows_of(request).size(), 1U);
}

TEST(CellRows, OfACheckpointNeedItsSizesOnly) {
  BenchRequest request = small_request();
  request.cell = true;
  request.shape.clear();
  request.model = std::string(XLSTM_SOURCE_DIR) + "/models/xlstm-tales-8m/";
  const std::vector<BenchRow> rows = rows_of(request);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].model, "xlstm-tales-8m");
}

TEST(CellRows, NeedAChunk) {
  BenchRequest request = small_request();
  request.cell = true;
  request.n_prompt = {24};
  request.chunk_size = {8, 32};
  expect_error([&] { rows_of(request); }, ExitCode::kUsage, {"-p", "a chunk of 32 tokens for --cell", "got 24"});
}

TEST(CellRows, CoverLongPromptsInSegments) {
  BenchRequest request = small_request();
  request.cell = true;
  request.opts.prefill_segment = 20;
  request.n_prompt = {100};
  request.batch = {2};
  EXPECT_GT(rows_of(request).at(0).tok_s, 0);
}

RoundSettings quiet_rounds(int64_t repeats, std::vector<Gauge> gauges = {}) {
  return {repeats, /*show_progress=*/false, /*threads=*/1, std::move(gauges)};
}

TEST(Rounds, LetContestantsTakeTurns) {
  std::string log;
  std::vector<Contestant> two;
  for (const char* name : {"a", "b"}) {
    two.push_back({1, [&log] { log += '-'; }, [&log, name] { log += name; }});
  }
  const std::vector<Rate> rates = measure_in_turns(two, quiet_rounds(2));
  EXPECT_EQ(log, "-a-b-a-b-a-b") << "one untimed round, then two";
  EXPECT_EQ(rates.size(), 2U);
  log.clear();
  (void)measure_in_turns({two[0]}, quiet_rounds(3));
  EXPECT_EQ(log, "-aaaa") << "alone, it stays prepared";
}

TEST(Rounds, EndBetweenRunsWhenAStopIsRequested) {
  int runs = 0;
  const Contestant stops{1, [] {},
                         [&] {
                           ++runs;
                           request_stop(StopReason::kInterrupt);
                         }};
  EXPECT_THROW((void)measure_in_turns({stops}, quiet_rounds(5)), Stopped);
  clear_stop();
  EXPECT_EQ(runs, 1);
}

// A contestant that sleeps, so that the scheduler's books have nothing against it.
Contestant sleeper() {
  return {10, [] {}, [] { std::this_thread::sleep_for(std::chrono::milliseconds(110)); }, /*work=*/100};
}

TEST(Rounds, ReadTheGaugesBeforeAndAfterEverySample) {
  int readings = 0;
  const std::vector<Rate> rates = measure_in_turns({sleeper()}, quiet_rounds(2, {[&] { return ++readings, 1000.0; }}));
  ASSERT_EQ(rates.size(), 1U);
  EXPECT_EQ(readings, 2 * (rates[0].samples + rates[0].rejected));
  EXPECT_EQ(rates[0].samples, 2);
  ASSERT_TRUE(rates[0].shares.at(0).has_value());
  EXPECT_NEAR(*rates[0].shares[0], rates[0].median / 10 * 100 / 1000, 1e-2);
  EXPECT_LE(rates[0].max, 10 / 0.110) << "several runs make a sample, and all of them count";
}

TEST(Rounds, RepeatSamplesBetweenWhichTheMachineChanged) {
  // The first sample's readings are far apart, the others' are not.
  int reading = 0;
  const std::vector<Rate> rates =
      measure_in_turns({sleeper()}, quiet_rounds(2, {[&] { return ++reading == 1 ? 500.0 : 1000.0; }}));
  EXPECT_EQ(rates.at(0).samples, 2);
  EXPECT_GE(rates[0].rejected, 1);
}

TEST(Rounds, GiveUpOnAMachineThatNeverHoldsStill) {
  int reading = 0;
  const std::vector<Rate> rates =
      measure_in_turns({sleeper()}, quiet_rounds(1, {[&] { return ++reading % 2 == 0 ? 500.0 : 1000.0; }}));
  EXPECT_EQ(rates.at(0).rejected, kAttempts);
  EXPECT_EQ(rates[0].samples, kAttempts) << "speed of all, since none is better";
  EXPECT_EQ(rates[0].shares.at(0), std::nullopt);
}

}  // namespace
}  // namespace xlstm
