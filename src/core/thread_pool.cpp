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

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins of a worker that waits for its next job, and of the caller that waits for the team: some tens of
// microseconds, longer than the gaps between two jobs of one pass, shorter than a scheduler's time slice.
constexpr int kSpins = 4000;

// The last job that somebody has begun for a member; alone in its cache line.
struct alignas(64) Claim {
  std::atomic<uint64_t> job{0};
};

}  // namespace

int available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// A job has a number. Each member's part of it is claimed once, by the member's own thread or, if that thread has not
// begun when the caller is done with its part, by the caller: on a machine whose cores are busy elsewhere the caller
// then does the work instead of waiting for a thread that does not run.
//
// Sleeping: who goes to sleep announces it and looks once more; who brings news looks for announcements afterwards.
// Both sides use sequentially consistent operations, so one of them sees the other.
struct ThreadPool::Shared {
  explicit Shared(int size) : claims(static_cast<size_t>(size)) {}

  std::mutex mutex;
  std::condition_variable wake;      // workers: a new job or the end
  std::condition_variable finished;  // caller: pending fell to 0
  std::atomic<uint64_t> current{0};  // number of the last job posted
  std::atomic<int> pending{0};       // members' parts of the job that are not done
  std::atomic<int> sleeping_workers{0};
  std::atomic<bool> sleeping_caller{false};
  std::atomic<bool> stopping{false};
  std::atomic<bool> busy{false};  // a job is running
  int spins = 0;
  const std::function<void(int)>* job = nullptr;
  std::exception_ptr failure;  // guarded by mutex
  std::vector<Claim> claims;
  std::vector<std::thread> threads;

  void execute(int member) {
    try {
      (*job)(member);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  // Takes a member's part of job `number`; `seen` is the last one known to be taken and is updated if it was later.
  bool claim(int member, uint64_t& seen, uint64_t number) {
    return claims[static_cast<size_t>(member)].job.compare_exchange_strong(seen, number);
  }

  void worker(int member, const std::function<void()>& on_start) {
    if (on_start) on_start();
    uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < spins && current.load(std::memory_order_acquire) == seen; ++spin) cpu_relax();
      if (current.load() == seen) sleep_until_posted(seen);
      if (stopping.load()) return;
      const uint64_t number = current.load();
      if (!claim(member, seen, number)) continue;
      seen = number;
      execute(member);
      if (pending.fetch_sub(1) == 1 && sleeping_caller.load()) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void sleep_until_posted(uint64_t seen) {
    std::unique_lock lock(mutex);
    sleeping_workers.fetch_add(1);
    wake.wait(lock, [&] { return current.load() != seen; });
    sleeping_workers.fetch_sub(1);
  }

  void post() {
    current.fetch_add(1);
    if (sleeping_workers.load() == 0) return;
    const std::lock_guard lock(mutex);
    wake.notify_all();
  }

  // The caller's own part, the parts that nobody has begun, and the wait for the others.
  void complete() {
    execute(0);
    const uint64_t number = current.load();
    for (int member = 1; member < static_cast<int>(claims.size()); ++member) {
      uint64_t seen = claims[static_cast<size_t>(member)].job.load();
      if (seen == number || !claim(member, seen, number)) continue;
      execute(member);
      pending.fetch_sub(1);
    }
    for (int spin = 0; spin < spins && pending.load(std::memory_order_acquire) != 0; ++spin) cpu_relax();
    if (pending.load() == 0) return;
    std::unique_lock lock(mutex);
    sleeping_caller.store(true);
    finished.wait(lock, [&] { return pending.load() == 0; });
    sleeping_caller.store(false);
  }

  void stop() {
    stopping.store(true);
    post();
    for (std::thread& thread : threads) thread.join();
  }
};

ThreadPool::ThreadPool(int size, const std::function<void()>& on_start)
    : size_(std::max(1, size)), shared_(std::make_unique<Shared>(size_)) {
  // A team larger than the machine must not spin: the members that have work need the cores.
  shared_->spins = size_ <= available_cores() ? kSpins : 0;
  shared_->threads.reserve(static_cast<size_t>(size_));
  try {
    for (int member = 1; member < size_; ++member) {
      shared_->threads.emplace_back([shared = shared_.get(), member, on_start] { shared->worker(member, on_start); });
    }
  } catch (const std::system_error& error) {
    const size_t started = shared_->threads.size() + 1;
    shared_->stop();
    fail(ExitCode::kMemory, "threads", "thread pool", cat("room for ", size_, " threads"),
         cat(started, " (", error.what(), ")"));
  }
}

ThreadPool::~ThreadPool() {
  shared_->stop();
}

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
  shared.post();
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
