#include "src/bench/team_probes.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace xlstm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPage = size_t{2} << 20;  // a large page; units of this size are read as one stream
constexpr size_t kLeastBuffer = size_t{256} << 20;
constexpr size_t kMostBuffer = size_t{1} << 30;
constexpr size_t kCachesPerBuffer = 6;

size_t last_level_cache() {
#if defined(__APPLE__)
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  for (const char* name : {"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"}) {
    if (::sysctlbyname(name, &bytes, &size, nullptr, 0) == 0 && bytes > 0) return static_cast<size_t>(bytes);
  }
  return 0;
#elif defined(_SC_LEVEL3_CACHE_SIZE)
  return static_cast<size_t>(std::max(0L, ::sysconf(_SC_LEVEL3_CACHE_SIZE)));
#else
  return 0;
#endif
}

size_t buffer_size() {
  const size_t wanted = std::clamp(kCachesPerBuffer * last_level_cache(), kLeastBuffer, kMostBuffer);
  return wanted / (2 * kPage) * (2 * kPage);
}

}  // namespace

void TeamProbes::Free::operator()(std::byte* memory) const {
  std::free(memory);
}

TeamProbes::TeamProbes(int threads)
    : pool_(std::make_unique<ThreadPool>(threads)),
      bytes_(buffer_size()),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes_))) {
  if (!buffer_) fail(ExitCode::kMemory, "--limits", "memory", cat(bytes_text(bytes_), " to read from"), "less");
#if defined(__linux__)
  (void)::madvise(buffer_.get(), bytes_, MADV_HUGEPAGE);  // a wish
#endif
  // Memory that was never written is one page of zeros, which is read from a cache.
  pool_->parallel_for(static_cast<int64_t>(bytes_ / kPage), 1, [this](int64_t begin, int64_t end, int) {
    std::memset(buffer_.get() + static_cast<size_t>(begin) * kPage, 1, static_cast<size_t>(end - begin) * kPage);
  });
}

void TeamProbes::share_threads(ThreadPool& host) {
  pool_ = std::make_unique<ThreadPool>(host, threads());
}

double TeamProbes::rate(double seconds, const std::function<double(size_t)>& unit) {
  struct alignas(64) Amount {
    double done = 0;
  };
  std::vector<Amount> amounts(static_cast<size_t>(pool_->size()));
  std::atomic<size_t> next{0};
  const auto start = Clock::now();
  const auto end = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  pool_->run([&](int member) {
    double done = 0;
    do {
      done += unit(next.fetch_add(1, std::memory_order_relaxed));
    } while (Clock::now() < end);
    amounts[static_cast<size_t>(member)].done = done;
  });
  const double passed = std::chrono::duration<double>(Clock::now() - start).count();
  double total = 0;
  for (const Amount& amount : amounts) total += amount.done;
  return total / passed;
}

double TeamProbes::read_bytes_per_s(double seconds) {
  std::atomic<uint64_t> sum{0};
  return rate(seconds, [&](size_t index) {
    sum.fetch_xor(read_memory(buffer_.get() + index * kPage % bytes_, kPage), std::memory_order_relaxed);
    return static_cast<double>(kPage);
  });
}

double TeamProbes::copy_bytes_per_s(double seconds) {
  const size_t half = bytes_ / 2;
  return rate(seconds, [&](size_t index) {
    const size_t offset = index * kPage % half;
    std::memcpy(buffer_.get() + half + offset, buffer_.get() + offset, kPage);
    return 2 * static_cast<double>(kPage);
  });
}

double TeamProbes::peak_flop_per_s(PeakKind kind, double seconds) {
  constexpr int64_t kRounds = 20'000;  // some tens of microseconds
  return rate(seconds, [kind](size_t) { return run_peak(kind, kRounds); });
}

double TeamProbes::barrier_seconds() {
  constexpr int kBatches = 20;
  constexpr int kJobs = 500;
  constexpr int kMostSpins = 100'000;  // a member whose core is busy elsewhere is not waited for
  double best = 0;
  for (int batch = 0; batch < kBatches; ++batch) {
    const auto start = Clock::now();
    for (int job = 0; job < kJobs; ++job) {
      std::atomic<int> arrived{0};
      pool_->run([&](int) {
        arrived.fetch_add(1);
        for (int spin = 0; spin < kMostSpins && arrived.load(std::memory_order_acquire) < pool_->size(); ++spin) {
          cpu_relax();
        }
      });
    }
    const double average = std::chrono::duration<double>(Clock::now() - start).count() / kJobs;
    best = batch == 0 ? average : std::min(best, average);
  }
  return best;
}

}  // namespace xlstm
