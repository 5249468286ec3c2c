#include <gtest/gtest.h>

#include <string>
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
  return run_bench(request, {});
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

TEST(Rounds, LetContestantsTakeTurns) {
  std::string log;
  std::vector<Contestant> two;
  for (const char* name : {"a", "b"}) {
    two.push_back({1, [&log] { log += '-'; }, [&log, name] { log += name; }});
  }
  const std::vector<Rate> rates = measure_in_turns(two, 2, /*show_progress=*/false);
  EXPECT_EQ(log, "-a-b-a-b-a-b") << "one untimed round, then two";
  EXPECT_EQ(rates.size(), 2U);
  log.clear();
  (void)measure_in_turns({two[0]}, 3, /*show_progress=*/false);
  EXPECT_EQ(log, "-aaaa") << "alone, it stays prepared";
}

TEST(Rounds, EndBetweenRunsWhenAStopIsRequested) {
  int runs = 0;
  const Contestant stops{1, [] {},
                         [&] {
                           ++runs;
                           request_stop(StopReason::kInterrupt);
                         }};
  EXPECT_THROW((void)measure_in_turns({stops}, 5, /*show_progress=*/false), Stopped);
  clear_stop();
  EXPECT_EQ(runs, 1);
}

TEST(Rounds, ReportTheMedianBetweenTheExtremes) {
  const Rate odd = summarize({5, 1, 2});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 5);
  EXPECT_EQ(summarize({4, 1, 2, 100}).median, 3);
}

}  // namespace
}  // namespace xlstm
