#include "xlstm/tune/space.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

std::vector<int64_t> chunk_sizes(const TuneRange& range) {
  constexpr int64_t kStep = 8;
  std::vector<int64_t> sizes = {range.min};
  for (int64_t size = range.min / kStep * kStep + kStep; size < range.max; size += kStep) sizes.push_back(size);
  if (range.max > range.min) sizes.push_back(range.max);
  return sizes;
}

// Every value of a range as a run sees it, ascending, each once.
std::vector<int64_t> distinct(const TuneRange& range, const std::function<int64_t(int64_t)>& as_run) {
  std::vector<int64_t> values;
  for (int64_t value = range.min; value <= range.max; ++value) values.push_back(as_run(value));
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

}  // namespace

TuneParams SearchSpace::as_run(TuneParams params, const TuneLimits& limits) {
  params.heads_per_band = std::min(params.heads_per_band, limits.num_heads);
  if (params.workers == 0) params.workers = limits.cores;
  return params;
}

SearchSpace::SearchSpace(const TuneBounds& bounds, const TuneLimits& limits, const TuneParams& plain) {
  const TuneParams fixed = as_run(plain, limits);
  values_ = {chunk_sizes(bounds.chunks), {fixed.heads_per_band}, {fixed.workers}};
  if (bounds.heads) {
    values_[1] = distinct(*bounds.heads, [&](int64_t heads) { return as_run({0, heads, 0}, limits).heads_per_band; });
  }
  if (bounds.workers) {
    values_[2] = distinct(*bounds.workers, [&](int64_t workers) { return as_run({0, 0, workers}, limits).workers; });
  }
}

int64_t SearchSpace::size() const {
  int64_t size = 1;
  for (const std::vector<int64_t>& values : values_) size *= static_cast<int64_t>(values.size());
  return size;
}

TuneParams SearchSpace::at(int64_t index) const {
  XLSTM_ASSERT(index >= 0 && index < size());
  TuneParams params;
  for (size_t knob = kKnobs; knob-- > 0;) {
    const auto count = static_cast<int64_t>(values_[knob].size());
    knob_of(params, knob) = values_[knob][static_cast<size_t>(index % count)];
    index /= count;
  }
  return params;
}

bool SearchSpace::contains(const TuneParams& params) const {
  TuneParams copy = params;
  for (size_t knob = 0; knob < kKnobs; ++knob) {
    if (!std::binary_search(values_[knob].begin(), values_[knob].end(), knob_of(copy, knob))) return false;
  }
  return true;
}

int64_t& knob_of(TuneParams& params, size_t knob) {
  switch (knob) {
    case 0: return params.chunk_size;
    case 1: return params.heads_per_band;
    default: return params.workers;
  }
}

}  // namespace xlstm
