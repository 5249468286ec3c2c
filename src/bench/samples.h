// Samples of a speed, each judged by rates of the machine that were measured just before and just after it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace xlstm {

// A rate of the machine before and after a sample, per second.
struct GaugePair {
  double before = 0;
  double after = 0;
};

struct Sample {
  double tokens_per_s = 0;
  double work_per_s = 0;  // in the unit of the gauges: bytes or FLOP
  std::vector<GaugePair> gauges;
  double lost_share = 0;  // of the cores' time, that other processes took
};

// Two gauges of a pair that are further apart than this (of the greater one) say that the machine changed meanwhile.
inline constexpr double kMostDrift = 0.10;
inline constexpr double kMostLost = 0.05;

// Whether the machine was the same before and after and had its cores for us.
[[nodiscard]] bool is_steady(const Sample& sample);

// What the sample reached of a gauge: its work per second by the mean of before and after.
[[nodiscard]] double share_of(const Sample& sample, const GaugePair& gauge);

struct Rate {
  double median = 0;  // tokens per second
  double min = 0;
  double max = 0;
  // One for each gauge: the median of the samples' shares; absent if no sample was steady.
  std::vector<std::optional<double>> shares;
  int64_t samples = 0;   // that the numbers above come from: the steady ones, or all where none was
  int64_t rejected = 0;  // samples that were not steady
};

// Of the steady samples; if there is none, of all, without shares. At least one sample; all have the same gauges.
[[nodiscard]] Rate summarize(const std::vector<Sample>& samples);

}  // namespace xlstm
