// Memory that kernels access, and what ends them.
#include <algorithm>
#include <string>
#include <vector>

#include "worker.h"

// Where this executable begins and ends, by the linker.
extern "C" const char __executable_start;
extern "C" const char _end;

namespace xlstm::emulator {

const Range* Worker::find_range(uintptr_t address, size_t bytes, bool write) {
  const auto stack = reinterpret_cast<uintptr_t>(stacks_->begin(current_));
  if (address - stack <= Stacks::kBytes - bytes) return nullptr;
  const auto accept = [&](const Range& range) {
    if (!range.contains(address, bytes)) return false;
    if (write && !range.writable) fault([&] { return "writes to " + range.name + ", which is const"; });
    if (!range.overlaps_writable) last_range_[write] = &range;
    return true;
  };
  for (const SharedArray& array : arrays_) {
    if (array.range.bytes == 0) break;
    if (accept(array.range)) return &array.range;
  }
  // A tensor may be given twice, once to be written.
  for (const bool writable : {true, false}) {
    for (const Range& range : launch_->ranges) {
      if (range.writable == writable && accept(range)) return &range;
    }
  }
  // Constants of the shaders.
  const auto image = reinterpret_cast<uintptr_t>(&__executable_start);
  if (!write && address - image < reinterpret_cast<uintptr_t>(&_end) - image) return nullptr;
  fault([&] { return describe_outside(address, bytes, write); });
}

void Worker::check_race(const Range& range, uintptr_t address, size_t bytes, bool write) {
  const bool is_shared = range.is_threadgroup;
  Stamp now;
  now.group = is_shared ? groups_run_ : group_number_;
  now.barriers = barriers_[is_shared];
  now.simd_barriers = simd_barriers_[current_ / kLanes][is_shared];
  now.thread = static_cast<uint16_t>(current_);
  if (!range.shadow->access(address - range.begin, bytes, write, now, is_shared ? groups_run_ : launch_->first_group,
                            is_shared, fault_)) {
    fault([&] { return fault_ + " (" + range.name + ")"; });
  }
}

std::string Worker::describe_outside(uintptr_t address, size_t bytes, bool write) const {
  const std::string access = std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes ";
  if (address < 4096) return access + "at a null pointer";
  const Range* nearest = nullptr;
  uintptr_t nearest_distance = UINTPTR_MAX;
  const auto consider = [&](const Range& range) {
    const uintptr_t distance =
        address < range.begin ? range.begin - address : address - std::min(address, range.begin + range.bytes);
    if (range.bytes == 0 || distance >= nearest_distance) return;
    nearest = &range;
    nearest_distance = distance;
  };
  for (const SharedArray& array : arrays_) consider(array.range);
  for (const Range& range : launch_->ranges) consider(range);
  if (nearest == nullptr) return access + "outside of all buffers";
  return access + std::to_string(nearest_distance) + " bytes " +
         (address < nearest->begin ? "before " : "past the end of ") + nearest->name + " (" +
         std::to_string(nearest->bytes) + " bytes)";
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
  launch_->fault = "Metal kernel " + launch_->kernel->name + " (threadgroup " + std::to_string(group_[0]) + ", " +
                   std::to_string(group_[1]) + ", " + std::to_string(group_[2]) + ", " + place(current_) +
                   "): " + fault_ + " [order: " + order_name(launch_->settings) + "]";
}

void Worker::fault_at(const void* address) {
  const char* stack = stacks_->begin(current_);
  const auto* at = static_cast<const char*>(address);
  fault([&] {
    if (address == nullptr) return "the processor refuses an operation or a null pointer";
    if (at < stack && at >= stack - Stacks::kBytes) return "the stack of a thread overflows its 128 KiB";
    return "accesses memory that is not there";
  });
}

}  // namespace xlstm::emulator
