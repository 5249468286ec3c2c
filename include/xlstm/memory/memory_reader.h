// How much memory this process uses and how much it may use, as the operating system reports it.
//
// All amounts are bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace xlstm {

struct HostMemory {
  uint64_t resident = 0;  // everything in physical memory, pages of mapped files included
  // Anonymous and shared memory, what of it was swapped out or compressed included. Pages of mapped files do not count:
  // the system takes them back when it needs them.
  uint64_t used = 0;
  uint64_t limit = 0;      // what `used` can reach before the system refuses or kills; 0: not known
  std::string limit_name;  // whose limit that is: "machine", "cgroup", "RLIMIT_AS" or "RLIMIT_DATA"
  uint64_t available = 0;  // what can still be taken without swapping, under that limit and beside other processes
};

// Memory of a device with an allocator of its own. All 0: none, as on a CPU.
struct DeviceSample {
  uint64_t allocated = 0;    // in live tensors
  uint64_t driver = 0;       // taken from the driver, the allocator's caches included
  uint64_t recommended = 0;  // what the device recommends at most; 0: it does not say
};

struct MemorySample {
  HostMemory host;
  DeviceSample device;
};

// Injected where a test decides what is read.
class MemoryReader {
 public:
  virtual ~MemoryReader() = default;
  // Error kMemory if this process's memory cannot be read. One call at a time.
  [[nodiscard]] virtual HostMemory read() = 0;
};

// Linux: /proc/self/status, meminfo and limits, and the memory limits of the process's control groups, versions 1 and
// 2, from its own group up to the mount point (man 5 proc, man 7 cgroups; the kernel's cgroup-v2.rst and
// cgroup-v1/memory.rst). A control group that cannot be read limits nothing. Under a limit on virtual memory
// (setrlimit) `used` can grow by what is left of it. Where the kernel does not tell anonymous pages from others, all
// resident ones count.
//
// macOS: the footprint that its own memory limits count (task_info), hw.memsize, free and inactive pages.
//
// `root` stands before /proc and before the mount points of control groups: a test's own tree.
[[nodiscard]] std::unique_ptr<MemoryReader> make_system_reader(const std::filesystem::path& root = "/");

}  // namespace xlstm
