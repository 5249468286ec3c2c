// A search and its folder: going on after an interruption.
#include "xlstm/tune/run_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/expect_error.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/tune/search_support.h"
#include "xlstm/core/stop.h"

namespace xlstm {
namespace {

using test::expect_error;
using test::make_plan;
using test::TempDir;
using test::valley;

RunFolder make_folder(const TempDir& dir) {
  RunFolder folder = RunFolder::create(dir / "runs", "t");
  folder.write_meta({{"x", 1}});
  return folder;
}

// Timings that depend on the trial and the place in it only, so that a trial that is done again has the same ones.
class RepeatableMachine {
 public:
  explicit RepeatableMachine(const Search& search) : search_(search) {}
  double seconds(const TuneParams& params) {
    const size_t trial = search_.trials().size();
    place_ = trial == trial_ ? place_ + 1 : 0;
    trial_ = trial;
    test::NoisyMachine noise(trial * 1000 + place_, 0.08, 50);
    return noise.seconds(valley(params));
  }

 private:
  const Search& search_;
  size_t trial_ = SIZE_MAX;
  size_t place_ = 0;
};

// Carries the search on; after `measurements` of them it is interrupted.
void carry_on(Search& search, RunFolder& folder, int64_t measurements) {
  RepeatableMachine machine(search);
  int64_t done = 0;
  run_search(search, folder,
             {[](const TuneParams&) {},
              [&](const TuneParams& params) {
                if (done++ == measurements) throw Stopped{StopReason::kInterrupt};
                return Timing{machine.seconds(params), 0};
              },
              {}});
}

TEST(RunSearch, InterruptedAnywhereAndResumedItGivesTheSameResult) {
  for (const TuneMode mode : {TuneMode::kRandom, TuneMode::kGa, TuneMode::kGrid}) {
    SearchPlan plan = make_plan(mode, 3);
    plan.trials = 8;
    plan.generations = 2;
    plan.space = SearchSpace({{48, 112}, TuneRange{1, 2}, std::nullopt}, {4, 2}, test::kPlain);
    const TempDir whole_dir;
    RunFolder whole_folder = make_folder(whole_dir);
    Search whole(plan);
    carry_on(whole, whole_folder, INT64_MAX);
    ASSERT_GT(whole.trials().size(), 8U);

    int64_t stop = 0;  // measurements before the interruption: in the middle of every trial
    for (const Trial& interrupted : whole.trials()) {
      SCOPED_TRACE(interrupted.number);
      stop += interrupted.comparison.pairs;
      const TempDir dir;
      std::filesystem::path path;
      {
        RunFolder folder = make_folder(dir);
        path = folder.path();
        Search search(plan);
        EXPECT_THROW(carry_on(search, folder, stop), Stopped);
      }
      RunFolder folder = RunFolder::open(path);
      Search search(plan);
      replay_trials(search, folder);
      carry_on(search, folder, INT64_MAX);
      ASSERT_EQ(search.trials().size(), whole.trials().size());
      const TuneAnswer a = answer_of(search);
      const TuneAnswer b = answer_of(whole);
      EXPECT_EQ(a.params, b.params);
      EXPECT_EQ(a.found, b.found);
      EXPECT_EQ(a.against_plain.median, b.against_plain.median);
      EXPECT_EQ(a.timing.prefill_s, b.timing.prefill_s);
      stop += interrupted.comparison.pairs;
    }
  }
}

TEST(RunSearch, WritesEachTrialBeforeTheNextBegins) {
  const TempDir dir;
  RunFolder folder = make_folder(dir);
  Search search(make_plan(TuneMode::kGrid));
  size_t trials = 0;
  run_search(search, folder,
             {[](const TuneParams&) {},
              [](const TuneParams& params) {
                return Timing{valley(params), 0};
              },
              [&](const Trial& trial) {
                EXPECT_EQ(trial.number, static_cast<int64_t>(++trials));
                EXPECT_EQ(folder.read_trials().size(), trials);
              }});
}

TEST(RunSearch, WarmsUpBeforeEveryTrial) {
  const TempDir dir;
  RunFolder folder = make_folder(dir);
  Search search(make_plan(TuneMode::kRandom));
  std::vector<TuneParams> warm;
  run_search(search, folder,
             {[&](const TuneParams& params) { warm.push_back(params); },
              [](const TuneParams& params) {
                return Timing{valley(params), 0};
              },
              {}});
  ASSERT_EQ(warm.size(), search.trials().size());
  for (size_t i = 0; i < warm.size(); ++i) EXPECT_EQ(warm[i], search.trials()[i].candidate);
}

TEST(RunSearch, ATornLastLineIsDropped) {
  const TempDir dir;
  RunFolder folder = make_folder(dir);
  const SearchPlan plan = make_plan(TuneMode::kGrid);
  Search search(plan);
  EXPECT_THROW(carry_on(search, folder, 40), Stopped);
  const auto file = folder.path() / "trials.jsonl";
  const std::string before = test::read_all(file);
  std::ofstream(file, std::ios::app) << R"({"trial": 99, "params": {"chu)";
  Search again(plan);
  replay_trials(again, folder);
  EXPECT_EQ(again.trials().size(), search.trials().size());
  EXPECT_EQ(test::read_all(file), before);
}

TEST(RunSearch, RefusesTrialsOfAnotherSearchAndDamagedOnes) {
  const TempDir dir;
  RunFolder folder = make_folder(dir);
  Search search(make_plan(TuneMode::kRandom, 1));
  carry_on(search, folder, INT64_MAX);
  const auto file = folder.path() / "trials.jsonl";
  const std::string good = test::read_all(file);
  const std::string first = good.substr(0, good.find('\n') + 1);
  const auto replay_with = [&](uint64_t seed, const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
    Search other(make_plan(TuneMode::kRandom, seed));
    replay_trials(other, folder);
  };
  EXPECT_NO_THROW(replay_with(1, good));
  expect_error([&] { replay_with(2, good); }, ExitCode::kUsage, {"trial 1", "trials.jsonl", "another one"});
  expect_error([&] { replay_with(1, first + first); }, ExitCode::kUsage, {"trial 2"});
  expect_error([&] { replay_with(1, good + first); }, ExitCode::kUsage, {"trial"});
  for (const std::string bad : {"nonsense", "{}", "[]", R"({"params": {"chunk_size": 16}})",
                                R"({"params": {"chunk_size": 16, "heads_per_band": 1, "workers": 1}})",
                                R"({"params": {"chunk_size": 16, "heads_per_band": 1, "workers": 1}, "pairs": 3})",
                                R"({"params": {"chunk_size": 16, "heads_per_band": 1, "workers": 1}, "pairs": [3]})",
                                R"({"params": {"chunk_size": 0, "heads_per_band": 1, "workers": 1}, "pairs": []})"}) {
    SCOPED_TRACE(bad);
    expect_error([&] { replay_with(1, first + bad + "\n"); }, ExitCode::kUsage, {"trials.jsonl:2"});
  }
  const std::string empty_pairs = R"({"params": {"chunk_size": 16, "heads_per_band": 1, "workers": 1}, "pairs": []})";
  expect_error([&] { replay_with(1, first + empty_pairs + "\n"); }, ExitCode::kUsage, {"trial 2"});
  const std::string negative = R"({"params": {"chunk_size": 16, "heads_per_band": 1, "workers": 1},
      "pairs": [{"candidate": {"prefill_s": -1}, "incumbent": {"prefill_s": 1}}]})";
  std::string line = negative;
  line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
  expect_error([&] { replay_with(1, first + line + "\n"); }, ExitCode::kUsage, {"prefill_s", "trials.jsonl:2"});
}

}  // namespace
}  // namespace xlstm
