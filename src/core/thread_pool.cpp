#include "xlstm/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// Spins of a worker that waits for its next job, and of the caller that waits for the team: some tens of
// microseconds, longer than the gaps between two jobs of one pass, shorter than a scheduler's time slice.
constexpr int kSpins = 4000;

}  // namespace

int available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// A job has a number and a team: the members 0 … team-1 take part. Each member's part is claimed once, by the member's
// own thread or, if that thread has not begun when the caller is done with its part, by the caller: on a machine whose
// cores are busy elsewhere the caller then does the work instead of waiting for a thread that does not run.
//
// A ticket holds both, the number in the upper bits, so that later tickets are greater. A job ends only when all its
// parts are claimed; who claims with a ticket greater than the member's last one therefore holds the running job's.
//
// Sleeping: who goes to sleep announces it and looks once more; who brings news looks for announcements afterwards.
// Both sides use sequentially consistent operations, so one of them sees the other.
struct ThreadPool::Shared {
  using Ticket = uint64_t;
  static constexpr int kTeamBits = 16;
  static int team_of(Ticket ticket) { return static_cast<int>(ticket & ((Ticket{1} << kTeamBits) - 1)); }

  struct alignas(64) Worker {  // a cache line of its own
    std::atomic<Ticket> claimed{0};
    std::atomic<bool> sleeping{false};
    std::condition_variable wake;
    std::thread thread;
  };

  explicit Shared(const std::function<void()>& start) : on_start(start) {}
  ~Shared() {
    stopping.store(true);
    post(static_cast<int>(workers.size()) + 1);
    for (const auto& worker : workers) worker->thread.join();
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  const std::function<void()> on_start;
  std::mutex mutex;
  std::condition_variable finished;  // caller: pending fell to 0
  std::atomic<Ticket> current{0};    // of the last job posted
  std::atomic<int> pending{0};       // members' parts of the job that are not done
  std::atomic<bool> sleeping_caller{false};
  std::atomic<bool> stopping{false};
  std::atomic<bool> busy{false};  // a job is running
  const std::function<void(int)>* job = nullptr;
  std::exception_ptr failure;                    // guarded by mutex
  std::vector<std::unique_ptr<Worker>> workers;  // member i is workers[i - 1]; only the caller uses the list
  const int cores = available_cores();

  // A team larger than the machine must not spin: the members that have work need the cores.
  [[nodiscard]] int spins(Ticket ticket) const { return team_of(ticket) <= cores ? kSpins : 0; }

  void grow(int size) {
    XLSTM_ASSERT(size < 1 << kTeamBits);
    workers.reserve(static_cast<size_t>(size));
    while (static_cast<int>(workers.size()) + 1 < size) {
      auto worker = std::make_unique<Worker>();
      const int member = static_cast<int>(workers.size()) + 1;
      try {
        worker->thread = std::thread([this, member, self = worker.get(), now = current.load()] {
          if (on_start) on_start();
          work(member, *self, now);
        });
      } catch (const std::system_error& error) {
        fail(ExitCode::kMemory, "threads", "thread pool", cat("room for ", size, " threads"),
             cat(member, " (", error.what(), ")"));
      }
      workers.push_back(std::move(worker));
    }
  }

  void execute(int member) {
    try {
      (*job)(member);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  static bool claim(Worker& worker, Ticket ticket) {
    Ticket last = worker.claimed.load();
    return last < ticket && worker.claimed.compare_exchange_strong(last, ticket);
  }

  void work(int member, Worker& self, Ticket seen) {
    while (true) {
      for (int spin = spins(seen); spin > 0 && current.load(std::memory_order_acquire) == seen; --spin) cpu_relax();
      if (current.load() == seen) sleep_until_posted(self, seen);
      if (stopping.load()) return;
      seen = current.load();
      if (member >= team_of(seen) || !claim(self, seen)) continue;
      execute(member);
      if (pending.fetch_sub(1) == 1 && sleeping_caller.load()) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void sleep_until_posted(Worker& self, Ticket seen) {
    std::unique_lock lock(mutex);
    self.sleeping.store(true);
    self.wake.wait(lock, [&] { return current.load() != seen; });
    self.sleeping.store(false);
  }

  // Members outside the team sleep on.
  void post(int team) {
    const Ticket number = (current.load() >> kTeamBits) + 1;
    current.store(number << kTeamBits | static_cast<Ticket>(team));
    for (int member = 1; member < team; ++member) {
      Worker& worker = *workers[static_cast<size_t>(member - 1)];
      if (!worker.sleeping.load()) continue;
      const std::lock_guard lock(mutex);
      worker.wake.notify_one();
    }
  }

  // The caller's own part, the parts that nobody has begun, and the wait for the others.
  void complete() {
    execute(0);
    const Ticket ticket = current.load();
    for (int member = 1; member < team_of(ticket); ++member) {
      if (!claim(*workers[static_cast<size_t>(member - 1)], ticket)) continue;
      execute(member);
      pending.fetch_sub(1);
    }
    for (int spin = spins(ticket); spin > 0 && pending.load(std::memory_order_acquire) != 0; --spin) cpu_relax();
    if (pending.load() == 0) return;
    std::unique_lock lock(mutex);
    sleeping_caller.store(true);
    finished.wait(lock, [&] { return pending.load() == 0; });
    sleeping_caller.store(false);
  }
};

ThreadPool::ThreadPool(int size, const std::function<void()>& on_start)
    : size_(std::max(1, size)), shared_(std::make_shared<Shared>(on_start)) {
  shared_->grow(size_);
}

ThreadPool::ThreadPool(ThreadPool& host, int size) : size_(std::max(1, size)), shared_(host.shared_) {
  XLSTM_ASSERT(!shared_->busy.load());
  shared_->grow(size_);
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::run(const std::function<void(int)>& job) {
  if (size_ == 1) {
    job(0);
    return;
  }
  Shared& shared = *shared_;
  XLSTM_ASSERT(!shared.busy.exchange(true, std::memory_order_acquire));
  shared.job = &job;
  shared.failure = nullptr;
  shared.pending.store(size_ - 1);
  shared.post(size_);
  shared.complete();
  shared.busy.store(false, std::memory_order_release);
  if (shared.failure) std::rethrow_exception(std::exchange(shared.failure, nullptr));
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t blocks = (count + grain - 1) / grain;
  if (size_ == 1 || blocks == 1) {
    body(0, count, 0);
    return;
  }
  run([&](int member) {
    const int64_t begin = blocks * member / size_ * grain;
    const int64_t end = std::min(count, blocks * (member + 1) / size_ * grain);
    if (begin < end) body(begin, end, member);
  });
}

}  // namespace xlstm
