#include "worker.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>

#include "tests/emulation/signals.h"

namespace xlstm::emulator {
namespace {

constexpr size_t kSlots = 16;
constexpr size_t kSlotBytes = kMaxSharedBytes + 4096;  // an array at the end, and a page that no one may touch

const char* name_of(Op op) {
  switch (op) {
    case Op::kThreadgroupBarrier: return "threadgroup_barrier";
    case Op::kSimdgroupBarrier: return "simdgroup_barrier";
    case Op::kSumFloat:
    case Op::kSumInt: return "simd_sum";
    case Op::kMaxFloat:
    case Op::kMaxInt:
    case Op::kMaxUint: return "simd_max";
    case Op::kMinFloat:
    case Op::kMinInt:
    case Op::kMinUint: return "simd_min";
    case Op::kBroadcast: return "simd_broadcast";
    case Op::kBroadcastFirst: return "simd_broadcast_first";
    case Op::kShuffle: return "simd_shuffle";
    case Op::kShuffleXor: return "simd_shuffle_xor";
    case Op::kShuffleDown: return "simd_shuffle_down";
    case Op::kShuffleUp: return "simd_shuffle_up";
    case Op::kMultiplyMatrices: return "simdgroup_multiply_accumulate";
    case Op::kEnd: return "the kernel's end";
  }
  return "?";
}

std::string at(Op op, int line) {
  return op == Op::kEnd ? name_of(op) : std::string(name_of(op)) + " of line " + std::to_string(line);
}

// As a binary tree, neighbours first.
template <class T, class Combine>
uint32_t reduce(const std::array<uint32_t, kLanes>& values, Combine combine) {
  std::array<T, kLanes> tree = std::bit_cast<std::array<T, kLanes>>(values);
  for (unsigned width = kLanes / 2; width > 0; width /= 2) {
    for (unsigned i = 0; i < width; ++i) tree[i] = combine(tree[2 * i], tree[2 * i + 1]);
  }
  return std::bit_cast<uint32_t>(tree[0]);
}

// What a lane gets that no lane gives anything: a signalling NaN.
constexpr uint32_t kPoison = 0x7fa0dead;

void take_fault(int signal, const void* address) {
  if (running_worker == nullptr) return;
  running_worker->fault_at(signal == SIGSEGV || signal == SIGBUS ? address : nullptr);
}

}  // namespace

constinit thread_local Worker* running_worker = nullptr;

Worker::Worker() {
  void* memory = mmap(nullptr, kSlots * kSlotBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  arrays_.resize(kSlots);
  for (size_t i = 0; i < kSlots; ++i) {
    arrays_[i].slot = static_cast<char*>(memory) + i * kSlotBytes;
    mprotect(arrays_[i].slot + kMaxSharedBytes, kSlotBytes - kMaxSharedBytes, PROT_NONE);
  }
}

Worker::~Worker() {
  munmap(arrays_[0].slot, kSlots * kSlotBytes);
}

void Worker::run(Launch& launch) {
  launch_ = &launch;
  emulation::catch_faults_of_this_thread(&take_fault);
  if (launch.threads > fibers_.size()) {
    stacks_ = std::make_unique<Stacks>(launch.threads);
    fibers_.resize(launch.threads);
    make_fibers();
  }
  simdgroups_ = launch.threads / kLanes;
  simd_barriers_.assign(simdgroups_, {});
  instrumented_ = launch.settings.check_bounds;
  turns_.begin_launch(launch.settings, simdgroups_);
  static const Range kNone;
  while (!launch.failed) {
    const size_t next = launch.next++;
    if (next >= launch.order.size()) break;
    last_range_ = {&kNone, &kNone};
    run_group(launch.order[next]);
  }
  launch_ = nullptr;
}

// Fibers stay where their last kernel ended, and begin the next one there; only those that a fault left are made anew.
void Worker::make_fibers() {
  for (size_t i = 0; i < fibers_.size(); ++i) {
    fibers_[i].worker = this;
    fibers_[i].index = static_cast<unsigned>(i);
    make_context(fibers_[i].context, stacks_->begin(i), stacks_->bytes_of(i), &fiber_main, &fibers_[i]);
  }
  faulted_ = false;
}

void Worker::fiber_main(void* argument) {
  const Fiber& fiber = *static_cast<Fiber*>(argument);
  Worker& self = *fiber.worker;
  begin_context(*self.previous_);
  for (;;) {
    const CompiledKernel& kernel = *self.launch_->kernel;
    kernel.run(kernel.function, self.launch_->buffers.data(),
               metal::uint3(self.group_[0], self.group_[1], self.group_[2]), fiber.index / kLanes,
               fiber.index % kLanes);
    self.arrive(Op::kEnd, 0);
  }
}

void Worker::run_group(uint32_t group) {
  const uint64_t columns = launch_->groups[0];
  const uint64_t rows = launch_->groups[1];
  group_ = {static_cast<uint32_t>(group % columns), static_cast<uint32_t>(group / columns % rows),
            static_cast<uint32_t>(group / columns / rows)};
  for (Fiber& fiber : fibers_) fiber.arrays = 0;
  for (SharedArray& array : arrays_) array.range.bytes = 0;
  shared_bytes_ = 0;
  group_number_ = launch_->first_group + group;
  ++groups_run_;
  arrived_ = 0;
  stopped_ = 0;
  turns_.order_warps();
  turns_.order_lanes();
  first_lane_ = turns_.warp(0) * kLanes;
  current_ = first_lane_ + turns_.lane(0);
  running_worker = this;
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
  previous_ = &fibers_[from].context;
  switch_context(fibers_[from].context, fibers_[thread].context);
}

void Worker::arrive(Op op, int line) {
  if (arrived_ == 0) {
    op_ = op;
    line_ = line;
  } else if (op != op_ || line != line_) {
    diverged(op, line, op_, line_, first_lane_ + turns_.lane(0));
  }
  if (++arrived_ < kLanes) {
    switch_to(first_lane_ + turns_.lane(arrived_));
  } else {
    end_round();
  }
}

void Worker::end_round() {
  arrived_ = 0;
  if (op_ == Op::kThreadgroupBarrier || op_ == Op::kEnd) {
    if (stopped_ == 0) {
      stop_op_ = op_;
      stop_line_ = line_;
    } else if (op_ != stop_op_ || line_ != stop_line_) {
      diverged(op_, line_, stop_op_, stop_line_, turns_.warp(0) * kLanes);
    }
    if (++stopped_ == simdgroups_) {
      stopped_ = 0;
      if (op_ == Op::kEnd) {
        switch_context(fibers_[current_].context, main_);
        return;
      }
      count_barrier(barriers_);
      turns_.order_warps();
    }
    first_lane_ = turns_.warp(stopped_) * kLanes;
  } else {
    complete();
  }
  turns_.order_lanes();
  switch_to(first_lane_ + turns_.lane(0));
}

void Worker::complete() {
  const auto fill = [this](uint32_t bits) { results_.fill(bits); };
  // Of each lane, the value of the lane that `source` says.
  const auto move = [this](auto source) {
    for (unsigned i = 0; i < kLanes; ++i) {
      const unsigned from = source(i, sources_[i]);
      results_[i] = from < kLanes ? values_[from] : kPoison;
    }
  };
  switch (op_) {
    case Op::kSumFloat: return fill(reduce<float>(values_, [](float a, float b) { return a + b; }));
    case Op::kSumInt: return fill(reduce<uint32_t>(values_, [](uint32_t a, uint32_t b) { return a + b; }));
    case Op::kMaxFloat: return fill(reduce<float>(values_, [](float a, float b) { return std::fmax(a, b); }));
    case Op::kMinFloat: return fill(reduce<float>(values_, [](float a, float b) { return std::fmin(a, b); }));
    case Op::kMaxInt: return fill(reduce<int32_t>(values_, [](int32_t a, int32_t b) { return std::max(a, b); }));
    case Op::kMinInt: return fill(reduce<int32_t>(values_, [](int32_t a, int32_t b) { return std::min(a, b); }));
    case Op::kMaxUint: return fill(reduce<uint32_t>(values_, [](uint32_t a, uint32_t b) { return std::max(a, b); }));
    case Op::kMinUint: return fill(reduce<uint32_t>(values_, [](uint32_t a, uint32_t b) { return std::min(a, b); }));
    case Op::kBroadcastFirst: return fill(values_[0]);
    case Op::kBroadcast:
      for (const uint32_t source : sources_) {
        if (source != sources_[0])
          fault([&] { return "simd_broadcast of line " + std::to_string(line_) + " with different lanes"; });
      }
      [[fallthrough]];
    case Op::kShuffle: return move([](unsigned, unsigned source) { return source; });
    case Op::kShuffleXor: return move([](unsigned lane, unsigned mask) { return lane ^ mask; });
    case Op::kShuffleDown: return move([](unsigned lane, unsigned delta) { return lane + delta; });
    case Op::kShuffleUp: return move([](unsigned lane, unsigned delta) { return lane - delta; });
    case Op::kMultiplyMatrices: {
      Matrices& m = matrices_;
      std::memcpy(m.d, m.c, sizeof(m.d));
      for (int row = 0; row < 8; ++row) {
        for (int k = 0; k < 8; ++k) {
          for (int column = 0; column < 8; ++column) m.d[row * 8 + column] += m.a[row * 8 + k] * m.b[k * 8 + column];
        }
      }
      return;
    }
    case Op::kSimdgroupBarrier: return count_barrier(simd_barriers_[first_lane_ / kLanes]);
    case Op::kThreadgroupBarrier:
    case Op::kEnd: return;
  }
}

uint32_t Worker::meet(Op op, uint32_t bits, uint32_t lanes, int line) {
  const unsigned lane = current_ % kLanes;
  values_[lane] = bits;
  sources_[lane] = lanes;
  arrive(op, line);
  return results_[lane];
}

void Worker::barrier(Op op, unsigned mem_flags, int line) {
  mem_flags_ = mem_flags;
  arrive(op, line);
}

// Barriers are counted apart for each kind of memory: one that names only the other does not order accesses.
void Worker::count_barrier(Barriers& barriers) const {
  barriers[0] += mem_flags_ & 1;
  barriers[1] += mem_flags_ >> 1 & 1;
}

Pair Worker::multiply(Pair a, Pair b, Pair c, int line) {
  const unsigned lane = current_ % kLanes;
  const unsigned at = ((lane / 4 & 4) + lane / 2 % 4) * 8 + (lane / 4 & 2) * 2 + lane % 2 * 2;
  std::memcpy(matrices_.a + at, &a, sizeof(Pair));
  std::memcpy(matrices_.b + at, &b, sizeof(Pair));
  std::memcpy(matrices_.c + at, &c, sizeof(Pair));
  arrive(Op::kMultiplyMatrices, line);
  Pair d;
  std::memcpy(&d, matrices_.d + at, sizeof(Pair));
  return d;
}

void* Worker::shared(const SharedDeclaration& declared) {
  const unsigned index = fibers_[current_].arrays++;
  if (index >= kSlots) fault([] { return "more than " + std::to_string(kSlots) + " threadgroup arrays"; });
  SharedArray& array = arrays_[index];
  if (array.range.bytes == 0) {
    shared_bytes_ += declared.bytes;
    if (shared_bytes_ > kMaxSharedBytes) {
      fault([&] { return std::to_string(shared_bytes_) + " bytes of threadgroup memory, at most 32768 are there"; });
    }
    array.line = declared.line;
    array.range.begin = reinterpret_cast<uintptr_t>(array.slot + kMaxSharedBytes - declared.bytes);
    array.range.bytes = declared.bytes;
    array.range.writable = true;
    array.range.is_threadgroup = true;
    array.range.name = std::string("threadgroup array ") + declared.name;
    array.range.shadow = nullptr;
    if (launch_->settings.check_races) {
      array.shadow.resize(declared.bytes, declared.element_bytes);
      array.range.shadow = &array.shadow;
    }
    auto* memory = reinterpret_cast<char*>(array.range.begin);
    for (size_t i = 0; i < declared.bytes; i += sizeof(kPoison)) {
      std::memcpy(memory + i, &kPoison, std::min(sizeof(kPoison), declared.bytes - i));
    }
  } else if (array.line != declared.line || array.range.bytes != declared.bytes) {
    fault([&] {
      return std::string("threadgroup array ") + declared.name + " of line " + std::to_string(declared.line) +
             " declared in another order than by the threads before";
    });
  }
  return reinterpret_cast<void*>(array.range.begin);
}

std::string Worker::place(unsigned thread) const {
  return "simdgroup " + std::to_string(thread / kLanes) + ", lane " + std::to_string(thread % kLanes);
}

void Worker::diverged(Op op, int line, Op other_op, int other_line, unsigned other) {
  fault([&] { return "arrives at " + at(op, line) + ", but " + place(other) + " at " + at(other_op, other_line); });
}

void threadgroup_barrier(unsigned mem_flags, int line) {
  running_worker->barrier(Op::kThreadgroupBarrier, mem_flags, line);
}
void simdgroup_barrier(unsigned mem_flags, int line) {
  running_worker->barrier(Op::kSimdgroupBarrier, mem_flags, line);
}
uint32_t meet(Op op, uint32_t bits, uint32_t lanes, int line) {
  return running_worker->meet(op, bits, lanes, line);
}
Pair multiply_matrices(Pair a, Pair b, Pair c, int line) {
  return running_worker->multiply(a, b, c, line);
}
void* shared_memory(const SharedDeclaration& declaration) {
  return running_worker->shared(declaration);
}
unsigned current_lane() {
  return running_worker->lane();
}

}  // namespace xlstm::emulator
