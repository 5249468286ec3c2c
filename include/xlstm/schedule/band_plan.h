// How a chunkwise prefill is cut into tasks: heads into bands, tokens into tiles. Pure arithmetic.
//
// A task is a tile of a band. Tile t depends on tile t - 1 of its band, which hands the state on, and on nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/row_plan.h"
#include "kernels/tile.h"

namespace xlstm {

// Neighbouring heads of one span whose tiles run in order, each handing its state to the next. Bands are independent.
struct Band {
  int64_t span = 0;
  int64_t head_begin = 0;
  int64_t head_end = 0;
  int64_t tiles = 0;

  // Of `count` of its tiles, in tiles of one head.
  [[nodiscard]] int64_t work(int64_t count) const { return count * (head_end - head_begin); }
};

struct BandShape {
  int64_t num_heads = 1;
  int64_t heads_per_band = 1;  // cut to num_heads; the last band of a span may have fewer
  int64_t chunk_size = 1;      // tokens per tile; the last tile of a span may have fewer
};

class BandPlan {
 public:
  // Bands in order of span, then head.
  BandPlan(std::span<const Span> spans, const BandShape& shape);

  [[nodiscard]] const std::vector<Band>& bands() const { return bands_; }
  // Tile `index` (0 … band.tiles - 1) of a band of this plan.
  [[nodiscard]] Tile tile(const Band& band, int64_t index) const;
  // Whether the plan of `spans`, with the same shape, is this one. Slots and first rows don't matter.
  [[nodiscard]] bool fits(std::span<const Span> spans) const;

 private:
  std::vector<Band> bands_;
  std::vector<int64_t> span_rows_;
  int64_t chunk_size_;
};

// Spreads bands over workers, the one with the most work first, each to the worker with the least so far. Returns each
// worker's bands (indices), largest first; equals in the order of their indices.
[[nodiscard]] std::vector<std::vector<size_t>> place_bands(const std::vector<Band>& bands, int workers);

// Runs every tile of the plan on the calling thread, band after band.
void run_serially(const BandPlan& plan, const TileRunner& runner);

}  // namespace xlstm
