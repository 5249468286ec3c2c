// Schedulers: they run the tiles of a chunkwise call on a team of worker threads. Which worker runs a tile never
// changes a result: the tiles of a head go through its state in token order.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "kernels/tile.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/schedule/band_plan.h"

namespace xlstm {

struct ScheduleSettings {
  BandShape shape;
  int workers = 1;  // threads, the caller's included; they are those of the pool that the scheduler is made with
};

// The plan and everything made for it is kept while the spans' row counts stay the same, as they do from block to block
// of a pass; such calls allocate nothing. One call at a time.
class Scheduler {
 public:
  Scheduler(ThreadPool& threads, const ScheduleSettings& settings);
  virtual ~Scheduler() = default;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Runs every tile once and returns when all are done. `before_tile`, if not empty, is called before each tile is
  // taken, by the thread that takes it, and may throw to end the run. The first exception, of a tile or of before_tile,
  // is rethrown here when the tiles that had begun are done; no further tile begins. Other calls may follow.
  void run(std::span<const Span> spans, const TileRunner& runner, const std::function<void()>& before_tile = {});

 protected:
  // Called before the first use of a plan, and before every run.
  virtual void prepare(const BandPlan& plan) = 0;
  virtual void reset() = 0;
  // A worker's part of a run: takes tiles with next_tile_allowed() and run_tile() until none is left.
  virtual void work(int worker, bool runs_ahead) = 0;

  // Calls before_tile; false if the run is over.
  [[nodiscard]] bool next_tile_allowed();
  // A tile that was taken must be run: later tiles of its band may be waiting for it.
  void run_tile(const Band& band, int64_t index);
  [[nodiscard]] int workers() const { return team_.size(); }

 private:
  void record(std::exception_ptr failure);

  ThreadPool team_;
  BandShape shape_;
  std::optional<BandPlan> plan_;
  bool prepared_ = false;
  const TileRunner* runner_ = nullptr;
  const std::function<void()>* before_tile_ = nullptr;
  std::atomic<bool> over_{false};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

// One shared queue of bands. A worker stays with its band, whose state is in its core's cache, until another band has
// fallen clearly behind. Workers that find no band waiting run ahead in the one with the most work left, if the tiles
// can do that.
[[nodiscard]] std::unique_ptr<Scheduler> make_queued_scheduler(ThreadPool& threads, const ScheduleSettings& settings);

// An actor with a mailbox for each band, placed on the workers once per plan. A worker empties the mailboxes of its
// actors one after the other; when it is done it takes over actors that have not begun, then runs ahead for those that
// have, if the tiles can do that.
[[nodiscard]] std::unique_ptr<Scheduler> make_actor_scheduler(ThreadPool& threads, const ScheduleSettings& settings);

}  // namespace xlstm
