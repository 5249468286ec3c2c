// The files of a tuning run.
#include "xlstm/tune/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/expect_error.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/tune/search_support.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_error;
using test::read_all;
using test::TempDir;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

TEST(RunFolder, IsNamedByTimeAndTag) {
  const TempDir dir;
  RunFolder folder = RunFolder::create(dir / "deep/runs", "a b/../c\n");
  EXPECT_THAT(folder.path().filename().string(), MatchesRegex("[0-9]{8}_[0-9]{6}_a_b_.._c_"));
  EXPECT_EQ(folder.path().parent_path(), dir / "deep/runs");
  EXPECT_LE(RunFolder::create(dir / "runs", std::string(1000, 'x')).path().filename().string().size(), 100U);
}

TEST(RunFolder, RunsOfOneSecondHaveFoldersOfTheirOwn) {
  const TempDir dir;
  std::vector<RunFolder> folders;
  std::set<fs::path> paths;
  for (int i = 0; i < 5; ++i) {
    folders.push_back(RunFolder::create(dir.path(), "t"));
    EXPECT_TRUE(paths.insert(folders.back().path()).second);
    EXPECT_TRUE(fs::is_directory(folders.back().path()));
  }
}

TEST(RunFolder, VanishesIfTheRunDidNotBegin) {
  const TempDir dir;
  fs::path path;
  { path = RunFolder::create(dir.path(), "t").path(); }
  EXPECT_FALSE(fs::exists(path));
  {
    RunFolder folder = RunFolder::create(dir.path(), "t");
    folder.write_meta({{"seed", 7}});
    path = folder.path();
  }
  EXPECT_EQ(RunFolder::open(path).read_meta()["seed"], 7);
}

TEST(RunFolder, BelongsToOneProcessAtATime) {
  const TempDir dir;
  RunFolder folder = RunFolder::create(dir.path(), "t");
  folder.write_meta({{"seed", 7}});
  expect_error([&] { (void)RunFolder::open(folder.path()); }, ExitCode::kUsage, {"run folder", "running tune"});
}

TEST(RunFolder, RefusesToResumeWhatIsNoRun) {
  const TempDir dir;
  expect_error([&] { (void)RunFolder::open(dir / "none"); }, ExitCode::kUsage, {"--resume", "no such folder"});
  expect_error([&] { (void)RunFolder::open(dir.path()); }, ExitCode::kUsage, {"--resume", "run_meta.json"});
  EXPECT_EQ(dir.entries(), 0);
  (void)dir.file("run_meta.json", "{\"seed\": ");
  expect_error([&] { (void)RunFolder::open(dir.path()).read_meta(); }, ExitCode::kUsage, {"run_meta.json"});
}

TEST(RunFolder, SaysWhereItCannotWrite) {
  const TempDir dir;
  const fs::path file = dir.file("file", "");
  expect_error([&] { (void)RunFolder::create(file, "t"); }, ExitCode::kOutput, {"run folder", file.string()});
  expect_error([&] { (void)RunFolder::create(file / "runs", "t"); }, ExitCode::kOutput, {"run folder"});
}

TEST(RunFolder, TrialsHoldWhatWasMeasured) {
  const TempDir dir;
  RunFolder folder = RunFolder::create(dir.path(), "t");
  Trial trial;
  trial.number = 3;
  trial.candidate = {48, 2, 2};
  trial.incumbent = {64, 1, 2};
  trial.pairs = {{{0.5, 0}, {0.75, 0}}, {{0.25, 1.0 / 3}, {1, 2}}};
  trial.comparison = compare(trial.pairs, TuneObjective::kPrefill);
  trial.vs_plain = 1.5;
  folder.append(trial);
  folder.append(trial);
  const std::vector<RecordedTrial> read = folder.read_trials();
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[1].candidate, trial.candidate);
  ASSERT_EQ(read[1].pairs.size(), 2U);
  EXPECT_EQ(read[1].pairs[1].candidate.decode_s, 1.0 / 3) << "to the last bit";
  EXPECT_EQ(read[1].pairs[0].candidate.decode_s, 0);
  const json line = json::parse(
      read_all(folder.path() / "trials.jsonl").substr(0, read_all(folder.path() / "trials.jsonl").find('\n')));
  EXPECT_EQ(line["trial"], 3);
  EXPECT_EQ(line["kind"], "candidate");
  EXPECT_EQ(line["incumbent"]["chunk_size"], 64);
  EXPECT_EQ(line["speedup"]["wins"], 2);
  EXPECT_FALSE(line["pairs"][0]["candidate"].contains("decode_s"));
}

TEST(RunFolder, SummaryHasThePromisedColumnsAndARowForEachConfiguration) {
  const TempDir dir;
  RunFolder folder = RunFolder::create(dir.path(), "t");
  SearchPlan plan = test::make_plan(TuneMode::kGrid);
  plan.space = SearchSpace({{96, 96}, TuneRange{2, 2}, std::nullopt}, {4, 2}, test::kPlain);
  plan.objective = TuneObjective::kTotal;
  Search search(plan);
  while (const auto step = search.next()) search.record({step->candidate ? 0.5 : 1.0, 0.25});
  folder.write_summary(search, {"ray_compiled_steps", 100, 8});
  EXPECT_EQ(read_all(folder.path() / "summary.csv"),
            "backend,workers,heads_per_band,chunk_size,prefill_tok_s,decode_tok_s,prefill_s,decode_s\n"
            "ray_compiled_steps,2,1,64,100.00,32.00,1.000000,0.250000\n"
            "ray_compiled_steps,2,2,96,200.00,32.00,0.500000,0.250000\n");
}

TEST(RunFolder, WhatWasNotMeasuredIsEmptyInTheSummary) {
  const TempDir dir;
  RunFolder folder = RunFolder::create(dir.path(), "t");
  Search search(test::make_plan(TuneMode::kRandom));
  folder.write_summary(search, {"ray_compiled_steps", 100, 8});
  EXPECT_EQ(read_all(folder.path() / "summary.csv").find('\n') + 1, read_all(folder.path() / "summary.csv").size());
  test::complete(search, test::valley);
  folder.write_summary(search, {"ray_compiled_steps", 100, 8});
  EXPECT_THAT(read_all(folder.path() / "summary.csv"), HasSubstr("ray_compiled_steps,2,1,64,"));
  EXPECT_THAT(read_all(folder.path() / "summary.csv"), HasSubstr(",,"));
}

}  // namespace
}  // namespace xlstm
