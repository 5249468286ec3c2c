// Tokens per second, now and since the phase began, from counts seen now and then. Knows no clock.
#pragma once

#include <cstdint>
#include <deque>

#include "xlstm/core/run_status.h"

namespace xlstm {

class RateMeter {
 public:
  struct Rates {
    double now = 0;      // tokens per second over the last second, or longer where steps take longer
    double phase = 0;    // since the phase began
    double phase_s = 0;  // how long ago that was
  };

  // `time` in seconds from any origin, never less than before; `tokens` since the process began.
  Rates add(double time, RunPhase phase, int64_t tokens);

 private:
  struct Change {
    double time;
    int64_t tokens;
  };
  [[nodiscard]] double rate_now(double time) const;

  bool started_ = false;
  RunPhase phase_ = RunPhase::kStarting;
  std::deque<Change> changes_;  // the begin of the phase or of the window, and each time the count was another
  Change phase_begin_{};
};

}  // namespace xlstm
