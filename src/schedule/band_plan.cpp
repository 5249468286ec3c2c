#include "xlstm/schedule/band_plan.h"

#include <algorithm>

#include "xlstm/core/errors.h"

namespace xlstm {

BandPlan::BandPlan(std::span<const Span> spans, const BandShape& shape) : chunk_size_(shape.chunk_size) {
  XLSTM_ASSERT(shape.num_heads > 0 && shape.heads_per_band > 0 && shape.chunk_size > 0);
  const int64_t width = std::min(shape.heads_per_band, shape.num_heads);
  for (const Span& span : spans) {
    const auto index = static_cast<int64_t>(span_rows_.size());
    span_rows_.push_back(span.rows);
    const int64_t tiles = (span.rows + chunk_size_ - 1) / chunk_size_;
    for (int64_t head = 0; head < shape.num_heads; head += width) {
      bands_.push_back({index, head, std::min(head + width, shape.num_heads), tiles});
    }
  }
}

Tile BandPlan::tile(const Band& band, int64_t index) const {
  XLSTM_ASSERT(index >= 0 && index < band.tiles);
  const int64_t begin = index * chunk_size_;
  const int64_t end = std::min(begin + chunk_size_, span_rows_[static_cast<size_t>(band.span)]);
  return {band.span, band.head_begin, band.head_end, begin, end};
}

void run_serially(const BandPlan& plan, const TileRunner& runner) {
  for (const Band& band : plan.bands()) {
    for (int64_t index = 0; index < band.tiles; ++index) runner.run(plan.tile(band, index));
  }
}

}  // namespace xlstm
