// What the operating system tells about this process while something is measured.
#pragma once

#include <cstdint>
#include <optional>

namespace xlstm {

// Seconds since the process began, over all its threads.
struct CoreTimes {
  double used = 0;               // on a core
  std::optional<double> waited;  // ready to run, but without a core; absent where the system does not tell (macOS)
};
[[nodiscard]] CoreTimes read_core_times();

// The share of the time of `cores` cores that other processes took during `seconds`: what our threads waited for, as
// far as they did not wait for each other. 0 where the system does not tell.
[[nodiscard]] double lost_share(const CoreTimes& before, const CoreTimes& after, double seconds, int cores);

// Starts the peak of the resident size anew, where the system can do that (Linux); elsewhere the peak stays the largest
// since the process began.
void reset_peak_resident();
[[nodiscard]] uint64_t peak_resident_bytes();

}  // namespace xlstm
