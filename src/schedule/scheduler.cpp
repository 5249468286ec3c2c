#include "xlstm/schedule/scheduler.h"

#include <algorithm>
#include <utility>

namespace xlstm {

Scheduler::Scheduler(ThreadPool& threads, const ScheduleSettings& settings)
    : team_(threads, settings.workers), shape_(settings.shape) {}

void Scheduler::run(std::span<const Span> spans, const TileRunner& runner, const std::function<void()>& before_tile) {
  if (!prepared_ || !plan_->fits(spans)) {
    prepared_ = false;
    plan_.emplace(spans, shape_);
    prepare(*plan_);
    prepared_ = true;
  }
  runner_ = &runner;
  before_tile_ = &before_tile;
  over_.store(false);
  reset();
  const auto job = [this](int worker) { work(worker, runner_->runs_ahead()); };
  team_.run(std::cref(job));
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

bool Scheduler::next_tile_allowed() {
  if (over_.load(std::memory_order_relaxed)) return false;
  if (!*before_tile_) return true;
  try {
    (*before_tile_)();
    return true;
  } catch (...) {
    record(std::current_exception());
    return false;
  }
}

void Scheduler::run_tile(const Band& band, int64_t index) {
  try {
    runner_->run(plan_->tile(band, index));
  } catch (const EarlierTileFailed&) {
    over_.store(true);  // the tile that failed is about to report why
  } catch (...) {
    record(std::current_exception());
  }
}

void Scheduler::record(std::exception_ptr failure) {
  const std::lock_guard lock(failure_mutex_);
  if (!failure_) failure_ = std::move(failure);
  over_.store(true);
}

}  // namespace xlstm
