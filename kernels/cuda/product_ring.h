// How product_narrow.cu streams the weights through a block's shared memory. For .cu files only.
#pragma once

#include "kernels/cuda/product_parts.h"

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

// Boxes that are brought to the L2 cache while the warps that multiply prepare x.
constexpr int kPrefetchedBoxes = 12;

// What the warp that copies does: first it fills the ring.
__device__ inline void stream_weights(const ProductArgs& args, const TensorMap* map, const Ring& ring, int block,
                                      int blocks) {
  const bool first_lane = threadIdx.x % kLanes == 0;
  const int tiles = tiles_of(args);
  const Boxes boxes = boxes_of(args, block);
  Position next{block, 0};
  const auto copy = [&](int slot) {
    if (first_lane) {
      arrive_announcing(ring.full + slot, kBoxBytes);
      copy_box(ring.slots + slot * kBoxBytes, map, boxes.place(next.box) * kBoxLines, next.tile * kTileOuts,
               ring.full + slot);
    }
    __syncwarp();
    next.advance(1, boxes, blocks);
  };
  acquire_map(map);
  for (int slot = 0; slot < ring.count && next.tile < tiles; ++slot) copy(slot);
  wait_for_previous();
  Position ahead = next;
  for (int i = 0; i < kPrefetchedBoxes && ahead.tile < tiles; ++i) {
    if (first_lane) prefetch_box(map, boxes.place(ahead.box) * kBoxLines, ahead.tile * kTileOuts);
    ahead.advance(1, boxes, blocks);
  }
  __syncwarp();
  Cursor emptied{0};
  while (next.tile < tiles) {
    wait_at(ring.empty + emptied.slot, emptied.parity);
    copy(emptied.slot);
    emptied.advance(1, ring.count);
  }
}

// Brings a tile's values of [out, groups] to the L2 cache; by a warp.
template <class T>
__device__ inline void prefetch_groups_of(const ProductArgs& args, const T* values, int tile) {
  const int64_t first = int64_t{tile} * kTileOuts * args.groups;
  const int64_t end = least(first + int64_t{kTileOuts} * args.groups, int64_t{args.out} * args.groups);
  constexpr int64_t kStep = kPrefetchBytes / sizeof(T);
  for (int64_t i = first + threadIdx.x % kLanes * kStep; i < end; i += kLanes * kStep) prefetch_line(values + i);
}

// Scales and zeros of a tile, which come too late if they are loaded when they are needed.
template <class F>
__device__ inline void prefetch_groups(const ProductArgs& args, int tile) {
  if (tile >= tiles_of(args)) return;
  if constexpr (F::kHasScale) prefetch_groups_of(args, args.scale, tile);
  if constexpr (F::kHasZero) prefetch_groups_of(args, args.zero, tile);
}

}  // namespace xlstm::cuda
