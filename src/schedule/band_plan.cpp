#include "xlstm/schedule/band_plan.h"

#include <algorithm>
#include <numeric>

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

bool BandPlan::fits(std::span<const Span> spans) const {
  return std::equal(spans.begin(), spans.end(), span_rows_.begin(), span_rows_.end(),
                    [](const Span& span, int64_t rows) { return span.rows == rows; });
}

std::vector<std::vector<size_t>> place_bands(const std::vector<Band>& bands, int workers) {
  XLSTM_ASSERT(workers >= 1);
  std::vector<size_t> order(bands.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto work = [&](size_t band) { return bands[band].work(bands[band].tiles); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return work(a) > work(b); });

  std::vector<std::vector<size_t>> placed(static_cast<size_t>(workers));
  std::vector<int64_t> loads(placed.size(), 0);
  for (const size_t band : order) {
    const auto least = static_cast<size_t>(std::min_element(loads.begin(), loads.end()) - loads.begin());
    placed[least].push_back(band);
    loads[least] += work(band);
  }
  return placed;
}

void run_serially(const BandPlan& plan, const TileRunner& runner) {
  for (const Band& band : plan.bands()) {
    for (int64_t index = 0; index < band.tiles; ++index) runner.run(plan.tile(band, index));
  }
}

}  // namespace xlstm
