// Invented machines for the search: how long a configuration takes, with noise and drift, without a clock.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>

#include "xlstm/tune/search.h"

namespace xlstm::test {

inline const TuneParams kPlain{64, 1, 2};

inline SearchPlan make_plan(TuneMode mode, uint64_t seed = 1) {
  const TuneLimits limits{4, 2};
  SearchPlan plan{SearchSpace({{16, 128}, TuneRange{1, 4}, std::nullopt}, limits, kPlain),
                  kPlain,
                  {},
                  mode,
                  TuneObjective::kPrefill,
                  24,
                  4,
                  8,
                  3,
                  seed};
  return plan;
}

// One valley: fastest at chunk_size 96 with two heads per band, 1.25 times plain's speed.
inline double valley(const TuneParams& params) {
  const double chunks = std::log2(static_cast<double>(params.chunk_size) / 96.0);
  const auto heads = static_cast<double>(params.heads_per_band - 2);
  return 1 + 0.3 * chunks * chunks + 0.147 * heads * heads;
}

// Seconds of the n-th measurement: true seconds, a slow drift to twice of them and back, and log-normal noise.
class NoisyMachine {
 public:
  NoisyMachine(uint64_t seed, double noise, double drift_period)
      : random_(seed), noise_(0, noise), drift_period_(drift_period) {}

  double seconds(double true_seconds) {
    const double phase = 2 * 3.14159265358979 * static_cast<double>(count_++) / drift_period_;
    return true_seconds * std::exp2(0.5 - 0.5 * std::cos(phase)) * std::exp(noise_(random_));
  }

 private:
  std::mt19937_64 random_;
  std::normal_distribution<double> noise_;
  double drift_period_;
  int64_t count_ = 0;
};

// Runs a search to its end. `seconds` of a configuration in the n-th measurement.
inline void complete(Search& search, const std::function<double(const TuneParams&)>& seconds) {
  while (const auto step = search.next()) search.record({seconds(step->params), 0});
}

}  // namespace xlstm::test
