// One OS thread that runs blocks, their threads as fibers.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator.h"
#include "include/emulated_device.h"
#include "tests/emulation/fiber.h"
#include "tests/emulation/turns.h"

namespace xlstm::cuda {
struct TensorMap {
  const std::byte* begin;
  int64_t row_bytes;
  int64_t rows;
};
}  // namespace xlstm::cuda

namespace xlstm::cuda_emulator {

using emulation::kLanes;
constexpr size_t kMaxSharedBytes = size_t{227} * 1024;

// What memory holds before it is written: NaN as float32, bfloat16 and float16.
constexpr uint16_t kPoison = 0x7fff;
void poison(void* memory, size_t bytes);

// Memory that ends at a page which no one may touch.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t capacity);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  // The last bytes of it, beginning at a multiple of `alignment`.
  [[nodiscard]] std::byte* last(size_t bytes, size_t alignment) const;

 private:
  size_t page_;
  size_t bytes_;  // without the guards
  std::byte* memory_;
};

// One launch.
struct Launch {
  const Kernel* kernel = nullptr;
  const void* arguments = nullptr;
  cuda::Grid grid;
  Settings settings;
  std::vector<uint32_t> order;  // of the blocks

  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string fault;  // the first one
};

class Worker {
 public:
  Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs blocks until none is left or one failed.
  void run(Launch& launch);
  // Runs a block until all of its threads have come to wait_for_previous(), and from there to its end. No other block
  // of this OS thread runs in between: they share static memory.
  void begin_early(Launch& launch, uint32_t block);
  void finish_early();

  // The functions below belong to the running fiber.
  const std::byte* exchange(const void* mine, size_t bytes, const char* operation, int line);
  void barrier(int line);
  void barrier_of_some(int number, unsigned threads, int line);
  void init_barrier(void* barrier, int arrivals);
  void publish_barriers() { unpublished_ = false; }
  void arrive_at(const void* barrier, int bytes, int line);
  void wait_at(const void* barrier, int parity, int line);
  void copy_bulk(void* destination, const void* source, size_t bytes, const void* barrier, int line);
  void copy_box(void* destination, const cuda::TensorMap* map, int line_of_row, int row, const void* barrier, int line);
  [[nodiscard]] unsigned lane() const { return current_ % kLanes; }
  [[nodiscard]] void* shared() const { return shared_; }
  void copy_async(void* destination, const void* source);
  void commit_copies();
  void wait_for_copies(int later_groups);
  void wait_for_previous();
  void wait_for_turn(const volatile int32_t* now, int32_t number);
  // Ends the block, and the launch, by an error. `describe` returns what is wrong: by a function, since nothing is
  // destroyed on the stack that is left.
  template <class Describe>
  [[noreturn]] void fault(const Describe& describe) {
    fault_ = describe();
    leave();
  }

 private:
  // Sources are read when a copy begins, as early as they can be.
  struct Copy {
    void* destination = nullptr;
    std::array<std::byte, 16> data{};
    int group = 0;
  };
  struct BulkCopy {
    void* destination = nullptr;
    std::vector<std::byte> data;
  };
  // In shared memory.
  struct PhaseBarrier {
    int arrivals = 0;  // that a phase takes
    int missing = 0;   // in this one
    size_t announced = 0;
    size_t copied = 0;
    std::vector<BulkCopy> copies;  // of this phase
    std::vector<BulkCopy> ended;   // of phases that have ended; done when somebody has waited for one
    unsigned phase = 0;
  };
  // Where a warp is.
  struct Stop {
    const char* operation = nullptr;  // null: it can go on
    int line = 0;
    const void* barrier = nullptr;  // that it waits at
    int number = 0;                 // the parity that it waits for, or that of a barrier of some threads
    unsigned threads = 0;
    friend bool operator==(const Stop&, const Stop&) = default;
  };
  struct Fiber {
    emulation::Context context;
    Index index;
    Worker* worker = nullptr;
    std::vector<Copy> copies;  // under way
    int group = 0;             // to which the next copy belongs
  };

  static void fiber_main(void* fiber);
  void make_fibers();
  void prepare(Launch& launch);
  void begin_block(uint32_t block);
  // Goes on with the block until it ends, is suspended or fails.
  void run_block();
  void arrive(const char* operation, int line);
  void arrive(const Stop& stop);
  void end_round();
  void end_block();
  // Chooses the next warp, which goes on.
  void schedule();
  [[nodiscard]] bool can_go_on(const Stop& stop) const;
  // Lets go the warps that all have come to a barrier of some threads.
  void release_some();
  [[nodiscard]] bool all_stopped_at(const Stop& stop) const;
  [[noreturn]] void stuck();
  [[nodiscard]] PhaseBarrier& barrier_at(const void* barrier, int line);
  static void end_phase_if_complete(PhaseBarrier& barrier);
  void begin_copy(BulkCopy copy, const void* barrier, int line);
  void finish_copies(const Stop& stop);
  void switch_to(unsigned thread);
  [[noreturn]] void diverged(const char* operation, int line, const char* other_operation, int other_line,
                             unsigned other);
  [[noreturn]] void leave();
  void report_fault();

  Launch* launch_ = nullptr;
  Block block_;
  std::vector<Fiber> fibers_;
  std::unique_ptr<emulation::Stacks> stacks_;
  emulation::Context main_;
  emulation::Context* previous_ = nullptr;  // that was switched from
  bool faulted_ = false;
  std::string fault_;                 // what is wrong
  bool early_ = false;                // wait_for_previous() suspends the block
  bool waited_for_previous_ = false;  // some thread of the block
  unsigned current_ = 0;

  // A round: the lanes of a warp run, one after the other, until each has arrived somewhere.
  unsigned first_lane_ = 0;  // of the warp, as a thread
  unsigned arrived_ = 0;
  Stop place_;  // where
  // Warps run, one after the other, until each has to wait for others or has ended.
  unsigned warps_ = 0;
  std::vector<Stop> stops_;
  std::unordered_map<const void*, PhaseBarrier> barriers_;
  bool unpublished_ = false;  // barriers

  // What the lanes leave in this round, and what they left in the one before, which some may still read.
  std::array<std::array<std::byte, kLanes * kSlotBytes>, 2> slots_{};
  size_t round_ = 0;

  GuardedMemory shared_memory_{kMaxSharedBytes};
  std::byte* shared_ = nullptr;

  emulation::Turns turns_;
};

// Whose fiber runs on this OS thread; null outside of kernels.
extern constinit thread_local Worker* running_worker;

}  // namespace xlstm::cuda_emulator
