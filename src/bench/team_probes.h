// Rates of a CPU that a team of threads reaches together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "src/bench/limit_loops.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {

// Not thread-safe. Rates are of all threads together, over at least `seconds`.
class TeamProbes {
 public:
  // Allocates a buffer of several times the last-level cache, in large pages where the system gives them. Error
  // kMemory.
  explicit TeamProbes(int threads);

  // A team of the same size on the threads of `host` from here on.
  void share_threads(ThreadPool& host);

  [[nodiscard]] double read_bytes_per_s(double seconds);
  // Bytes read plus bytes written.
  [[nodiscard]] double copy_bytes_per_s(double seconds);
  [[nodiscard]] double peak_flop_per_s(PeakKind kind, double seconds);
  // From the start of a job in which every member takes part to its end, the shortest of several averages.
  [[nodiscard]] double barrier_seconds();

  [[nodiscard]] int threads() const { return pool_->size(); }
  [[nodiscard]] uint64_t buffer_bytes() const { return bytes_; }

 private:
  // Members do unit after unit, numbered 0, 1, …, until the time is over; amounts per second. unit(index) returns the
  // amount that it did.
  [[nodiscard]] double rate(double seconds, const std::function<double(size_t index)>& unit);

  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<ThreadPool> pool_;
  size_t bytes_;
  std::unique_ptr<std::byte, Free> buffer_;
};

}  // namespace xlstm
