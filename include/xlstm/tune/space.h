// What the tuner may change, and the values that it tries.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

namespace xlstm {

// One candidate: the scheduling options of that name.
struct TuneParams {
  int64_t chunk_size = 0;
  int64_t heads_per_band = 0;
  int64_t workers = 0;

  auto operator<=>(const TuneParams&) const = default;
};

struct TuneRange {
  int64_t min = 0;
  int64_t max = 0;  // min or more
};

struct TuneBounds {
  TuneRange chunks;
  std::optional<TuneRange> heads;    // absent: not searched, all candidates have the plain value
  std::optional<TuneRange> workers;  // the same
};

// The machine and model that a search is for.
struct TuneLimits {
  int64_t num_heads = 1;
  int64_t cores = 1;
};

// A grid: an ascending list of distinct values for each knob, and every combination of them.
class SearchSpace {
 public:
  // chunk_size: both bounds and the multiples of 8 between them. Kernels work in vectors and blocks of 8 or more rows,
  // so sizes between two multiples cost what the next multiple costs.
  // heads_per_band: cut to the number of heads, as a run does. workers: 0 counts as `cores`, as in a run.
  SearchSpace(const TuneBounds& bounds, const TuneLimits& limits, const TuneParams& plain);

  static constexpr size_t kKnobs = 3;  // chunk_size, heads_per_band, workers

  [[nodiscard]] const std::vector<int64_t>& values(size_t knob) const { return values_.at(knob); }
  [[nodiscard]] int64_t size() const;
  [[nodiscard]] TuneParams at(int64_t index) const;  // 0 to size() - 1; chunk_size changes slowest
  [[nodiscard]] bool contains(const TuneParams& params) const;

  // The configuration that a run with these options has: bands cut to the heads, 0 workers counted.
  [[nodiscard]] static TuneParams as_run(TuneParams params, const TuneLimits& limits);

 private:
  std::vector<std::vector<int64_t>> values_;
};

// The knobs by number, in the order of SearchSpace::values().
[[nodiscard]] int64_t& knob_of(TuneParams& params, size_t knob);

}  // namespace xlstm
