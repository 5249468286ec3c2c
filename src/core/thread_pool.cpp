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

}  // namespace

int available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

struct ThreadPool::Shared {
  std::mutex mutex;
  std::condition_variable wake;         // workers: a new job or the end
  std::condition_variable finished;     // caller: pending fell to 0
  std::atomic<uint64_t> generation{0};  // number of jobs posted
  std::atomic<int> pending{0};          // workers that have not finished the current job
  std::atomic<bool> stopping{false};
  std::atomic<bool> busy{false};  // a job is running
  int spins = 0;
  const std::function<void(int)>* job = nullptr;
  std::exception_ptr failure;  // guarded by mutex
  std::vector<std::thread> threads;

  void execute(int member) {
    try {
      (*job)(member);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void worker(int member, const std::function<void()>& on_start) {
    if (on_start) on_start();
    uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < spins && generation.load(std::memory_order_acquire) == seen; ++spin) cpu_relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      ++seen;
      if (stopping.load(std::memory_order_acquire)) return;
      execute(member);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void stop() {
    stopping.store(true, std::memory_order_release);
    post();
    for (std::thread& thread : threads) thread.join();
  }

  void post() {
    const std::lock_guard lock(mutex);
    generation.fetch_add(1, std::memory_order_release);
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int size, const std::function<void()>& on_start)
    : size_(std::max(1, size)), shared_(std::make_unique<Shared>()) {
  // A team larger than the machine must not spin: the members that have work need the cores.
  shared_->spins = size_ <= available_cores() ? kSpins : 0;
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
  shared.pending.store(size_ - 1, std::memory_order_relaxed);
  shared.post();
  shared.execute(0);
  for (int spin = 0; spin < shared.spins && shared.pending.load(std::memory_order_acquire) != 0; ++spin) cpu_relax();
  std::unique_lock lock(shared.mutex);
  shared.finished.wait(lock, [&] { return shared.pending.load(std::memory_order_acquire) == 0; });
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
