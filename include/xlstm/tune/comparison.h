// Two configurations compared by measurements that alternate between them.
//
// A machine's speed drifts by tens of percent over seconds (other programs, heat), so two averages taken at different
// times say little. The two measurements of a pair follow each other at once and share most of the drift; pairs take
// turns in who comes first, so that a steady drift favours neither. What counts is the ratio of each pair.
#pragma once

#include <cstdint>
#include <vector>

namespace xlstm {

enum class TuneObjective { kPrefill, kDecode, kTotal };

struct Timing {
  double prefill_s = 0;  // 0: not measured
  double decode_s = 0;   // 0: not measured
};
[[nodiscard]] double cost(const Timing& timing, TuneObjective objective);

struct TimingPair {
  Timing candidate;
  Timing incumbent;
};

// Ratios incumbent / candidate: above 1 the candidate is faster.
struct Comparison {
  int64_t pairs = 0;
  int64_t wins = 0;  // pairs in which the candidate was faster
  double median = 1;
  double lower_quartile = 1;
  double upper_quartile = 1;
};
[[nodiscard]] Comparison compare(const std::vector<TimingPair>& pairs, TuneObjective objective);

// Whether the candidate is faster by more than the noise: it won so many pairs that tossing a coin for each would give
// as many with a probability of at most 2% (a one-sided sign test, which assumes nothing about the noise but that pairs
// are independent of each other). Six pairs are the fewest that can show it.
[[nodiscard]] bool clearly_faster(const Comparison& comparison);

// Component by component; of nothing: 0.
[[nodiscard]] Timing median_timing(const std::vector<Timing>& timings);

}  // namespace xlstm
