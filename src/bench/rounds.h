// Timing of several ways to do the same work.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "src/bench/samples.h"

namespace xlstm {

struct Contestant {
  int64_t tokens = 0;             // that one run() processes
  std::function<void()> prepare;  // called before run() when another contestant ran in between; not timed
  std::function<void()> run;
  double work = 0;  // bytes or FLOP of one run(), as the gauges count
};

// Measures a rate of the machine per second, in some tens of milliseconds, on as many threads as the contestants use.
using Gauge = std::function<double()>;

struct RoundSettings {
  int64_t repeats = 1;
  bool show_progress = true;  // a bar on stderr
  int threads = 1;            // of the contestants
  // With gauges, every sample is measured between two readings of each and is as many runs as kLeastSeconds take, and
  // more than `repeats` samples are measured until as many were steady: at most kAttempts times as many, and no further
  // ones once samples that were not steady took kMostRejectedSeconds.
  std::vector<Gauge> gauges = {};
};
inline constexpr double kLeastSeconds = 0.3;
inline constexpr int64_t kAttempts = 4;
inline constexpr double kMostRejectedSeconds = 60;

// Times `repeats` samples of each contestant after an untimed run. They take turns: the first sample of each, then the
// second of each, and so on. Throws Stopped between runs.
[[nodiscard]] std::vector<Rate> measure_in_turns(const std::vector<Contestant>& contestants,
                                                 const RoundSettings& settings);

}  // namespace xlstm
