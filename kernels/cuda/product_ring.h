// How product_narrow.cu streams the weights through a block's shared memory. For .cu files only.
#pragma once

#include "kernels/cuda/product_line.h"

namespace xlstm::cuda {

// A slot holds a box: kBoxLines lines of a tile. The warps that multiply share it by teams, a line each: so it is soon
// free for the next copy.
constexpr int kTeams = kProductWarps / kBoxLines;
static_assert(kTileOuts == kBoxRows);

__device__ inline int tiles_of(const ProductArgs& args) {
  return (args.out + kTileOuts - 1) / kTileOuts;
}

__device__ inline int lines_of(const ProductArgs& args) {
  return static_cast<int>(args.row_bytes / kLineBytes);
}

// The boxes of a tile. Blocks begin with different ones: if all read the same, tiles being as far from each other as a
// power of two, they would wait for the same part of the memory.
struct Boxes {
  int count;
  int first;

  // Where in the rows the box is that a block takes as number `box`.
  [[nodiscard]] __device__ inline int place(int box) const {
    const int place = first + box;
    return place < count ? place : place - count;
  }
};

__device__ inline Boxes boxes_of(const ProductArgs& args, int block) {
  constexpr int kStep = 1009;  // a prime that numbers of boxes are hardly multiples of
  const int count = (lines_of(args) + kBoxLines - 1) / kBoxLines;
  return {count, block * kStep % count};
}

// Where a team of warps, or the one that copies, is among the boxes of a block's tiles.
struct Position {
  int tile;
  int box;

  __device__ inline void advance(int boxes, const Boxes& of_tile, int tile_step) {
    box += boxes;
    while (box >= of_tile.count) {
      box -= of_tile.count;
      tile += tile_step;
    }
  }
};

// Slots that are filled and emptied in the order of the boxes. Their number is a multiple of kTeams, so that a slot is
// always the same team's.
struct Ring {
  uint8_t* slots;
  uint8_t* groups;  // BoxGroups::kBytes for each slot
  SharedBarrier* full;
  SharedBarrier* empty;
  int count;
};

// One of `count` slots that are taken in turn; the parity changes with every round.
struct Cursor {
  int slot;
  int parity = 0;

  __device__ inline void advance(int slots, int count) {
    slot += slots;
    if (slot < count) return;
    slot -= count;
    parity ^= 1;
  }
};

// Of the box at `place` in a tile.
template <class F>
__device__ inline int first_group(const ProductArgs& args, int place) {
  return group_of(args, place * BoxGroups<F>::kColumns);
}

// The copies into one slot; by one thread.
template <class F>
__device__ inline void fill_slot(const ProductArgs& args, const TensorMap* map, const Ring& ring, int slot, int tile,
                                 int place) {
  SharedBarrier* const full = ring.full + slot;
  int groups = 0;
  int first = 0;
  if constexpr (F::kHasScale) {
    first = first_group<F>(args, place);
    groups = group_of(args, (place + 1) * BoxGroups<F>::kColumns - kBlockColumns) - first + 1;
  }
  arrive_announcing(full, kBoxBytes + groups * (BoxGroups<F>::kScaleBytes + BoxGroups<F>::kZeroBytes));
  copy_box(ring.slots + slot * kBoxBytes, map, place * kBoxLines, tile * kTileOuts, full);
  if constexpr (F::kHasScale) {
    const int64_t from = first_of_group(args, tile, first);
    uint8_t* const to = ring.groups + slot * BoxGroups<F>::kBytes;
    copy_bulk(to, args.scale + from, groups * BoxGroups<F>::kScaleBytes, full);
    if constexpr (F::kHasZero) {
      copy_bulk(to + BoxGroups<F>::kMost * BoxGroups<F>::kScaleBytes, args.zero + from,
                groups * BoxGroups<F>::kZeroBytes, full);
    }
  }
}

// Boxes that are brought to the L2 cache behind those in the ring. More measured slower.
constexpr int kPrefetchedBoxes = 6;

// What the warp that copies does: first it fills the ring.
template <class F>
__device__ inline void stream_weights(const ProductArgs& args, const TensorMap* map, const Turn& turn, const Ring& ring,
                                      int block, int blocks) {
  const bool first_lane = lane_of_warp() == 0;
  const int tiles = tiles_of(args);
  const Boxes boxes = boxes_of(args, block);
  Position next{block, 0};
  const auto copy = [&](int slot) {
    if (first_lane) fill_slot<F>(args, map, ring, slot, next.tile, boxes.place(next.box));
    __syncwarp();
    next.advance(1, boxes, blocks);
  };
  acquire_map(map);
  wait_for_turn(turn, block);
  for (int slot = 0; slot < ring.count && next.tile < tiles; ++slot) copy(slot);
  Position ahead = next;
  for (int i = 0; i < kPrefetchedBoxes && ahead.tile < tiles; ++i) {
    if (first_lane) prefetch_box(map, boxes.place(ahead.box) * kBoxLines, ahead.tile * kTileOuts);
    ahead.advance(1, boxes, blocks);
  }
  __syncwarp();
  wait_for_previous();
  Cursor emptied{0};
  while (next.tile < tiles) {
    wait_at(ring.empty + emptied.slot, emptied.parity);
    copy(emptied.slot);
    emptied.advance(1, ring.count);
  }
  if (first_lane) pass_turn(turn, block);
}

}  // namespace xlstm::cuda
