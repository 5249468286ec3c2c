#include "src/monitor/rate_meter.h"

#include <algorithm>

namespace xlstm {

RateMeter::Rates RateMeter::add(double time, RunPhase phase, int64_t tokens) {
  constexpr double kWindow = 1;  // seconds
  if (!started_ || phase != phase_) {
    started_ = true;
    phase_ = phase;
    phase_begin_ = {time, tokens};
    changes_.assign(1, phase_begin_);
    return {};
  }
  if (tokens != changes_.back().tokens) changes_.push_back({time, tokens});
  // One change that is as old as the window stays: rates are measured from it.
  while (changes_.size() > 2 && changes_[1].time <= changes_.back().time - kWindow) changes_.pop_front();
  const double phase_s = time - phase_begin_.time;
  const auto gained = static_cast<double>(tokens - phase_begin_.tokens);
  return {rate_now(time), phase_s > 0 ? gained / phase_s : 0, phase_s};
}

// Counted from change to change, so that steps of several seconds (a segment of a prefill) give a steady rate. If the
// next change is overdue, the rate falls with the time waited.
double RateMeter::rate_now(double time) const {
  constexpr double kIdle = 10;  // spans without a change after which nothing is going on
  const double span = changes_.back().time - changes_.front().time;
  const double waited = time - changes_.back().time;
  if (span <= 0 || waited > kIdle * span) return 0;
  return static_cast<double>(changes_.back().tokens - changes_.front().tokens) / std::max(span, waited);
}

}  // namespace xlstm
