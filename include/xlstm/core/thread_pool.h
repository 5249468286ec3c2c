// The kernels' thread pool: a fixed team that runs the same function on every member and joins at a barrier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace xlstm {

// Number of hardware threads that this process may use (affinity respected), at least 1.
[[nodiscard]] int available_cores();

// Tells the core that this is a loop that waits for another thread.
inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A team of `size` threads, the caller included. Workers spin briefly for the next job, then sleep.
// One caller at a time: run(), start() and parallel_for() must not be called concurrently or from inside a job
// (asserted), nor on two pools that share threads.
class ThreadPool {
 public:
  // `on_start` runs once on each worker thread (not on the caller), for example to limit a library's own threads; it
  // must not throw. Error kMemory if the system refuses that many threads.
  explicit ThreadPool(int size, const std::function<void()>& on_start = {});
  // A team of another size on the threads of `host`, which starts more of them if it has too few and keeps its size():
  // parts of a program that want teams of different sizes take turns on one set of threads. The two may be destroyed
  // in any order. Not while `host` runs a job (asserted).
  ThreadPool(ThreadPool& host, int size);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const { return size_; }

  // A job must not call a library that has threads of its own (libtorch): a part may run on the caller, whose library
  // teams are as large as the machine.
  //
  // Calls job(member) once for each member 0 … size-1 and returns when all are done. Members run beside each other as
  // far as the machine has room: the caller does the part of a worker that has not begun when its own is done. The
  // first exception thrown by a member is rethrown here.
  void run(const std::function<void(int member)>& job);

  // As run(), but returns when the caller's part is done: one handoff between threads for each of many short jobs
  // instead of two. The next job, started or run, on this or another team of the same threads, begins its parts when
  // all parts of this one are done, so it sees what they wrote; the caller does so after join(). The function is
  // copied, and what it refers to must live until then. After an exception the jobs that follow do nothing; join() or
  // run() throws the first one (a team of one thread: at once). A started job is joined by its caller, before anybody
  // else uses these threads and before the pool goes.
  template <class Function>
  void start(const Function& job) {
    static_assert(std::is_trivially_copyable_v<Function> && sizeof(Function) <= kJobBytes &&
                  alignof(Function) <= kJobAlignment);
    start_job(
        {&job, sizeof(Function), [](const void* self, int member) { (*static_cast<const Function*>(self))(member); }});
  }
  void join();

  // Splits [0, count) into one contiguous range per member (multiples of `grain`, but for the last) and calls
  // body(begin, end, member) for the non-empty ones. The split depends only on count, grain and size().
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end, int member)>& body);

 private:
  static constexpr size_t kJobBytes = 496;
  static constexpr size_t kJobAlignment = 16;

  struct Job {
    const void* data;
    size_t bytes;
    void (*call)(const void* data, int member);
  };
  struct Shared;
  void start_job(const Job& job);
  int size_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace xlstm
