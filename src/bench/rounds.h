// Timing of several ways to do the same work.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace xlstm {

struct Contestant {
  int64_t tokens = 0;             // that one run() processes
  std::function<void()> prepare;  // called before run() when another contestant ran in between; not timed
  std::function<void()> run;
};

struct Rate {
  double median = 0;  // tokens per second
  double min = 0;
  double max = 0;
};

// Times `repeats` runs of each contestant after an untimed one. They take turns: the first run of each, then the second
// of each, and so on. Throws Stopped between runs. `show_progress`: a bar on stderr.
[[nodiscard]] std::vector<Rate> measure_in_turns(const std::vector<Contestant>& contestants, int64_t repeats,
                                                 bool show_progress);

// Rate of one or more measurements.
[[nodiscard]] Rate summarize(std::vector<double> tokens_per_second);

}  // namespace xlstm
