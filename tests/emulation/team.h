#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace xlstm::emulation {

// The OS threads of an emulator: the caller of a launch and one that waits for work. A Worker runs the blocks of a
// Launch, `order`, until none is left or one failed.
template <class Worker, class Launch>
class Team {
 public:
  static Team& get() {
    static Team team;
    return team;
  }

  void run(Launch& launch) {
    const std::lock_guard only_one(launches_);
    const bool both = launch.order.size() > 1 && launch.settings.os_threads > 1;
    if (both) {
      const std::lock_guard lock(mutex_);
      work_ = &launch;
      changed_.notify_all();
    }
    own_.run(launch);
    if (both) {
      std::unique_lock lock(mutex_);
      if (work_ == &launch) work_ = nullptr;  // not begun: nothing was left
      changed_.wait(lock, [this] { return !busy_; });
    }
  }

 private:
  Team() : helper_([this] { help(); }) {}
  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      changed_.notify_all();
    }
    helper_.join();
  }

  void help() {
    Worker worker;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || work_ != nullptr; });
      if (stop_) return;
      Launch& launch = *std::exchange(work_, nullptr);
      busy_ = true;
      lock.unlock();
      worker.run(launch);
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex launches_;
  Worker own_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Launch* work_ = nullptr;
  bool busy_ = false;
  bool stop_ = false;
  std::thread helper_;
};

}  // namespace xlstm::emulation
