#include "xlstm/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
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
// A ticket holds both, the number in the upper bits, so that later tickets are greater. The next job is posted only
// when all parts of the last one are claimed; who claims with a ticket greater than the member's last one therefore
// holds the running job's.
//
// A posted job may find parts of the one before still running. Nobody begins its own part before these are done:
// `finished` counts the workers' parts since the beginning and says it with one number (the caller's part was done
// when it posted). Two jobs have parts that are not done at most, so two slots are enough for what they do.
//
// Sleeping: who goes to sleep announces it and looks once more; who brings news looks for announcements afterwards.
// Both sides use sequentially consistent operations, so one of them sees the other.
struct ThreadPool::Shared {
  using Ticket = uint64_t;
  static constexpr int kTeamBits = 16;
  static constexpr uint64_t kNoJob = ~uint64_t{0};
  static int team_of(Ticket ticket) { return static_cast<int>(ticket & ((Ticket{1} << kTeamBits) - 1)); }

  struct alignas(64) Worker {  // a cache line of its own
    std::atomic<Ticket> claimed{0};
    std::atomic<bool> sleeping{false};
    std::condition_variable wake;
    std::thread thread;
  };

  struct alignas(64) Slot {
    void (*call)(const void*, int) = nullptr;
    uint64_t finished_before = 0;  // workers' parts of all earlier jobs
    alignas(kJobAlignment) std::byte job[kJobBytes];
  };

  explicit Shared(const std::function<void()>& start) : on_start(start) {}
  ~Shared() {
    stopping.store(true);
    announce(static_cast<int>(workers.size()) + 1);
    for (const auto& worker : workers) worker->thread.join();
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  const std::function<void()> on_start;
  std::mutex mutex;
  std::condition_variable progress;            // somebody waits for `finished`
  alignas(64) std::atomic<Ticket> current{0};  // of the last job posted
  Slot slots[2];                               // of the job with this lowest bit of its number
  alignas(64) std::atomic<uint64_t> finished{0};
  alignas(64) std::atomic<int> waiting{0};  // members that sleep until `finished` grows
  std::atomic<bool> stopping{false};
  std::atomic<uint64_t> failed_job{kNoJob};      // its finished_before, which grows from job to job
  std::atomic<const void*> caller{nullptr};      // the thread whose job is not joined
  bool in_part = false;                          // the caller is inside a job; only it looks
  uint64_t posted = 0;                           // workers' parts of all jobs; only the caller uses it
  std::exception_ptr failure;                    // guarded by mutex
  std::vector<std::unique_ptr<Worker>> workers;  // member i is workers[i - 1]; only the caller uses the list
  const int cores = available_cores();

  // A team larger than the machine must not spin: the members that have work need the cores.
  [[nodiscard]] int spins(Ticket ticket) const { return team_of(ticket) <= cores ? kSpins : 0; }

  [[nodiscard]] Slot& slot_of(Ticket ticket) { return slots[ticket >> kTeamBits & 1]; }

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

  // Jobs behind one that failed are not done until somebody hears of it.
  void execute(const Slot& slot, int member) {
    if (slot.finished_before > failed_job.load(std::memory_order_relaxed)) return;
    try {
      slot.call(slot.job, member);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      failed_job.store(slot.finished_before);
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
      seen = current.load();
      if (stopping.load()) return;  // set before the last ticket: who sees that one sees this
      if (member >= team_of(seen) || !claim(self, seen)) continue;
      const Slot& slot = slot_of(seen);
      wait_finished(slot.finished_before, seen);
      execute(slot, member);
      count_finished();
    }
  }

  void sleep_until_posted(Worker& self, Ticket seen) {
    std::unique_lock lock(mutex);
    self.sleeping.store(true);
    self.wake.wait(lock, [&] { return current.load() != seen; });
    self.sleeping.store(false);
  }

  void wait_finished(uint64_t parts, Ticket ticket) {
    for (int spin = spins(ticket); spin > 0 && finished.load(std::memory_order_acquire) < parts; --spin) cpu_relax();
    if (finished.load() >= parts) return;
    std::unique_lock lock(mutex);
    waiting.fetch_add(1);
    progress.wait(lock, [&] { return finished.load() >= parts; });
    waiting.fetch_sub(1);
  }

  // Members outside the team sleep on.
  void announce(int team) {
    const Ticket number = (current.load() >> kTeamBits) + 1;
    current.store(number << kTeamBits | static_cast<Ticket>(team));
    for (int member = 1; member < team; ++member) {
      Worker& worker = *workers[static_cast<size_t>(member - 1)];
      if (!worker.sleeping.load()) continue;
      const std::lock_guard lock(mutex);
      worker.wake.notify_one();
    }
  }

  // The caller does the parts of the last job that nobody has begun.
  void claim_rest() {
    const Ticket ticket = current.load();
    for (int member = 1; member < team_of(ticket); ++member) {
      if (!claim(*workers[static_cast<size_t>(member - 1)], ticket)) continue;
      execute_here(slot_of(ticket), member);
      count_finished();
    }
  }

  void count_finished() {
    finished.fetch_add(1);
    if (waiting.load() == 0) return;
    const std::lock_guard lock(mutex);
    progress.notify_all();
  }

  // A part on the caller, which has waited for the job before.
  void execute_here(const Slot& slot, int member) {
    in_part = true;
    execute(slot, member);
    in_part = false;
  }

  // Makes the calling thread the caller, until join().
  void enter() {
    if (caller.load(std::memory_order_relaxed) == this_thread()) return XLSTM_ASSERT(!in_part);
    const void* nobody = nullptr;
    XLSTM_ASSERT(caller.compare_exchange_strong(nobody, this_thread()));
  }

  static const void* this_thread() {
    static thread_local const char self = 0;
    return &self;
  }

  void start(int team, const Job& job) {
    enter();
    claim_rest();
    const uint64_t before = posted;
    const Ticket next = current.load() + (Ticket{1} << kTeamBits);
    Slot& slot = slot_of(next);
    slot.call = job.call;
    slot.finished_before = before;
    std::memcpy(slot.job, job.data, job.bytes);
    posted += static_cast<uint64_t>(team - 1);
    announce(team);
    wait_finished(before, next);
    execute_here(slot, 0);
  }

  void join() {
    if (caller.load() == nullptr) return;
    enter();
    claim_rest();
    wait_finished(posted, current.load());
    failed_job.store(kNoJob);
    const std::exception_ptr thrown = std::exchange(failure, nullptr);
    caller.store(nullptr);
    if (thrown) std::rethrow_exception(thrown);
  }
};

ThreadPool::ThreadPool(int size, const std::function<void()>& on_start)
    : size_(std::max(1, size)), shared_(std::make_shared<Shared>(on_start)) {
  shared_->grow(size_);
}

ThreadPool::ThreadPool(ThreadPool& host, int size) : size_(std::max(1, size)), shared_(host.shared_) {
  XLSTM_ASSERT(shared_->caller.load() == nullptr);
  shared_->grow(size_);
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::start_job(const Job& job) {
  if (size_ > 1) return shared_->start(size_, job);
  shared_->join();  // of a team on the same threads
  job.call(job.data, 0);
}

void ThreadPool::join() {
  shared_->join();
}

void ThreadPool::run(const std::function<void(int)>& job) {
  start([&job](int member) { job(member); });
  if (size_ > 1) shared_->join();
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  const int64_t blocks = (count + grain - 1) / grain;
  if (size_ == 1 || blocks == 1) {
    join();
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
