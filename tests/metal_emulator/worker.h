// One OS thread that runs threadgroups, their threads as fibers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "emulator.h"
#include "msl/kernel.h"
#include "msl/runtime.h"
#include "shadow.h"
#include "tests/emulation/fiber.h"
#include "tests/emulation/turns.h"

namespace xlstm::emulator {

using emulation::Context;
using emulation::kLanes;
using emulation::Stacks;
constexpr size_t kMaxSharedBytes = size_t{32} * 1024;

// Memory that a kernel may use.
struct Range {
  uintptr_t begin = 0;
  size_t bytes = 0;
  bool writable = false;
  bool is_threadgroup = false;
  bool overlaps_writable = false;  // a const buffer that is also given as another one
  std::string name;                // for messages
  Shadow* shadow = nullptr;        // if races are looked for

  [[nodiscard]] bool contains(uintptr_t address, size_t size) const {
    return size <= bytes && address - begin <= bytes - size;
  }
};

// One dispatch.
struct Launch {
  const CompiledKernel* kernel = nullptr;
  std::vector<void*> buffers;
  std::vector<Range> ranges;
  std::array<uint64_t, 3> groups{};
  unsigned threads = 0;
  Settings settings;
  std::vector<uint32_t> order;  // of the groups
  uint32_t first_group = 1;     // number of the first one, for Stamp

  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string fault;  // the first one
};

class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs threadgroups until none is left or one failed.
  void run(Launch& launch);

  // The functions below belong to the running fiber.
  uint32_t meet(Op op, uint32_t bits, uint32_t lanes, int line);
  void barrier(Op op, unsigned mem_flags, int line);
  Pair multiply(Pair a, Pair b, Pair c, int line);
  void* shared(const SharedDeclaration& declaration);
  [[nodiscard]] unsigned lane() const { return current_ % kLanes; }
  void access(uintptr_t address, size_t bytes, bool write) {
    if (!instrumented_) return;
    const Range* range = last_range_[write];
    if (!range->contains(address, bytes)) range = find_range(address, bytes, write);
    if (range != nullptr && range->shadow != nullptr) check_race(*range, address, bytes, write);
  }
  // Ends the threadgroup, and the dispatch, by an error. `describe` returns what is wrong: by a function, since nothing
  // is destroyed on the stack that is left.
  template <class Describe>
  [[noreturn]] void fault(const Describe& describe) {
    fault_ = describe();
    leave();
  }
  // By the processor, at an address or at none.
  [[noreturn]] void fault_at(const void* address);

 private:
  struct Fiber {
    Context context;
    unsigned arrays = 0;  // threadgroup arrays declared so far
    Worker* worker = nullptr;
    unsigned index = 0;
  };
  struct SharedArray {
    Range range;
    char* slot = nullptr;
    int line = 0;
    Shadow shadow;
  };
  // Barriers so far, for device [0] and for threadgroup memory [1].
  using Barriers = std::array<uint32_t, 2>;

  static void fiber_main(void* fiber);
  void make_fibers();
  void run_group(uint32_t group);
  void arrive(Op op, int line);
  void end_round();
  void end_simdgroup();
  void complete();
  void count_barrier(Barriers& barriers) const;
  void switch_to(unsigned thread);
  [[noreturn]] void diverged(Op op, int line, Op other_op, int other_line, unsigned other);
  // Null for memory of the fiber itself.
  const Range* find_range(uintptr_t address, size_t bytes, bool write);
  void check_race(const Range& range, uintptr_t address, size_t bytes, bool write);
  [[nodiscard]] std::string describe_outside(uintptr_t address, size_t bytes, bool write) const;
  [[noreturn]] void leave();
  void report_fault();
  [[nodiscard]] std::string place(unsigned thread) const;

  Launch* launch_ = nullptr;
  std::array<uint32_t, 3> group_{};
  std::vector<Fiber> fibers_;
  std::unique_ptr<Stacks> stacks_;
  Context main_;
  Context* previous_ = nullptr;  // that was switched from
  bool faulted_ = false;
  std::string fault_;  // what is wrong
  bool instrumented_ = false;
  unsigned current_ = 0;

  // A round: the lanes of a simdgroup run, one after the other, until each has arrived somewhere.
  unsigned first_lane_ = 0;  // of the simdgroup, as a thread
  unsigned arrived_ = 0;
  Op op_ = Op::kEnd;
  int line_ = 0;
  // Between two barriers: the simdgroups run, one after the other, until each has arrived at a barrier or the end.
  unsigned simdgroups_ = 0;
  unsigned stopped_ = 0;
  Op stop_op_ = Op::kEnd;
  int stop_line_ = 0;
  unsigned mem_flags_ = 0;  // of the barrier that lanes arrive at
  Barriers barriers_{};
  std::vector<Barriers> simd_barriers_;
  uint32_t group_number_ = 0;  // of the running threadgroup, among all of the program
  uint32_t groups_run_ = 0;    // here; threadgroup memory knows only these

  std::array<uint32_t, kLanes> values_{};
  std::array<uint32_t, kLanes> sources_{};
  std::array<uint32_t, kLanes> results_{};
  struct Matrices {
    float a[64];
    float b[64];
    float c[64];
    float d[64];
  } matrices_{};

  std::vector<SharedArray> arrays_;
  size_t shared_bytes_ = 0;
  std::array<const Range*, 2> last_range_{};  // read, written

  emulation::Turns turns_;
};

// Whose fiber runs on this OS thread; null outside of kernels.
extern constinit thread_local Worker* running_worker;

}  // namespace xlstm::emulator
