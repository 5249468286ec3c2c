#include "src/bench/process_figures.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace xlstm {
namespace {

#if defined(__linux__)
// The scheduler's own books, a file a thread: nanoseconds on a core, nanoseconds ready without one, time slices
// (Documentation/scheduler/sched-stats of Linux). Absent if the kernel was built without them.
std::optional<double> waited_seconds() {
  double total = 0;
  bool any = false;
  std::error_code error;
  for (std::filesystem::directory_iterator threads("/proc/self/task", error), end; !error && threads != end;
       threads.increment(error)) {
    std::ifstream file(threads->path() / "schedstat");
    double used = 0;
    double waited = 0;
    if (!(file >> used >> waited)) continue;
    total += waited / 1e9;
    any = true;
  }
  if (!any) return std::nullopt;
  return total;
}
#else
std::optional<double> waited_seconds() {
  return std::nullopt;
}
#endif

}  // namespace

CoreTimes read_core_times() {
  struct timespec used {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return {static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9, waited_seconds()};
}

double lost_share(const CoreTimes& before, const CoreTimes& after, double seconds, int cores) {
  if (!before.waited || !after.waited) return 0;
  const double capacity = seconds * cores;
  if (capacity <= 0) return 0;
  const double unused = capacity - (after.used - before.used);
  return std::clamp(std::min(*after.waited - *before.waited, unused) / capacity, 0.0, 1.0);
}

void reset_peak_resident() {
#if defined(__linux__)
  std::ofstream("/proc/self/clear_refs") << "5";  // man 5 proc
#endif
}

uint64_t peak_resident_bytes() {
#if defined(__linux__)
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
#endif
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return static_cast<uint64_t>(usage.ru_maxrss);
#else
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
#endif
}

}  // namespace xlstm
