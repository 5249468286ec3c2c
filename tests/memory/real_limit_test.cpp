// The guard under a limit that the operating system really enforces.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "xlstm/core/stop.h"
#include "xlstm/memory/memory_guard.h"

namespace xlstm {
namespace {

#if defined(__linux__)

constexpr size_t kBlock = size_t{4} << 20;
constexpr uint64_t kRoom = uint64_t{256} << 20;

// Takes memory block by block, each time waiting until the guard has looked, and ends with 5 if the guard stops it,
// with 1 if the system refuses memory first.
[[noreturn]] void take_memory_until_stopped() {
  clear_stop();
  // RLIMIT_DATA counts what VmData shows: leave a fixed room above today's.
  rlimit limit{};
  ::getrlimit(RLIMIT_DATA, &limit);
  uint64_t data = 0;
  if (std::FILE* statm = std::fopen("/proc/self/status", "r"); statm != nullptr) {
    char line[256];
    unsigned long long kilobytes = 0;
    while (std::fgets(line, sizeof(line), statm) != nullptr) {
      if (std::sscanf(line, "VmData: %llu kB", &kilobytes) == 1) data = kilobytes * 1024;
    }
    std::fclose(statm);
  }
  limit.rlim_cur = data + kRoom;
  if (data == 0 || ::setrlimit(RLIMIT_DATA, &limit) != 0) std::_Exit(3);
  try {
    RuntimeOpts opts;
    opts.mem_poll_ms = 1;
    opts.mem_hard_pct = 0.8;
    const MemoryGuard guard(opts);
    if (guard.latest()->host.limit_name != "RLIMIT_DATA") std::_Exit(4);
    std::vector<std::string> blocks;
    while (!stop_requested()) {
      blocks.emplace_back(kBlock, 'x');
      const uint64_t taken = blocks.size() * kBlock;
      while (!stop_requested() && guard.latest()->host.used < taken) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    std::fputs(guard.stop_message().value_or("no message").c_str(), stderr);
    std::_Exit(stop_reason() == StopReason::kMemory ? 5 : 2);
  } catch (const std::bad_alloc&) {
    std::_Exit(1);
  }
}

TEST(MemoryGuardUnderARealLimit, StopsTheRunBeforeTheSystemRefusesMemory) {
  EXPECT_EXIT(take_memory_until_stopped(), testing::ExitedWithCode(5), "hard limit of .* MB \\(80% of .*RLIMIT_DATA");
}

#else

TEST(MemoryGuardUnderARealLimit, StopsTheRunBeforeTheSystemRefusesMemory) {
  GTEST_SKIP() << "NOT RUN: this system enforces no limit on a process's data that a test could set";
}

#endif

}  // namespace
}  // namespace xlstm
