// The search, with invented timings.
#include "xlstm/tune/search.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/tune/search_support.h"

namespace xlstm {
namespace {

using test::complete;
using test::kPlain;
using test::make_plan;
using test::NoisyMachine;
using test::valley;

constexpr TuneMode kModes[] = {TuneMode::kRandom, TuneMode::kGa, TuneMode::kGrid};

TEST(Search, AlternatesBetweenIncumbentAndCandidateAndTakesTurnsInWhoLeads) {
  Search search(make_plan(TuneMode::kGrid));
  std::vector<bool> candidate;
  for (int i = 0; i < 6; ++i) {
    candidate.push_back(search.next()->candidate);
    EXPECT_EQ(search.next()->params, candidate.back() ? search.candidate() : kPlain);
    (void)search.record({1.0, 0});
  }
  EXPECT_EQ(candidate, (std::vector<bool>{false, true, true, false, false, true}));
}

TEST(Search, MeasuresNothingTwiceAndNothingOutsideTheSpace) {
  for (const TuneMode mode : kModes) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      Search search(make_plan(mode, seed));
      NoisyMachine machine(seed, 0.05, 100);
      complete(search, [&](const TuneParams& params) { return machine.seconds(valley(params)); });
      std::set<TuneParams> seen = {kPlain};
      for (const Trial& trial : search.trials()) {
        if (trial.confirmation) continue;
        EXPECT_TRUE(seen.insert(trial.candidate).second) << "measured twice";
        EXPECT_TRUE(search.plan().space.contains(trial.candidate));
      }
      EXPECT_LE(static_cast<int64_t>(search.trials().size()), search.most_trials());
    }
  }
}

TEST(Search, DoesAsManyTrialsAsItsModeSays) {
  const auto trials = [](const SearchPlan& plan) {
    Search search(plan);
    complete(search, valley);
    EXPECT_EQ(static_cast<int64_t>(search.trials().size()), search.most_trials());
    return search.trials().size() - 1;
  };
  EXPECT_EQ(trials(make_plan(TuneMode::kGrid)), 15U * 4 - 1) << "the plain one is known";
  EXPECT_EQ(trials(make_plan(TuneMode::kRandom)), 24U);
  EXPECT_EQ(trials(make_plan(TuneMode::kGa)), 7U + 3 * 6) << "plain and the two fastest of each generation are known";
  SearchPlan plan = make_plan(TuneMode::kRandom);
  plan.trials = 1000;
  EXPECT_EQ(trials(plan), 15U * 4 - 1);
  plan = make_plan(TuneMode::kGa);
  plan.population = 100;
  EXPECT_EQ(trials(plan), 15U * 4 - 1);
  plan.population = 2;
  plan.generations = 1;
  EXPECT_EQ(trials(plan), 1U);
}

TEST(Search, FindsTheFastestWithoutNoise) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Search search(make_plan(TuneMode::kGrid, seed));
    complete(search, valley);
    const TuneAnswer answer = answer_of(search);
    EXPECT_EQ(answer.params, (TuneParams{96, 2, 2}));
    EXPECT_TRUE(answer.confirmed);
    EXPECT_NEAR(answer.against_plain.median, valley(kPlain) / valley({96, 2, 2}), 1e-9);
  }
}

TEST(Search, ScoresAreSpeedsRelativeToPlainOverChangingIncumbents) {
  Search search(make_plan(TuneMode::kGrid));
  complete(search, valley);
  for (const Trial& trial : search.trials()) {
    EXPECT_NEAR(trial.vs_plain, valley(kPlain) / valley(trial.candidate), 1e-9);
  }
}

// With noise and with a drift that doubles all times and takes them back again, over short and long periods.
TEST(Search, UnderNoiseAndDriftFindsAConfigurationNearTheFastestAndNeverOneThatIsSlowerThanPlain) {
  int near = 0;
  int runs = 0;
  for (const double period : {50.0, 400.0, 5000.0}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      Search search(make_plan(TuneMode::kGrid, seed));
      NoisyMachine machine(seed * 7919 + 1, 0.04, period);
      complete(search, [&](const TuneParams& params) { return machine.seconds(valley(params)); });
      const TuneAnswer answer = answer_of(search);
      EXPECT_LE(valley(answer.params), valley(kPlain) * 1.001) << "seed " << seed << ", period " << period;
      near += valley(answer.params) <= 1.05 ? 1 : 0;
      ++runs;
    }
  }
  EXPECT_GE(near, runs * 9 / 10);
}

TEST(Search, GeneticSearchComesNearTheFastestInFewTrials) {
  int near = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Search search(make_plan(TuneMode::kGa, seed));
    NoisyMachine machine(seed + 1, 0.02, 300);
    complete(search, [&](const TuneParams& params) { return machine.seconds(valley(params)); });
    near += valley(answer_of(search).params) <= 1.05 ? 1 : 0;
  }
  EXPECT_GE(near, 85);
}

TEST(Search, WhenAllAreEqualNothingButChanceHitsIsCalledFaster) {
  int confirmed = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Search search(make_plan(TuneMode::kGrid, seed));
    NoisyMachine machine(seed, 0.1, 200);
    complete(search, [&](const TuneParams&) { return machine.seconds(1.0); });
    confirmed += answer_of(search).confirmed ? 1 : 0;
  }
  EXPECT_LE(confirmed, 200 * 5 / 100);
}

TEST(Search, AResultThatFreshPairsDoNotConfirmGivesWayToPlain) {
  // Faster in every trial, but no faster when it counts.
  Search search(make_plan(TuneMode::kGrid));
  while (const auto step = search.next()) {
    const bool confirming = search.trials().size() + 1 == static_cast<size_t>(search.most_trials());
    search.record({step->candidate && !confirming ? 0.5 : 1.0, 0});
  }
  const TuneAnswer answer = answer_of(search);
  EXPECT_NE(answer.found, kPlain);
  EXPECT_EQ(answer.params, kPlain);
  EXPECT_FALSE(answer.confirmed);
}

TEST(Search, SpendsFewPairsOnSlowCandidatesAndMoreOnGoodOnes) {
  Search search(make_plan(TuneMode::kGrid));
  complete(search, valley);
  for (const Trial& trial : search.trials()) {
    if (trial.confirmation) {
      EXPECT_EQ(trial.comparison.pairs, 16);
    } else {
      EXPECT_EQ(trial.comparison.pairs, trial.comparison.median > 1 ? 6 : 3);
      EXPECT_EQ(trial.accepted, trial.comparison.median > 1);
    }
  }
}

TEST(Search, ASpaceOfThePlainConfigurationAloneMeasuresItsNoise) {
  for (const TuneMode mode : kModes) {
    SearchPlan plan = make_plan(mode);
    plan.space = SearchSpace({{64, 64}, TuneRange{1, 1}, std::nullopt}, {4, 2}, kPlain);
    Search search(plan);
    EXPECT_EQ(search.most_trials(), 1);
    complete(search, valley);
    ASSERT_EQ(search.trials().size(), 1U);
    const TuneAnswer answer = answer_of(search);
    EXPECT_EQ(answer.params, kPlain);
    EXPECT_FALSE(answer.confirmed);
    EXPECT_GT(answer.timing.prefill_s, 0);
  }
}

TEST(Search, ASpaceWithOneOtherCandidateTriesIt) {
  for (const TuneMode mode : kModes) {
    SearchPlan plan = make_plan(mode);
    plan.space = SearchSpace({{96, 96}, TuneRange{2, 2}, std::nullopt}, {4, 2}, kPlain);
    Search search(plan);
    complete(search, valley);
    EXPECT_EQ(search.trials().size(), 2U);
    EXPECT_EQ(answer_of(search).params, (TuneParams{96, 2, 2}));
  }
}

TEST(Search, TriesAnEarlierResultFirstIfItIsInTheSpace) {
  for (const TuneMode mode : kModes) {
    SearchPlan plan = make_plan(mode);
    plan.first = {{96, 2, 2}, kPlain, {20, 1, 2}, {96, 2, 2}};
    Search search(plan);
    EXPECT_EQ(search.candidate(), (TuneParams{96, 2, 2}));
    complete(search, valley);
    EXPECT_EQ(static_cast<int64_t>(search.trials().size()), search.most_trials());
    EXPECT_NE(search.trials()[1].candidate, (TuneParams{96, 2, 2}));
    EXPECT_EQ(answer_of(search).params, (TuneParams{96, 2, 2}));
  }
}

TEST(Search, TheSameSeedAndTimingsGiveTheSameTrials) {
  for (const TuneMode mode : kModes) {
    Search a(make_plan(mode, 5));
    Search b(make_plan(mode, 5));
    complete(a, valley);
    complete(b, valley);
    ASSERT_EQ(a.trials().size(), b.trials().size());
    for (size_t i = 0; i < a.trials().size(); ++i) EXPECT_EQ(a.trials()[i].candidate, b.trials()[i].candidate);
  }
  Search a(make_plan(TuneMode::kRandom, 5));
  Search c(make_plan(TuneMode::kRandom, 6));
  EXPECT_NE(a.candidate(), c.candidate());
}

}  // namespace
}  // namespace xlstm
