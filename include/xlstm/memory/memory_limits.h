// When memory use is too much: pure decisions over one sample.
#pragma once

#include <cstdint>
#include <string>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {

// The settings mem_soft_pct, mem_hard_pct, mem_soft_mb and mem_hard_mb. Megabytes (1e6 bytes) above 0 win over the
// share for the process's memory; a device's memory is always judged by the shares, of what the device recommends.
// A soft line above the hard one counts as the hard one: whoever lowers one setting need not lower the other.
struct GuardLimits {
  double soft_share = 0;  // of the limit, 0 to 1
  double hard_share = 0;
  double soft_mb = 0;  // 0: none
  double hard_mb = 0;
};
[[nodiscard]] GuardLimits guard_limits(const RuntimeOpts& opts);

// Bytes at which a line is crossed; 0: no such line, as neither megabytes nor a limit are known.
struct GuardLines {
  uint64_t soft = 0;
  uint64_t hard = 0;
};
[[nodiscard]] GuardLines host_lines(const GuardLimits& limits, const HostMemory& host);
[[nodiscard]] GuardLines device_lines(const GuardLimits& limits, const DeviceSample& device);

enum class MemoryLevel { kNone, kSoft, kHard };

// A line counts as crossed when use has reached it.
struct MemoryVerdict {
  MemoryLevel level = MemoryLevel::kNone;
  uint64_t used = 0;
  uint64_t line = 0;   // the line that was crossed, the hard one of the two; 0 at level kNone
  std::string origin;  // where that line comes from: "92% of 24684.1 MB, machine"
};
[[nodiscard]] MemoryVerdict judge_host(const GuardLimits& limits, const HostMemory& host);
[[nodiscard]] MemoryVerdict judge_device(const GuardLimits& limits, const DeviceSample& device);

// What can still be taken from the machine or from the device; `bound` names what sets it, for messages.
struct MemoryRoom {
  uint64_t bytes = 0;
  std::string bound;
};
// `limits` nullptr: the guard is off. With it, memory that would make it stop the run is no room.
[[nodiscard]] MemoryRoom host_room(const HostMemory& host, const GuardLimits* limits);
// Unlimited for a device that recommends nothing.
[[nodiscard]] MemoryRoom device_room(const DeviceSample& device, const GuardLimits* limits);

// "21734.2 MB": the unit of the settings, exact enough to tell a use from the line it crossed.
[[nodiscard]] std::string megabytes_text(uint64_t bytes);

}  // namespace xlstm
