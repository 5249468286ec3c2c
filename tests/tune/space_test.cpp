// Which candidates a search has.
#include "xlstm/tune/space.h"

#include <gtest/gtest.h>

#include <set>

namespace xlstm {
namespace {

using Values = std::vector<int64_t>;

const TuneParams kPlain{64, 1, 0};

SearchSpace chunks(int64_t min, int64_t max) {
  return SearchSpace({{min, max}, std::nullopt, std::nullopt}, {4, 2}, kPlain);
}

TEST(Space, HasBothBoundsAndTheMultiplesOfEightBetween) {
  EXPECT_EQ(chunks(16, 40).values(0), (Values{16, 24, 32, 40}));
  EXPECT_EQ(chunks(10, 30).values(0), (Values{10, 16, 24, 30}));
  EXPECT_EQ(chunks(1, 9).values(0), (Values{1, 8, 9}));
  EXPECT_EQ(chunks(8, 8).values(0), (Values{8}));
  EXPECT_EQ(chunks(7, 8).values(0), (Values{7, 8}));
  EXPECT_EQ(chunks(33, 34).values(0), (Values{33, 34}));
  EXPECT_EQ(chunks(1, 1024).values(0).size(), 129U);
}

TEST(Space, CutsBandsToTheHeadsAndKeepsDistinctOnes) {
  const auto heads = [](int64_t min, int64_t max) {
    return SearchSpace({{16, 16}, TuneRange{min, max}, std::nullopt}, {4, 2}, kPlain).values(1);
  };
  EXPECT_EQ(heads(1, 4), (Values{1, 2, 3, 4}));
  EXPECT_EQ(heads(2, 8), (Values{2, 3, 4}));
  EXPECT_EQ(heads(6, 8), (Values{4}));
}

TEST(Space, CountsNoWorkersAsOnePerCore) {
  const SearchSpace space({{16, 16}, std::nullopt, TuneRange{0, 3}}, {4, 2}, kPlain);
  EXPECT_EQ(space.values(2), (Values{1, 2, 3}));
  EXPECT_EQ(SearchSpace::as_run({64, 9, 0}, {4, 2}), (TuneParams{64, 4, 2}));
}

TEST(Space, KeepsWhatIsNotSearchedAtThePlainValue) {
  const SearchSpace space({{16, 32}, std::nullopt, std::nullopt}, {4, 2}, {64, 8, 0});
  EXPECT_EQ(space.values(1), (Values{4}));
  EXPECT_EQ(space.values(2), (Values{2}));
}

TEST(Space, IsEveryCombinationOnce) {
  const SearchSpace space({{16, 40}, TuneRange{1, 3}, TuneRange{1, 2}}, {4, 2}, kPlain);
  ASSERT_EQ(space.size(), 4 * 3 * 2);
  std::set<TuneParams> seen;
  for (int64_t i = 0; i < space.size(); ++i) {
    EXPECT_TRUE(space.contains(space.at(i)));
    seen.insert(space.at(i));
  }
  EXPECT_EQ(static_cast<int64_t>(seen.size()), space.size());
  EXPECT_FALSE(space.contains({20, 1, 1}));
  EXPECT_FALSE(space.contains({16, 4, 1}));
  EXPECT_FALSE(space.contains({16, 1, 3}));
}

}  // namespace
}  // namespace xlstm
