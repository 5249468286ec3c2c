#include "xlstm/schedule/band_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

TEST(BandPlan, CutsRaggedHeadsAndTokens) {
  const std::vector<Span> spans = {{/*slot=*/3, /*first_row=*/0, /*rows=*/70}};
  const BandPlan plan(spans, {.num_heads = 5, .heads_per_band = 2, .chunk_size = 32});
  ASSERT_EQ(plan.bands().size(), 3U);
  EXPECT_EQ(plan.bands()[2].head_begin, 4);
  EXPECT_EQ(plan.bands()[2].head_end, 5);
  EXPECT_EQ(plan.bands()[2].tiles, 3);
  const Tile last = plan.tile(plan.bands()[2], 2);
  EXPECT_EQ(last.token_begin, 64);
  EXPECT_EQ(last.token_end, 70);
}

TEST(BandPlan, CutsHeadsPerBandToTheHeadCount) {
  const std::vector<Span> spans = {{0, 0, 16}};
  const BandPlan plan(spans, {.num_heads = 4, .heads_per_band = 100, .chunk_size = 16});
  ASSERT_EQ(plan.bands().size(), 1U);
  EXPECT_EQ(plan.bands()[0].head_end, 4);
}

TEST(BandPlan, RefusesATileThatABandDoesNotHave) {
  const std::vector<Span> spans = {{0, 0, 16}};
  const BandPlan plan(spans, {.num_heads = 1, .heads_per_band = 1, .chunk_size = 16});
  EXPECT_THROW((void)plan.tile(plan.bands()[0], 1), Error);
}

// Counts how often each (span, head, token) is covered and checks the order within a head.
class CoverageRunner : public TileRunner {
 public:
  CoverageRunner(const std::vector<Span>& spans, int64_t heads) {
    for (const Span& span : spans) next_.emplace_back(static_cast<size_t>(heads), 0), rows_.push_back(span.rows);
  }
  void run(const Tile& tile) const override {
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      int64_t& next = next_.at(static_cast<size_t>(tile.span)).at(static_cast<size_t>(head));
      EXPECT_EQ(next, tile.token_begin) << "tiles of a head run in token order without gaps";
      EXPECT_GT(tile.token_end, tile.token_begin);
      next = tile.token_end;
    }
  }
  void expect_complete() const {
    for (size_t span = 0; span < next_.size(); ++span) {
      for (const int64_t end : next_[span]) EXPECT_EQ(end, rows_[span]);
    }
  }

 private:
  mutable std::vector<std::vector<int64_t>> next_;
  std::vector<int64_t> rows_;
};

TEST(BandPlan, CoversEveryHeadAndTokenOnceInOrderForRandomSizes) {
  std::mt19937 random(7);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    const int64_t heads = pick(1, 9);
    std::vector<Span> spans;
    int64_t row = 0;
    for (int64_t s = pick(1, 4); s > 0; --s) {
      spans.push_back({s, row, pick(1, 200)});
      row += spans.back().rows;
    }
    const BandShape shape{.num_heads = heads, .heads_per_band = pick(1, 12), .chunk_size = pick(1, 100)};
    SCOPED_TRACE(testing::Message() << "heads " << heads << " band " << shape.heads_per_band << " chunk "
                                    << shape.chunk_size);
    const CoverageRunner runner(spans, heads);
    run_serially(BandPlan(spans, shape), runner);
    runner.expect_complete();
  }
}

TEST(BandPlan, FitsSpansOfEqualLengthsWhereverTheyLie) {
  const BandPlan plan(std::vector<Span>{{0, 0, 16}, {1, 16, 8}},
                      {.num_heads = 2, .heads_per_band = 1, .chunk_size = 8});
  EXPECT_TRUE(plan.fits(std::vector<Span>{{5, 100, 16}, {3, 0, 8}}));
  EXPECT_FALSE(plan.fits(std::vector<Span>{{0, 0, 16}, {1, 16, 9}}));
  EXPECT_FALSE(plan.fits(std::vector<Span>{{0, 0, 16}}));
  EXPECT_FALSE(plan.fits(std::vector<Span>{{0, 0, 16}, {1, 16, 8}, {2, 24, 8}}));
}

TEST(PlaceBands, PutsTheLargestOntoTheLeastLoaded) {
  // Work 8, 6, 4, 3, 1 (tiles times heads).
  const std::vector<Band> bands = {{0, 0, 1, 3}, {1, 0, 2, 4}, {2, 0, 1, 1}, {3, 0, 2, 3}, {4, 0, 4, 1}};
  EXPECT_EQ(place_bands(bands, 2), (std::vector<std::vector<size_t>>{{1, 0}, {3, 4, 2}}));
  EXPECT_EQ(place_bands(bands, 1), (std::vector<std::vector<size_t>>{{1, 3, 4, 0, 2}}));
}

TEST(PlaceBands, PlacesEachBandOnceAndEvenlyForRandomSizes) {
  std::mt19937 random(3);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<Band> bands(static_cast<size_t>(pick(0, 20)));
    int64_t largest = 0;
    for (Band& band : bands) {
      band = {0, 0, pick(1, 4), pick(0, 50)};
      largest = std::max(largest, band.work(band.tiles));
    }
    const auto workers = static_cast<size_t>(pick(1, 12));
    const auto placed = place_bands(bands, static_cast<int>(workers));
    ASSERT_EQ(placed.size(), workers);
    std::vector<int> times(bands.size(), 0);
    std::vector<int64_t> loads;
    for (const auto& own : placed) {
      int64_t load = 0;
      for (size_t i = 0; i < own.size(); ++i) {
        ++times[own[i]];
        const int64_t work = bands[own[i]].work(bands[own[i]].tiles);
        load += work;
        if (i == 0) continue;
        EXPECT_LE(work, bands[own[i - 1]].work(bands[own[i - 1]].tiles)) << "largest first";
      }
      loads.push_back(load);
    }
    EXPECT_EQ(times, std::vector<int>(bands.size(), 1));
    const auto [least, most] = std::minmax_element(loads.begin(), loads.end());
    EXPECT_LE(*most - *least, largest);
  }
}

}  // namespace
}  // namespace xlstm
