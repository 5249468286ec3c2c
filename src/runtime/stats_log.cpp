#include "xlstm/runtime/stats_log.h"

#include <algorithm>

#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

namespace xlstm {

StatsLog::StatsLog(const std::string& path, int64_t every) : every_(every) {
  if (path.empty()) return;
  file_.emplace(path);
  file_->write("step,dt_ms,cum_ms,inst_tok_s,avg_tok_s\n");
}

StatsLog::~StatsLog() {
  try {
    finish();
  } catch (const Error& error) {
    log::error(error.what());
  }
}

void StatsLog::add(const StepTiming& timing) {
  if (!file_) return;
  ++pending_steps_;
  pending_seconds_ += timing.seconds;
  total_seconds_ += timing.seconds;
  if (pending_steps_ < every_) return;
  try {
    write_row(timing);
  } catch (const Error&) {
    file_.reset();  // a file that lacks a row must not appear
    throw;
  }
  pending_steps_ = 0;
  pending_seconds_ = 0;
}

void StatsLog::write_row(const StepTiming& timing) {
  // A clock too coarse to see a step must not divide by zero.
  constexpr double kTick = 1e-9;
  const double step_seconds = std::max(pending_seconds_ / static_cast<double>(pending_steps_), kTick);
  const double average = static_cast<double>(timing.step) / std::max(total_seconds_, kTick);
  file_->write(cat(timing.step, ",", fixed(step_seconds * 1e3, 4), ",", fixed(total_seconds_ * 1e3, 3), ",",
                   fixed(1.0 / step_seconds, 2), ",", fixed(average, 2), "\n"));
}

void StatsLog::finish() {
  if (!file_) return;
  try {
    file_->commit();
  } catch (const Error&) {
    file_.reset();
    throw;
  }
  file_.reset();
}

}  // namespace xlstm
