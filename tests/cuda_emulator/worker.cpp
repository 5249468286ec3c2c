#include "worker.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>

#include "tests/emulation/signals.h"

namespace xlstm::cuda_emulator {
namespace {

// Compared by address.
constexpr char kBarrier[] = "__syncthreads";
constexpr char kWait[] = "wait_for_previous";
constexpr char kEnd[] = "the kernel's end";
constexpr char kSomeBarrier[] = "sync_threads";
constexpr char kPhase[] = "wait_at";
constexpr size_t kCopyBytes = 16;

std::string at(const char* operation, int line) {
  return line == 0 ? std::string(operation) : std::string(operation) + " of line " + std::to_string(line);
}

std::string place(unsigned thread) {
  return "thread " + std::to_string(thread);
}

size_t rounded_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// "…[auto kKernel = NAME; …" as the compiler writes it.
std::string name_of(const Kernel& kernel) {
  const std::string_view text = kernel.name;
  constexpr std::string_view kBefore = "kKernel = ";
  const size_t begin = text.find(kBefore);
  if (begin == std::string_view::npos) return kernel.name;
  const std::string_view rest = text.substr(begin + kBefore.size());
  return std::string(rest.substr(0, rest.find_first_of(";,]")));
}

std::string describe(int signal, const void* address) {
  if (signal == SIGFPE) return "a division by zero";
  // The checks that the compiler puts into kernels stop them by such an instruction.
  if (signal == SIGILL || signal == SIGTRAP) return "a misaligned access, index out of range or arithmetic overflow";
  char text[64];
  snprintf(text, sizeof(text), "an access to %p, where no memory is", address);
  return text;
}

void take_fault(int signal, const void* address) {
  if (running_worker != nullptr) running_worker->fault([&] { return describe(signal, address); });
}

}  // namespace

constinit thread_local Worker* running_worker = nullptr;
constinit thread_local const Index* running_thread = nullptr;
constinit thread_local const Block* running_block = nullptr;

void poison(void* memory, size_t bytes) {
  std::fill_n(static_cast<uint16_t*>(memory), rounded_up(bytes, sizeof(kPoison)) / sizeof(kPoison), kPoison);
}

GuardedMemory::GuardedMemory(size_t capacity)
    : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), bytes_(rounded_up(capacity, page_)) {
  void* memory = mmap(nullptr, bytes_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  mprotect(memory_ + page_, bytes_, PROT_READ | PROT_WRITE);
}

GuardedMemory::~GuardedMemory() {
  munmap(memory_, bytes_ + 2 * page_);
}

std::byte* GuardedMemory::last(size_t bytes, size_t alignment) const {
  return memory_ + page_ + bytes_ - rounded_up(bytes, alignment);
}

Worker::Worker() = default;

void Worker::prepare(Launch& launch) {
  launch_ = &launch;
  emulation::catch_faults_of_this_thread(&take_fault);
  if (launch.grid.threads > fibers_.size()) {
    stacks_ = std::make_unique<emulation::Stacks>(launch.grid.threads);
    fibers_.resize(launch.grid.threads);
    make_fibers();
  }
  warps_ = launch.grid.threads / kLanes;
  stops_.resize(warps_);
  turns_.begin_launch(launch.settings, warps_);
}

void Worker::run(Launch& launch) {
  prepare(launch);
  while (!launch.failed) {
    const size_t next = launch.next++;
    if (next >= launch.order.size()) break;
    begin_block(launch.order[next]);
    run_block();
  }
  launch_ = nullptr;
}

void Worker::begin_early(Launch& launch, uint32_t block) {
  prepare(launch);
  begin_block(block);
  early_ = true;
  run_block();
}

void Worker::finish_early() {
  early_ = false;
  if (launch_->failed) {
    make_fibers();  // wherever they are
  } else {
    run_block();
  }
  launch_ = nullptr;
}

// Fibers stay where their last kernel ended, and begin the next one there; only those that a fault left are made anew.
void Worker::make_fibers() {
  for (size_t i = 0; i < fibers_.size(); ++i) {
    fibers_[i].worker = this;
    fibers_[i].index = {static_cast<unsigned>(i), 0, 0};
    make_context(fibers_[i].context, stacks_->begin(i), stacks_->bytes_of(i), &fiber_main, &fibers_[i]);
  }
  faulted_ = false;
}

void Worker::fiber_main(void* argument) {
  const Fiber& fiber = *static_cast<Fiber*>(argument);
  Worker& self = *fiber.worker;
  emulation::begin_context(*self.previous_);
  for (;;) {
    self.launch_->kernel->body(self.launch_->arguments);
    self.arrive(kEnd, 0);
  }
}

void Worker::begin_block(uint32_t block) {
  const cuda::Grid& grid = launch_->grid;
  block_.index = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
  block_.threads = {grid.threads, 1, 1};
  block_.grid = {grid.x, grid.y, grid.z};
  constexpr size_t kAlignment = 16;  // what XLSTM_DYNAMIC_SHARED promises
  shared_ = shared_memory_.last(grid.shared_bytes, kAlignment);
  poison(shared_, rounded_up(grid.shared_bytes, kAlignment));
  for (unsigned i = 0; i < grid.threads; ++i) {
    fibers_[i].copies.clear();
    fibers_[i].group = 0;
  }
  // By the block, so that a run is the same whichever OS thread takes it.
  turns_.seed(block);
  waited_for_previous_ = false;
  arrived_ = 0;
  std::fill(stops_.begin(), stops_.end(), Stop{});
  barriers_.clear();
  unpublished_ = false;
  turns_.order_warps();
  turns_.order_lanes();
  first_lane_ = turns_.warp(0) * kLanes;
  current_ = first_lane_ + turns_.lane(0);
}

void Worker::run_block() {
  running_worker = this;
  running_block = &block_;
  running_thread = &fibers_[current_].index;
  previous_ = &main_;
  switch_context(main_, fibers_[current_].context);
  running_worker = nullptr;
  if (faulted_) {
    report_fault();
    make_fibers();
  }
}

void Worker::switch_to(unsigned thread) {
  if (thread == current_) return;
  const unsigned from = current_;
  current_ = thread;
  running_thread = &fibers_[thread].index;
  previous_ = &fibers_[from].context;
  switch_context(fibers_[from].context, fibers_[thread].context);
}

void Worker::arrive(const char* operation, int line) {
  arrive({.operation = operation, .line = line});
}

void Worker::arrive(const Stop& stop) {
  if (arrived_ == 0) {
    place_ = stop;
  } else if (stop.line != place_.line ||
             (stop.operation != place_.operation && std::string_view(stop.operation) != place_.operation)) {
    diverged(stop.operation, stop.line, place_.operation, place_.line, first_lane_ + turns_.lane(0));
  } else if (stop.barrier != place_.barrier || stop.number != place_.number || stop.threads != place_.threads) {
    fault([&] { return "is not where the other lanes are at " + at(stop.operation, stop.line); });
  }
  if (++arrived_ < kLanes) {
    switch_to(first_lane_ + turns_.lane(arrived_));
  } else {
    end_round();
  }
}

void Worker::end_round() {
  arrived_ = 0;
  round_ ^= 1;
  for (const char* operation : {kBarrier, kWait, kEnd, kSomeBarrier, kPhase}) {
    if (place_.operation != operation) continue;
    stops_[first_lane_ / kLanes] = place_;
    return schedule();
  }
  turns_.order_lanes();
  switch_to(first_lane_ + turns_.lane(0));
}

void Worker::schedule() {
  for (;;) {
    release_some();
    const size_t skipped = turns_.skipped_warps();
    for (unsigned i = 0; i < warps_; ++i) {
      const unsigned warp = turns_.warp((skipped + i) % warps_);
      if (!can_go_on(stops_[warp])) continue;
      finish_copies(stops_[warp]);
      stops_[warp] = {};
      first_lane_ = warp * kLanes;
      turns_.order_lanes();
      return switch_to(first_lane_ + turns_.lane(0));
    }
    const Stop here = stops_[first_lane_ / kLanes];
    if (here.operation == kEnd && all_stopped_at(here)) return end_block();
    if (here.operation == kBarrier && all_stopped_at(here)) {
      std::fill(stops_.begin(), stops_.end(), Stop{});
      turns_.order_warps();
    } else if (early_) {
      switch_context(fibers_[current_].context, main_);
    } else {
      stuck();
    }
  }
}

bool Worker::can_go_on(const Stop& stop) const {
  if (stop.operation == nullptr) return true;
  if (stop.operation == kWait) return !early_;
  if (stop.operation != kPhase) return false;
  return barriers_.at(stop.barrier).phase % 2 != static_cast<unsigned>(stop.number);
}

void Worker::finish_copies(const Stop& stop) {
  if (stop.operation != kPhase) return;
  PhaseBarrier& barrier = barriers_.at(stop.barrier);
  for (const BulkCopy& copy : barrier.ended) std::memcpy(copy.destination, copy.data.data(), copy.data.size());
  barrier.ended.clear();
}

void Worker::release_some() {
  const Stop here = stops_[first_lane_ / kLanes];
  if (here.operation != kSomeBarrier) return;
  if (std::count(stops_.begin(), stops_.end(), here) * int64_t{kLanes} < here.threads) return;
  std::replace(stops_.begin(), stops_.end(), here, Stop{});
}

bool Worker::all_stopped_at(const Stop& stop) const {
  return std::all_of(stops_.begin(), stops_.end(), [&](const Stop& other) { return other == stop; });
}

void Worker::stuck() {
  const Stop here = stops_[first_lane_ / kLanes];
  for (unsigned warp = 0; warp < warps_; ++warp) {
    const Stop& other = stops_[warp];
    if (other != here) diverged(here.operation, here.line, other.operation, other.line, warp * kLanes);
  }
  fault([&] { return "waits at " + at(here.operation, here.line) + " for what never happens"; });
}

void Worker::end_block() {
  // A kernel that ends before the one before it lets the next one begin too early.
  if (!waited_for_previous_) {
    fault([] { return std::string("no thread of the block has called wait_for_previous()"); });
  }
  for (const auto& [address, barrier] : barriers_) {
    if (!barrier.copies.empty() || !barrier.ended.empty()) {
      fault([] { return std::string("the block ends before its copies were waited for"); });
    }
  }
  switch_context(fibers_[current_].context, main_);
}

const std::byte* Worker::exchange(const void* mine, size_t bytes, const char* operation, int line) {
  auto& slots = slots_[round_];
  if (bytes > 0) std::memcpy(slots.data() + lane() * kSlotBytes, mine, bytes);
  arrive(operation, line);
  return slots.data();
}

void Worker::barrier(int line) {
  arrive(kBarrier, line);
}

void Worker::barrier_of_some(int number, unsigned threads, int line) {
  arrive({.operation = kSomeBarrier, .line = line, .number = number, .threads = threads});
}

void Worker::wait_at(const void* barrier, int parity, int line) {
  static_cast<void>(barrier_at(barrier, line));
  arrive({.operation = kPhase, .line = line, .barrier = barrier, .number = parity});
}

void Worker::wait_for_previous() {
  waited_for_previous_ = true;
  if (early_) arrive(kWait, 0);
}

void Worker::wait_for_turn(const volatile int32_t* now, int32_t number) {
  if (*now >= number) return;
  if (early_) arrive(kWait, 0);  // the kernel before has the turn, and passes it on until it ends
  if (*now < number) {
    fault([&] { return "turn " + std::to_string(number) + " never comes, " + std::to_string(*now) + " stays"; });
  }
}

void Worker::copy_async(void* destination, const void* source) {
  Fiber& fiber = fibers_[current_];
  for (const Copy& other : fiber.copies) {
    if (other.destination == destination)
      fault([] { return std::string("copies to where another copy may still go"); });
  }
  Copy& copy = fiber.copies.emplace_back();
  copy.destination = destination;
  copy.group = fiber.group;
  std::memcpy(copy.data.data(), source, kCopyBytes);
  poison(destination, kCopyBytes);
}

void Worker::commit_copies() {
  ++fibers_[current_].group;
}

void Worker::wait_for_copies(int later_groups) {
  Fiber& fiber = fibers_[current_];
  const auto later = std::find_if(fiber.copies.begin(), fiber.copies.end(),
                                  [&](const Copy& copy) { return copy.group >= fiber.group - later_groups; });
  for (auto copy = fiber.copies.begin(); copy != later; ++copy) {
    std::memcpy(copy->destination, copy->data.data(), kCopyBytes);
  }
  fiber.copies.erase(fiber.copies.begin(), later);
}

void Worker::diverged(const char* operation, int line, const char* other_operation, int other_line, unsigned other) {
  fault([&] {
    return "arrives at " + at(operation, line) + ", but " + place(other) + " at " + at(other_operation, other_line);
  });
}

void Worker::leave() {
  faulted_ = true;
  switch_context(fibers_[current_].context, main_, true);
  __builtin_unreachable();
}

void Worker::report_fault() {
  const std::lock_guard lock(launch_->mutex);
  if (launch_->failed) return;
  launch_->failed = true;
  launch_->fault = "CUDA kernel " + name_of(*launch_->kernel) + " (block " + std::to_string(block_.index.x) + ", " +
                   std::to_string(block_.index.y) + ", " + std::to_string(block_.index.z) + ", " + place(current_) +
                   "): " + fault_ + " [order: " + order_name(launch_->settings) + "]";
}

const std::byte* exchange(const void* mine, size_t bytes, const char* operation, int line) {
  return running_worker->exchange(mine, bytes, operation, line);
}
unsigned current_lane() {
  return running_worker->lane();
}
void barrier(int line) {
  running_worker->barrier(line);
}
void barrier_of_some(int number, unsigned threads, int line) {
  running_worker->barrier_of_some(number, threads, line);
}
void init_barrier(void* barrier, int arrivals) {
  running_worker->init_barrier(barrier, arrivals);
}
void publish_barriers() {
  running_worker->publish_barriers();
}
void arrive_at(const void* barrier, int bytes, int line) {
  running_worker->arrive_at(barrier, bytes, line);
}
void wait_at(const void* barrier, int parity, int line) {
  running_worker->wait_at(barrier, parity, line);
}
void copy_bulk(void* destination, const void* source, size_t bytes, const void* barrier, int line) {
  running_worker->copy_bulk(destination, source, bytes, barrier, line);
}
void copy_box(void* destination, const cuda::TensorMap* map, int line_of_row, int row, const void* barrier, int line) {
  running_worker->copy_box(destination, map, line_of_row, row, barrier, line);
}
void* dynamic_shared() {
  return running_worker->shared();
}
void copy_async(void* destination, const void* source) {
  running_worker->copy_async(destination, source);
}
void commit_copies() {
  running_worker->commit_copies();
}
void wait_for_copies(int later_groups) {
  running_worker->wait_for_copies(later_groups);
}
void wait_for_previous() {
  running_worker->wait_for_previous();
}
void wait_for_turn(const volatile int32_t* now, int32_t number) {
  running_worker->wait_for_turn(now, number);
}
void refuse(const char* what, int line) {
  running_worker->fault([&] { return std::string(what) + " in line " + std::to_string(line); });
}

}  // namespace xlstm::cuda_emulator
