#include <algorithm>
#include <mutex>
#include <vector>

#include "xlstm/schedule/scheduler.h"

namespace xlstm {
namespace {

class QueuedScheduler : public Scheduler {
 public:
  using Scheduler::Scheduler;

 private:
  struct Progress {
    const Band* band = nullptr;
    int64_t next = 0;  // tile
    int workers = 0;   // that are at this band

    [[nodiscard]] int64_t work_left() const { return band->work(band->tiles - next); }
  };
  struct Task {
    Progress* band = nullptr;
    int64_t tile = 0;
  };

  void prepare(const BandPlan& plan) override {
    bands_.clear();
    for (const Band& band : plan.bands()) bands_.push_back({&band});
    waiting_.reserve(bands_.size());
    at_.resize(static_cast<size_t>(workers()));
  }

  void reset() override {
    std::fill(at_.begin(), at_.end(), nullptr);
    waiting_.clear();
    for (Progress& band : bands_) {
      band.next = 0;
      band.workers = 0;
      if (band.work_left() > 0) waiting_.push_back(&band);
    }
    std::make_heap(waiting_.begin(), waiting_.end(), less_work);
  }

  void work(int worker, bool runs_ahead) override {
    while (next_tile_allowed()) {
      const Task task = take(at_[static_cast<size_t>(worker)], runs_ahead);
      if (task.band == nullptr) return;
      run_tile(*task.band->band, task.tile);
    }
  }

  // The next task of a worker that is at band `at` (or none); that becomes the task's band. No task: the worker's part
  // is done, as bands with work left go back to the queue only when their worker takes another from it.
  Task take(Progress*& at, bool runs_ahead) {
    const std::lock_guard lock(mutex_);
    if (at == nullptr || at->next == at->band->tiles || should_change(*at)) {
      Progress* const next = !waiting_.empty() ? pop() : runs_ahead ? most_work_left() : nullptr;
      if (at != nullptr && --at->workers == 0 && at->work_left() > 0) push(at);
      at = next;
      if (at == nullptr) return {};
      ++at->workers;
    }
    return {at, at->next++};
  }

  // Changing bands costs the transfer of a state to another core. A quarter of the work left is worth it; towards the
  // end that is one tile, so no band outlasts the others.
  [[nodiscard]] bool should_change(const Progress& at) const {
    return !waiting_.empty() && 4 * at.work_left() < 3 * waiting_.front()->work_left();
  }

  [[nodiscard]] Progress* most_work_left() const {
    Progress* most = nullptr;
    for (Progress* band : at_) {
      if (band != nullptr && band->work_left() > (most == nullptr ? 0 : most->work_left())) most = band;
    }
    return most;
  }

  // A heap with the most work on top, of equals the first band.
  static bool less_work(const Progress* a, const Progress* b) {
    const int64_t left_a = a->work_left();
    const int64_t left_b = b->work_left();
    return left_a < left_b || (left_a == left_b && a > b);
  }
  Progress* pop() {
    std::pop_heap(waiting_.begin(), waiting_.end(), less_work);
    Progress* const band = waiting_.back();
    waiting_.pop_back();
    return band;
  }
  void push(Progress* band) {
    waiting_.push_back(band);
    std::push_heap(waiting_.begin(), waiting_.end(), less_work);
  }

  std::mutex mutex_;  // guards what follows, during a run
  std::vector<Progress> bands_;
  std::vector<Progress*> waiting_;  // the queue: bands with work left and no worker
  std::vector<Progress*> at_;       // each worker's band
};

}  // namespace

std::unique_ptr<Scheduler> make_queued_scheduler(ThreadPool& threads, const ScheduleSettings& settings) {
  return std::make_unique<QueuedScheduler>(threads, settings);
}

}  // namespace xlstm
