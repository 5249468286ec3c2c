// How product_narrow.cu streams the weights: the lines of a tile that a warp reads, its ring of stages, the scales and
// zeros of a line. For .cu files only.
#pragma once

#include "kernels/cuda/product_parts.h"

namespace xlstm::cuda {

constexpr int kLineBytes = 128;
constexpr int kStageBytes = 64;  // of a W row: half a line
constexpr int kStageTileBytes = kTileOuts * kStageBytes;

// Of a warp, beyond its ring. Kernels with integer codes have no time for it: they are bound by instructions.
template <class F>
constexpr int kPrefetchedLines = F::kBits == 16 ? 6 : 0;

// Of one stage of all warps' rings.
constexpr int kStagesBytes = kProductWarps * kStageTileBytes;

template <class F>
struct RingShape {
  static constexpr int kLineColumns = kLineBytes * 8 / F::kBits;
  static constexpr int kStageColumns = kStageBytes * 8 / F::kBits;
  static constexpr int kBlocks = kStageColumns / kBlockColumns;
};

__device__ inline int tiles_of(const ProductArgs& args) {
  return (args.out + kTileOuts - 1) / kTileOuts;
}

// The lines of a tile's rows. Blocks begin with different ones: if all read the same, tiles being as far from each
// other as a power of two, they would wait for the same part of the memory.
struct Lines {
  int count;
  int first;

  // Where in a row the line is that a block takes as number `line`.
  [[nodiscard]] __device__ inline int place(int line) const {
    const int place = first + line;
    return place < count ? place : place - count;
  }
};

__device__ inline Lines lines_of(const ProductArgs& args, int block) {
  constexpr int kStep = 1009;  // a prime that numbers of lines are hardly multiples of
  const auto count = static_cast<int>((args.row_bytes + kLineBytes - 1) / kLineBytes);
  return {count, block * kStep % count};
}

// What a warp does: the lines of a tile that are its own, tile by tile.
struct Position {
  int tile;
  int line;   // number
  int place;  // in the row
  // A lane's first chunk of the line in row lane / 4 of the tile, and how many such rows, eight apart, there are.
  const uint8_t* from;
  int rows;
};

__device__ inline Position start_of_tile(const ProductArgs& args, const Lines& lines, int tile) {
  constexpr int kRowStep = kTileOuts / 2;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int line = static_cast<int>(threadIdx.x) / kLanes;
  const int place = lines.place(line);
  const int out = tile * kTileOuts + lane / 4;
  const int64_t offset = int64_t{place} * kLineBytes + lane % 4 * kChunkBytes;
  const int rows = out >= args.out ? 0 : out + kRowStep >= args.out ? 1 : 2;
  return {tile, line, place, args.weight + out * args.row_bytes + offset, rows};
}

__device__ inline void to_next_line(const ProductArgs& args, const Lines& lines, Position& at, int tile_step) {
  at.line += kProductWarps;
  at.place += kProductWarps;
  at.from += kProductWarps * kLineBytes;
  if (at.place >= lines.count) {
    at.place -= lines.count;
    at.from -= lines.count * kLineBytes;
  }
  if (at.line >= lines.count) at = start_of_tile(args, lines, at.tile + tile_step);
}

// Starts the copy of a stage by a warp: 16 rows of 64 bytes. Rows behind the last are not copied: what they hold comes
// into results that nobody stores. Nor are bytes behind a row's end, which only integer codes have: x is zero there.
template <int kHalf>
__device__ inline void fetch(const ProductArgs& args, const Position& at, uint8_t* stage) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int chunk = lane % 4;
  if (at.place * kLineBytes + kHalf * kStageBytes + chunk * kChunkBytes < args.row_bytes) {
    const uint8_t* const from = at.from + kHalf * kStageBytes;
    uint8_t* const to = stage + chunk_place<kStageBytes>(lane / 4, chunk);
    if (at.rows > 0) copy_async_16_once(to, from);
    if (at.rows > 1) copy_async_16_once(to + kTileOuts / 2 * kStageBytes, from + kTileOuts / 2 * args.row_bytes);
  }
  commit_copies();
}

// Brings the next lines of a warp to the L2 cache, while the kernel before still computes.
template <class F>
__device__ inline void prefetch(const ProductArgs& args, const Lines& lines, Position at, int tile_step) {
  static_assert(kLineBytes == kPrefetchBytes && kLanes == 2 * kTileOuts);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int i = 0; i < kPrefetchedLines<F>; ++i) {
    const int out = at.tile * kTileOuts + lane % kTileOuts;
    if (i % 2 == lane / kTileOuts && out < args.out) {
      prefetch_line(args.weight + out * args.row_bytes + int64_t{at.place} * kLineBytes);
    }
    to_next_line(args, lines, at, tile_step);
  }
}

// Brings a tile's values of [out, groups] to the L2 cache; by a block.
template <class T>
__device__ inline void prefetch_groups_of(const ProductArgs& args, const T* values, int tile) {
  const int64_t first = int64_t{tile} * kTileOuts * args.groups;
  const int64_t end = least(first + int64_t{kTileOuts} * args.groups, int64_t{args.out} * args.groups);
  constexpr int64_t kStep = kPrefetchBytes / sizeof(T);
  for (int64_t i = first + threadIdx.x * kStep; i < end; i += kProductThreads * kStep) prefetch_line(values + i);
}

// Scales and zeros of a tile, which come too late if they are loaded when they are needed.
template <class F>
__device__ inline void prefetch_groups(const ProductArgs& args, int tile) {
  if (tile >= tiles_of(args)) return;
  if constexpr (F::kHasScale) prefetch_groups_of(args, args.scale, tile);
  if constexpr (F::kHasZero) prefetch_groups_of(args, args.zero, tile);
}

// Scales and zeros of rows g and g + 8. Of a line's spans of kSpan · kBlockColumns columns, each in one group, lane t
// of a quad loads those of t, t + 4, ... for all four.
template <class F, int kSpan>
struct LineGroups {
  static constexpr int kOfStage = RingShape<F>::kBlocks / kSpan;
  static constexpr int kLoads = F::kHasScale ? (2 * kOfStage + 3) / 4 : 1;
  uint16_t scales[kLoads][2];
  uint8_t zeros[kLoads][2];

  // A zero above its scale. Not before it is needed: this waits for both.
  [[nodiscard]] __device__ inline uint32_t value(int load, int row) const {
    return static_cast<uint32_t>(zeros[load][row]) << 16 | scales[load][row];
  }
};

template <class F, int kSpan>
__device__ inline LineGroups<F, kSpan> load_line_groups(const ProductArgs& args, int tile, int place) {
  LineGroups<F, kSpan> groups{};
  if constexpr (F::kHasScale) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int out = tile * kTileOuts + lane / 4;
    const int64_t low = int64_t{least(out, args.out - 1)} * args.groups;
    const int64_t high = int64_t{least(out + kTileOuts / 2, args.out - 1)} * args.groups;
    XLSTM_UNROLL
    for (int i = 0; i < LineGroups<F, kSpan>::kLoads; ++i) {
      const int span = least(4 * i + lane % 4, 2 * LineGroups<F, kSpan>::kOfStage - 1);
      const int group = group_of(args, place * RingShape<F>::kLineColumns + span * kSpan * kBlockColumns);
      groups.scales[i][0] = args.scale[low + group];
      groups.scales[i][1] = args.scale[high + group];
      if constexpr (F::kHasZero) {
        groups.zeros[i][0] = args.zero[low + group];
        groups.zeros[i][1] = args.zero[high + group];
      }
    }
  }
  return groups;
}

// A warp's ring of stages.
template <int kStages>
struct Ring {
  uint8_t* stages;
  int tile_step;
  Position next;  // to be fetched
  int read = 0;   // the stage that is
  int write = kStages - 1;

  __device__ inline void start(const ProductArgs& args, const Lines& lines) {
    if (next.line >= lines.count) next = start_of_tile(args, lines, tiles_of(args));  // nothing is this warp's
    XLSTM_UNROLL
    for (int i = 0; i < kStages - 1; ++i) {
      uint8_t* const stage = stages + i * kStageTileBytes;
      if (i % 2 == 0) {
        fetch<0>(args, next, stage);
      } else {
        fetch<1>(args, next, stage);
        to_next_line(args, lines, next, tile_step);
      }
    }
  }
  // The next stage to be read, half kHalf of a line; the one before it, which all lanes have read, is filled anew.
  template <int kHalf>
  __device__ inline const uint8_t* step(const ProductArgs& args, const Lines& lines) {
    constexpr int kFetched = (kHalf + kStages - 1) % 2;
    wait_for_copies<kStages - 2>();
    __syncwarp();
    fetch<kFetched>(args, next, stages + write * kStageTileBytes);
    if constexpr (kFetched == 1) to_next_line(args, lines, next, tile_step);
    write = read;
    const uint8_t* const stage = stages + read * kStageTileBytes;
    read = read + 1 < kStages ? read + 1 : 0;
    return stage;
  }
};

}  // namespace xlstm::cuda
