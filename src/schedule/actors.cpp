#include <atomic>
#include <deque>
#include <vector>

#include "xlstm/schedule/scheduler.h"

namespace xlstm {
namespace {

// The messages to one actor: "run tile t", in order of t, all posted when the run begins. Any thread may take one.
class Mailbox {
 public:
  void post(int64_t messages) {
    messages_ = messages;
    next_.store(0, std::memory_order_relaxed);
  }
  // False if there is none left; else `tile` is the next message.
  [[nodiscard]] bool take(int64_t& tile) {
    tile = next_.load(std::memory_order_relaxed);
    while (tile < messages_) {
      if (next_.compare_exchange_weak(tile, tile + 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }
  [[nodiscard]] int64_t left() const { return messages_ - next_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> next_{0};
  int64_t messages_ = 0;
};

// Handles the tiles of one band. `band` is its view: the span and heads whose state, which belongs to the caller, the
// tiles go through.
struct alignas(64) Actor {
  explicit Actor(const Band& view) : band(view) {}

  const Band& band;
  Mailbox mailbox;
  std::atomic<bool> begun{false};  // a worker has taken it

  [[nodiscard]] bool begin() { return !begun.exchange(true); }
};

class ActorScheduler : public Scheduler {
 public:
  using Scheduler::Scheduler;

 private:
  void prepare(const BandPlan& plan) override {
    actors_.clear();
    for (const Band& band : plan.bands()) actors_.emplace_back(band);
    placed_ = place_bands(plan.bands(), workers());
  }

  void reset() override {
    for (Actor& actor : actors_) {
      actor.mailbox.post(actor.band.tiles);
      actor.begun.store(false, std::memory_order_relaxed);
    }
  }

  void work(int worker, bool runs_ahead) override {
    const auto team = placed_.size();
    // First the worker's own actors, then those that others have not begun.
    for (size_t i = 0; i < team; ++i) {
      for (const size_t index : placed_[(static_cast<size_t>(worker) + i) % team]) {
        if (actors_[index].begin()) handle_all(actors_[index]);
      }
    }
    if (!runs_ahead) return;
    while (Actor* actor = most_work_left()) {
      if (!handle_one(*actor)) return;
    }
  }

  // Empties an actor's mailbox.
  void handle_all(Actor& actor) {
    while (handle_one(actor) && actor.mailbox.left() > 0) {
    }
  }

  // False if the run is over.
  bool handle_one(Actor& actor) {
    if (!next_tile_allowed()) return false;
    int64_t tile = 0;
    if (actor.mailbox.take(tile)) run_tile(actor.band, tile);
    return true;
  }

  Actor* most_work_left() {
    Actor* most = nullptr;
    int64_t work = 0;
    for (Actor& actor : actors_) {
      const int64_t left = actor.band.work(actor.mailbox.left());
      if (left > work) {
        most = &actor;
        work = left;
      }
    }
    return most;
  }

  std::deque<Actor> actors_;                 // one for each band of the plan
  std::vector<std::vector<size_t>> placed_;  // each worker's actors
};

}  // namespace

std::unique_ptr<Scheduler> make_actor_scheduler(ThreadPool& threads, const ScheduleSettings& settings) {
  return std::make_unique<ActorScheduler>(threads, settings);
}

}  // namespace xlstm
