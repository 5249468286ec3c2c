// Barriers in shared memory, and the copies that they count.
#include <cstring>
#include <utility>

#include "worker.h"

namespace xlstm::cuda_emulator {
namespace {

// What a barrier's memory holds.
constexpr uint64_t kBarrierMark = 0x7fff7ffe7ffd7ffc;

}  // namespace

void Worker::init_barrier(void* barrier, int arrivals) {
  if (reinterpret_cast<uintptr_t>(barrier) % sizeof(kBarrierMark) != 0 || barriers_.contains(barrier)) {
    fault([] { return std::string("a misaligned barrier, or one that is initialised twice"); });
  }
  std::memcpy(barrier, &kBarrierMark, sizeof(kBarrierMark));
  PhaseBarrier& fresh = barriers_[barrier];
  fresh.arrivals = arrivals;
  fresh.missing = arrivals;
  unpublished_ = true;
}

Worker::PhaseBarrier& Worker::barrier_at(const void* barrier, int line) {
  const auto found = barriers_.find(barrier);
  if (found == barriers_.end() || unpublished_) {
    fault([&] { return "a barrier that was not initialised and published, in line " + std::to_string(line); });
  }
  if (std::memcmp(barrier, &kBarrierMark, sizeof(kBarrierMark)) != 0) {
    fault([&] { return "a barrier that something else was written over, in line " + std::to_string(line); });
  }
  return found->second;
}

void Worker::end_phase_if_complete(PhaseBarrier& barrier) {
  if (barrier.missing > 0 || barrier.announced != barrier.copied) return;
  barrier.missing = barrier.arrivals;
  barrier.announced = 0;
  barrier.copied = 0;
  barrier.ended.insert(barrier.ended.end(), barrier.copies.begin(), barrier.copies.end());
  barrier.copies.clear();
  ++barrier.phase;
}

void Worker::arrive_at(const void* address, int bytes, int line) {
  PhaseBarrier& barrier = barrier_at(address, line);
  if (barrier.missing == 0) {
    fault([&] { return "one arrival too many, in line " + std::to_string(line); });
  }
  --barrier.missing;
  barrier.announced += static_cast<size_t>(bytes);
  end_phase_if_complete(barrier);
}

void Worker::begin_copy(BulkCopy copy, const void* address, int line) {
  PhaseBarrier& barrier = barrier_at(address, line);
  poison(copy.destination, copy.data.size());
  barrier.copied += copy.data.size();
  barrier.copies.push_back(std::move(copy));
  end_phase_if_complete(barrier);
}

void Worker::copy_bulk(void* destination, const void* source, size_t bytes, const void* barrier, int line) {
  const auto* const from = static_cast<const std::byte*>(source);
  begin_copy({destination, {from, from + bytes}}, barrier, line);
}

void Worker::copy_box(void* destination, const cuda::TensorMap* map, int line_of_row, int row, const void* barrier,
                      int line) {
  constexpr size_t kBytes = size_t{cuda::kBoxLines} * cuda::kBoxRows * cuda::kLineBytes;
  constexpr int kChunk = 16;
  BulkCopy copy{destination, std::vector<std::byte>(kBytes)};
  std::byte* to = copy.data.data();
  for (int i = line_of_row; i < line_of_row + cuda::kBoxLines; ++i) {
    for (int j = 0; j < cuda::kBoxRows; ++j, to += cuda::kLineBytes) {
      if (row + j >= map->rows || (i + 1) * cuda::kLineBytes > map->row_bytes) continue;
      const std::byte* const from = map->begin + (row + j) * map->row_bytes + i * cuda::kLineBytes;
      for (int k = 0; k < cuda::kLineBytes; k += kChunk) std::memcpy(to + (k ^ j % 8 * kChunk), from + k, kChunk);
    }
  }
  begin_copy(std::move(copy), barrier, line);
}

}  // namespace xlstm::cuda_emulator
