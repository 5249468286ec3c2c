#include "xlstm/text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/text/tiny_tokenizer.h"
#include "xlstm/core/philox.h"

namespace xlstm {
namespace {

using testing_text::expect_error;
using testing_text::Ids;
using Logits = std::vector<float>;

constexpr float kInf = std::numeric_limits<float>::infinity();

// Every filter off; plain sampling from the softmax.
SamplingOptions plain() {
  SamplingOptions options;
  options.temperature = 1.0;
  options.top_k = 0;
  options.top_p = 1.0;
  options.min_p = 0.0;
  options.seed = 42;
  return options;
}

Logits from_probabilities(const std::vector<double>& probabilities) {
  Logits logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::map<int64_t, int64_t> draw_many(const SamplingOptions& options, const Logits& logits, int64_t draws,
                                     const Ids& history = {}) {
  Sampler sampler(options, static_cast<int64_t>(logits.size()));
  std::map<int64_t, int64_t> counts;
  for (int64_t i = 0; i < draws; ++i) ++counts[sampler.sample(logits, history, 0, static_cast<uint64_t>(i))];
  return counts;
}

std::set<int64_t> drawn_ids(const SamplingOptions& options, const Logits& logits, const Ids& history = {}) {
  std::set<int64_t> ids;
  for (const auto& [id, count] : draw_many(options, logits, 4000, history)) ids.insert(id);
  return ids;
}

TEST(Sampler, TemperatureZeroTakesTheGreatestAndTheLowestIdOfEqualOnes) {
  SamplingOptions options;
  options.temperature = 0;
  Sampler sampler(options, 5);
  EXPECT_EQ(sampler.sample(Logits{1, 3, 2, 3, 0}, {}, 0, 0), 1);
  EXPECT_EQ(sampler.sample(Logits{-kInf, -5, -kInf, -7, -9}, {}, 0, 0), 1);
}

TEST(Sampler, NeverChoosesPaddingRows) {
  SamplingOptions options = plain();
  Sampler sampler(options, 2);
  options.temperature = 0;
  Sampler greedy(options, 2);
  const Logits logits{0, 0, 50, std::numeric_limits<float>::quiet_NaN()};
  for (uint64_t i = 0; i < 200; ++i) EXPECT_LT(sampler.sample(logits, {}, 0, i), 2);
  EXPECT_EQ(greedy.sample(logits, {}, 0, 0), 0);
}

TEST(Sampler, NeverChoosesBannedIds) {
  SamplingOptions options = plain();
  Sampler sampler(options, 4, {1, 3});
  options.temperature = 0;
  Sampler greedy(options, 4, {1, 3});
  const Logits logits{0, 50, 1, 40};
  for (uint64_t i = 0; i < 200; ++i) EXPECT_EQ(sampler.sample(logits, {}, 0, i) % 2, 0);
  EXPECT_EQ(greedy.sample(logits, {}, 0, 0), 2);
}

struct FrequencyCase {
  std::string name;
  SamplingOptions options;
  std::vector<double> expected;
};

TEST(Sampler, DrawsWithTheRightFrequencies) {
  const std::vector<double> p = {0.4, 0.05, 0.25, 0.1, 0.2};
  std::vector<FrequencyCase> cases = {{"plain", plain(), p},
                                      {"hot", plain(), {}},
                                      {"cold", plain(), {}},
                                      {"top_k 3", plain(), {0.4 / 0.85, 0, 0.25 / 0.85, 0, 0.2 / 0.85}},
                                      {"all filters, hot", plain(), {}}};
  for (auto [index, temperature] : {std::pair<size_t, double>{1, 2.0}, {2, 0.5}}) {
    cases[index].options.temperature = temperature;
    double total = 0;
    for (const double q : p) total += std::pow(q, 1 / temperature);
    for (const double q : p) cases[index].expected.push_back(std::pow(q, 1 / temperature) / total);
  }
  cases[3].options.top_k = 3;
  // top_k keeps 0, 2, 4, 3; of these top_p 0.9 keeps all four, min_p 0.5 keeps 0, 2, 4; then the temperature.
  cases[4].options.top_k = 4;
  cases[4].options.top_p = 0.9;
  cases[4].options.min_p = 0.49;
  cases[4].options.temperature = 2.0;
  const double total = std::sqrt(0.4) + std::sqrt(0.25) + std::sqrt(0.2);
  cases[4].expected = {std::sqrt(0.4) / total, 0, std::sqrt(0.25) / total, 0, std::sqrt(0.2) / total};

  for (const FrequencyCase& c : cases) {
    SCOPED_TRACE(c.name);
    constexpr int64_t kDraws = 40'000;
    std::map<int64_t, int64_t> counts = draw_many(c.options, from_probabilities(p), kDraws);
    double chi_square = 0;
    for (size_t id = 0; id < p.size(); ++id) {
      const double expected = c.expected[id] * kDraws;
      const auto count = static_cast<double>(counts[static_cast<int64_t>(id)]);
      if (expected == 0) {
        EXPECT_EQ(count, 0) << id;
      } else {
        chi_square += (count - expected) * (count - expected) / expected;
      }
    }
    EXPECT_LT(chi_square, 18.5);  // 4 degrees of freedom, p = 0.001
  }
}

TEST(Sampler, TopKKeepsTheMostLikelyAndLowerIdsOfEqualOnes) {
  SamplingOptions options = plain();
  const Logits logits{1, 2, 1, 2, 1, 0};
  const std::vector<std::pair<int64_t, std::set<int64_t>>> cases = {{1, {1}},
                                                                    {2, {1, 3}},
                                                                    {3, {0, 1, 3}},
                                                                    {4, {0, 1, 2, 3}},
                                                                    {6, {0, 1, 2, 3, 4, 5}},
                                                                    {0, {0, 1, 2, 3, 4, 5}},
                                                                    {100, {0, 1, 2, 3, 4, 5}}};
  for (const auto& [k, expected] : cases) {
    options.top_k = k;
    EXPECT_EQ(drawn_ids(options, logits), expected) << k;
  }
}

// The k most likely ids that may be chosen by a full sort.
std::set<int64_t> sorted_top_k(const Logits& logits, size_t k, const std::vector<int64_t>& banned) {
  std::vector<int64_t> ids;
  for (int64_t id = 0; id < static_cast<int64_t>(logits.size()); ++id) {
    const bool chosen = logits[static_cast<size_t>(id)] > -kInf;
    if (chosen && std::find(banned.begin(), banned.end(), id) == banned.end()) ids.push_back(id);
  }
  std::stable_sort(ids.begin(), ids.end(), [&logits](int64_t a, int64_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  ids.resize(std::min(ids.size(), k));
  return {ids.begin(), ids.end()};
}

struct TopKCase {
  std::string name;
  Logits logits;
  std::vector<int64_t> banned;
};

// 62 blocks of 16 ids and one of 8.
std::vector<TopKCase> top_k_cases() {
  constexpr size_t kVocab = 1000;
  std::vector<TopKCase> cases;
  const auto add = [&cases](const std::string& name, const std::vector<int64_t>& banned, const auto& logit) {
    cases.push_back({name, Logits(kVocab), banned});
    for (size_t id = 0; id < kVocab; ++id) cases.back().logits[id] = logit(id);
  };
  const auto random = [](size_t id) { return static_cast<float>(philox_uniform(3, 4, id)); };
  add("random", {}, random);
  add("all equal", {}, [](size_t) { return 1.0F; });
  add("few values, ties across all blocks", {}, [&](size_t id) { return std::floor(random(id) * 8) / 8; });
  add("one great value a block, equal in every second", {}, [&](size_t id) {
    return id % 16 != 5 ? random(id) / 4 : id / 16 % 2 == 0 ? 1.0F : 0.5F + random(id) / 4;
  });
  add("the greatest side by side", {},
      [&](size_t id) { return random(id) / 4 + (id >= 400 && id < 470 ? 0.5F : 0.0F); });
  add("the greatest in the last block", {}, [&](size_t id) { return random(id) / 4 + (id >= 992 ? 0.5F : 0.0F); });
  add("the greatest banned", {0, 17, 40, 41, 500, 992, 999}, [&](size_t id) {
    return random(id) / 4 + (id == 0 || id == 17 || id == 40 || id == 41 || id == 500 || id >= 992 ? 0.5F : 0.0F);
  });
  add("14 finite", {}, [&](size_t id) { return id % 75 == 3 ? random(id) : -kInf; });
  add("one finite, banned neighbours", {1, 3}, [](size_t id) { return id < 4 && id > 0 ? 1.0F : -kInf; });
  return cases;
}

TEST(Sampler, TopKOverManyBlocksIsThatOfAFullSort) {
  for (const TopKCase& c : top_k_cases()) {
    for (const size_t k : std::vector<size_t>{1, 2, 15, 16, 40, 62, 63}) {
      SCOPED_TRACE(c.name + ", k " + std::to_string(k));
      SamplingOptions options = plain();
      options.top_k = static_cast<int64_t>(k);
      options.temperature = 1e6;  // all kept ids are equally likely
      Sampler sampler(options, static_cast<int64_t>(c.logits.size()), c.banned);
      std::set<int64_t> drawn;
      for (uint64_t i = 0; i < 1500; ++i) drawn.insert(sampler.sample(c.logits, {}, 0, i));
      EXPECT_EQ(drawn, sorted_top_k(c.logits, k, c.banned));
    }
  }
}

// What a device hands to a sampler.
std::vector<Candidate> greatest_of(const Logits& logits, int64_t usable, int64_t count) {
  std::vector<Candidate> all;
  for (int32_t id = 0; id < usable; ++id) all.push_back({id, logits[static_cast<size_t>(id)]});
  const auto rank = [](const Candidate& c) { return std::isnan(c.logit) ? kInf : c.logit; };
  std::stable_sort(all.begin(), all.end(),
                   [&rank](const Candidate& a, const Candidate& b) { return rank(a) > rank(b); });
  all.resize(static_cast<size_t>(count));
  return all;
}

std::vector<SamplingOptions> options_with_few_candidates() {
  std::vector<SamplingOptions> list;
  for (const int64_t top_k : {1, 7, 40}) {
    for (const double top_p : {0.0, 0.5, 0.95, 1.0}) {
      for (const double min_p : {0.0, 0.05, 0.9}) {
        for (const double temperature : {0.0, 0.3, 1.0, 1e6}) {
          SamplingOptions options;
          options.top_k = top_k;
          options.top_p = top_p;
          options.min_p = min_p;
          options.temperature = temperature;
          options.seed = 11;
          list.push_back(options);
        }
      }
    }
  }
  return list;
}

TEST(Sampler, ChoosesFromTheGreatestAloneWhatItChoosesFromAll) {
  for (const TopKCase& c : top_k_cases()) {
    SCOPED_TRACE(c.name);
    for (const SamplingOptions& options : options_with_few_candidates()) {
      const int64_t usable = 998;  // the last two of the 1000 are padding
      std::vector<int64_t> banned = c.banned;
      std::erase_if(banned, [](int64_t id) { return id >= usable; });
      Sampler from_all(options, usable, banned);
      Sampler from_few(options, usable, banned);
      const int64_t needed = from_few.candidates_needed();
      ASSERT_EQ(needed, (options.temperature == 0 ? 1 : options.top_k) + static_cast<int64_t>(banned.size()));
      const std::vector<Candidate> few = greatest_of(c.logits, usable, needed);
      for (uint64_t i = 0; i < 40; ++i) {
        ASSERT_EQ(from_few.sample(few, 2, i), from_all.sample(c.logits, {}, 2, i))
            << "top_k " << options.top_k << " top_p " << options.top_p << " min_p " << options.min_p << " temperature "
            << options.temperature;
      }
    }
  }
}

TEST(Sampler, ManyRandomRowsGiveTheSameIdsFromTheGreatestAsFromAll) {
  SamplingOptions options;  // the defaults
  Sampler from_all(options, 3000, {5, 70});
  Sampler from_few(options, 3000, {5, 70});
  Logits logits(3000);
  for (uint64_t row = 0; row < 300; ++row) {
    for (size_t id = 0; id < logits.size(); ++id) {
      // Some rows are coarse, so that logits are equal within and across the greatest.
      const double value = 12 * philox_uniform(row, 1, id);
      logits[id] = static_cast<float>(row % 3 == 0 ? std::floor(value) : value);
    }
    const std::vector<Candidate> few = greatest_of(logits, 3000, from_few.candidates_needed());
    ASSERT_EQ(from_few.sample(few, 0, row), from_all.sample(logits, {}, 0, row)) << row;
  }
}

TEST(Sampler, NeedsAllLogitsWhereTheGreatestDoNotDecide) {
  const auto needed = [](const SamplingOptions& options, int64_t usable_vocab) {
    return Sampler(options, usable_vocab, {0, 1}).candidates_needed();
  };
  SamplingOptions options;
  EXPECT_EQ(needed(options, 1000), 42);
  EXPECT_EQ(needed(options, 41), 41);
  EXPECT_EQ(needed(options, 40), 0) << "top_k keeps all";
  options.top_k = 0;
  EXPECT_EQ(needed(options, 1000), 0);
  options.temperature = 0;
  EXPECT_EQ(needed(options, 1000), 3);
  options.repeat_penalty = 1.1;
  EXPECT_EQ(needed(options, 1000), 0);
  options.repeat_last_n = 0;
  EXPECT_EQ(needed(options, 1000), 3) << "no id is penalized";
}

TEST(Sampler, RefusesGreatestLogitsThatAreNoNumbersAsItDoesAmongAll) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto error_of = [](const auto& sample) -> std::string {
    try {
      (void)sample();
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  const std::vector<Logits> rows = {{0, 1, nan, 2, kInf},
                                    {0, kInf, 1, nan, 2},
                                    {nan, kInf, nan, nan, 0},
                                    Logits(5, -kInf),
                                    {-kInf, -kInf, 1, -kInf, 2}};
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    options.top_k = 2;
    Sampler sampler(options, 5, {2, 4});
    for (const Logits& logits : rows) {
      const std::vector<Candidate> few = greatest_of(logits, 5, sampler.candidates_needed());
      const std::string expected = error_of([&] { return sampler.sample(logits, {}, 0, 0); });
      EXPECT_NE(expected, "none");
      EXPECT_EQ(error_of([&] { return sampler.sample(few, 0, 0); }), expected);
    }
  }
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  SamplingOptions options = plain();
  const Logits logits = from_probabilities({0.1, 0.5, 0.15, 0.25});
  const std::vector<std::pair<double, std::set<int64_t>>> cases = {
      {0.0, {1}},        {0.49, {1}},          {0.51, {1, 3}},     {0.74, {1, 3}},
      {0.76, {1, 2, 3}}, {0.91, {0, 1, 2, 3}}, {1.0, {0, 1, 2, 3}}};
  for (const auto& [p, expected] : cases) {
    options.top_p = p;
    EXPECT_EQ(drawn_ids(options, logits), expected) << p;
  }
}

TEST(Sampler, TopPSeesTheProbabilitiesOfWhatTopKLeft) {
  SamplingOptions options = plain();
  options.top_k = 2;
  options.top_p = 0.6;  // 0.5 of all, but two thirds of the two that are left
  EXPECT_EQ(drawn_ids(options, from_probabilities({0.1, 0.5, 0.15, 0.25})), (std::set<int64_t>{1}));
}

TEST(Sampler, TopPOverALargeVocabularyKeepsExactlyTheNucleus) {
  SamplingOptions options = plain();
  options.top_p = 0.5;
  constexpr size_t kVocab = 5000;
  Logits logits(kVocab, -kInf);
  for (size_t i = 0; i < 1000; ++i) logits[i * 5 + 2] = i % 2 == 0 ? 1.0F : 1.0F + 1e-3F;
  const std::set<int64_t> ids = drawn_ids(options, logits);
  EXPECT_GT(ids.size(), 450U);
  for (const int64_t id : ids) EXPECT_TRUE(id % 5 == 2 && (id / 5) % 2 == 1) << id;
}

TEST(Sampler, MinPKeepsThoseNearTheMostLikely) {
  SamplingOptions options = plain();
  const Logits logits = from_probabilities({0.1, 0.5, 0.15, 0.25});
  const std::vector<std::pair<double, std::set<int64_t>>> cases = {
      {0.0, {0, 1, 2, 3}}, {0.19, {0, 1, 2, 3}}, {0.21, {1, 2, 3}}, {0.31, {1, 3}}, {0.51, {1}}, {1.0, {1}}};
  for (const auto& [p, expected] : cases) {
    options.min_p = p;
    EXPECT_EQ(drawn_ids(options, logits), expected) << p;
  }
}

TEST(Sampler, FiltersSeeProbabilitiesAtTemperatureOne) {
  SamplingOptions options = plain();
  options.min_p = 0.31;
  options.temperature = 50;
  EXPECT_EQ(drawn_ids(options, from_probabilities({0.1, 0.5, 0.15, 0.25})), (std::set<int64_t>{1, 3}));
}

TEST(Sampler, RepeatPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplingOptions options = plain();
  options.temperature = 0;
  options.repeat_penalty = 2.0;
  Sampler sampler(options, 3);
  EXPECT_EQ(sampler.sample(Logits{3.0F, 1.6F, 0}, Ids{0}, 0, 0), 1);        // 3 → 1.5
  EXPECT_EQ(sampler.sample(Logits{3.0F, 1.4F, 0}, Ids{0, 0, 0}, 0, 0), 0);  // once, not three times
  EXPECT_EQ(sampler.sample(Logits{-1.0F, -1.9F, -9}, Ids{0}, 0, 0), 1);     // -1 → -2
  EXPECT_EQ(sampler.sample(Logits{-1.0F, -2.1F, -9}, Ids{0}, 0, 0), 0);
  EXPECT_EQ(sampler.sample(Logits{-kInf, -2.1F, -9}, Ids{0, 1, 2, 7, -3}, 0, 0),
            1);  // ids from elsewhere are no matter
}

TEST(Sampler, RepeatLastNLimitsWhatIsPenalized) {
  SamplingOptions options = plain();
  options.temperature = 0;
  options.repeat_penalty = 4.0;
  const Logits logits{4, 3, 2};
  const Ids history{0, 1};
  const std::vector<std::pair<int64_t, int64_t>> cases = {{0, 0}, {1, 0}, {2, 2}, {64, 2}, {-1, 2}};
  for (const auto& [last_n, expected] : cases) {
    options.repeat_last_n = last_n;
    Sampler sampler(options, 3);
    EXPECT_EQ(sampler.sample(logits, history, 0, 0), expected) << last_n;
  }
}

TEST(Sampler, EqualCountersGiveEqualIdsInAnyOrderOfCalls) {
  SamplingOptions options = plain();
  Logits logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(philox_uniform(9, 9, i));
  Sampler one(options, 1000);
  Sampler other(options, 1000);
  Ids forward;
  for (uint64_t i = 0; i < 50; ++i) forward.push_back(one.sample(logits, {}, i % 3, i));
  for (uint64_t i = 50; i-- > 0;) EXPECT_EQ(other.sample(logits, {}, i % 3, i), forward[i]);
  options.seed = 43;
  Sampler reseeded(options, 1000);
  Ids changed;
  for (uint64_t i = 0; i < 50; ++i) changed.push_back(reseeded.sample(logits, {}, i % 3, i));
  EXPECT_NE(changed, forward);
}

TEST(Sampler, TheSameDrawComesOutWhicheverFiltersKeepTheSameIds) {
  const Logits logits{0.5F, -kInf, 2, 1, -kInf, 1.5F};
  SamplingOptions off = plain();
  SamplingOptions on = plain();
  on.top_k = 4;
  on.top_p = 0.99999;
  on.min_p = 0.01;
  Sampler a(off, 6);
  Sampler b(on, 6);
  for (uint64_t i = 0; i < 500; ++i) EXPECT_EQ(a.sample(logits, {}, 1, i), b.sample(logits, {}, 1, i));
}

TEST(Sampler, SurvivesExtremeLogitsAndTemperatures) {
  SamplingOptions options = plain();
  for (const double temperature : {1e-300, 1e-10, 1.0, 1e10, 1e300}) {
    options.temperature = temperature;
    Sampler sampler(options, 4);
    const int64_t id = sampler.sample(Logits{-3e38F, 3e38F, -kInf, 1e-40F}, {}, 0, 0);
    EXPECT_NE(id, 2) << temperature;
    const bool certain = temperature <= 1.0;
    EXPECT_TRUE(id == 1 || !certain) << temperature;
  }
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options = plain();
    options.temperature = temperature;
    Sampler sampler(options, 3);
    expect_error(
        [&] {
          (void)sampler.sample(Logits{0, nan, 0}, {}, 0, 0);
        },
        ExitCode::kCheckpoint, {"logits", "NaN for id 1"});
    expect_error(
        [&] {
          (void)sampler.sample(Logits{0, 0, kInf}, {}, 0, 0);
        },
        ExitCode::kCheckpoint, {"logits", "+inf for id 2"});
    expect_error(
        [&] {
          (void)sampler.sample(Logits{-kInf, -kInf, -kInf}, {}, 0, 0);
        },
        ExitCode::kCheckpoint, {"logits", "-inf"});
  }
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  struct BadOption {
    std::string name;
    SamplingOptions options;
  };
  std::vector<BadOption> cases;
  const auto add = [&cases](const std::string& name, auto member, auto value) {
    SamplingOptions options;
    options.*member = value;
    cases.push_back({name, options});
  };
  for (const double value : {-0.1, nan, static_cast<double>(kInf)}) {
    add("temperature", &SamplingOptions::temperature, value);
    add("top_p", &SamplingOptions::top_p, value);
    add("min_p", &SamplingOptions::min_p, value);
    add("repeat_penalty", &SamplingOptions::repeat_penalty, value);
  }
  add("top_p", &SamplingOptions::top_p, 1.1);
  add("min_p", &SamplingOptions::min_p, 1.1);
  add("repeat_penalty", &SamplingOptions::repeat_penalty, 0.0);
  add("top_k", &SamplingOptions::top_k, int64_t{-1});
  add("repeat_last_n", &SamplingOptions::repeat_last_n, int64_t{-2});
  for (const BadOption& bad : cases) {
    SCOPED_TRACE(bad.name);
    expect_error([&] { Sampler(bad.options, 3); }, ExitCode::kUsage, {bad.name + " (sampling)"});
  }
}

}  // namespace
}  // namespace xlstm
