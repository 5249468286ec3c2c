// Products of up to eight rows of x, which wait for memory alone.
//
// Blocks stay and take one tile of 16 W rows after the other; x stands in their shared memory. The warps of a block
// share a tile's columns: each reads lines of 128 bytes, kProductWarps apart, by asynchronous copies into a ring of its
// own, which run ahead over the ends of tiles. The first go before wait_for_previous(), as soon as blocks of the kernel
// before leave a processor.
#include <algorithm>
#include <string>

#include "kernels/cuda/product_ring.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kTileSums = kTileOuts * kTileRows;
// The sums of all warps, of two tiles by turns.
constexpr int kSumBytes = 2 * kProductWarps * kTileSums * static_cast<int>(sizeof(float));
// Keeps rows of x apart in the banks.
constexpr int kInputPadBytes = 64;

constexpr int kDeepStages = 8;
constexpr int kShallowStages = 5;
constexpr int kBlocksPerProcessor = 2;
// Two blocks, with their static shared memory and the 1 KB that CUDA takes for each, fill a processor's 228 KB.
constexpr int kHalfSharedBytes = 113 * 1024 - 256;
// Where x is larger, copying it to every block would take too long.
constexpr int kMostInputBytes = 96 * 1024;

// Without padding.
struct NarrowArgs {
  ProductArgs product;
  ProductArgs side;  // a product with a float32 matrix, of the same rows of x
  int32_t blocks;    // those behind them do `side`
  int32_t side_blocks;
};

// sums += W · x of block `block` of a stage, without scales. `low` and `high` hold zeros, as LineGroups::value() has
// them.
template <class F>
__device__ inline void multiply_block(const uint8_t* stage, const __nv_bfloat16* x, int block, uint32_t low,
                                      uint32_t high, float (&sums)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int byte = (4 * block + lane % 4) * F::kBits;
  const uint8_t* const from = stage + chunk_place<kStageBytes>(lane / 4, byte / kChunkBytes) + byte % kChunkBytes;
  const auto raw_low = *reinterpret_cast<const typename F::Raw*>(from);
  const auto raw_high = *reinterpret_cast<const typename F::Raw*>(from + kTileOuts / 2 * kStageBytes);
  const uint4 ordered = *reinterpret_cast<const uint4*>(x + block * kBlockColumns);
  const uint32_t factors[4] = {ordered.x, ordered.y, ordered.z, ordered.w};
  uint32_t low_pairs[F::kParts][4];
  uint32_t high_pairs[F::kParts][4];
  F::widen(raw_low, low >> 16, low_pairs);
  F::widen(raw_high, high >> 16, high_pairs);
  add_products<F>(low_pairs, high_pairs, factors, sums);
}

// sums += W · x of a stage. `x`: the lane's columns of the stage in the row of x that its quad has.
template <class F, int kSpan, int kHalf>
__device__ inline void multiply_stage(const uint8_t* stage, const __nv_bfloat16* x, const LineGroups<F, kSpan>& groups,
                                      float (&sums)[4]) {
  constexpr int kOfStage = LineGroups<F, kSpan>::kOfStage;
  XLSTM_UNROLL
  for (int span = 0; span < kOfStage; ++span) {
    if constexpr (!F::kHasScale) {
      multiply_block<F>(stage, x, span, 0, 0, sums);
    } else {
      const int of_line = kHalf * kOfStage + span;
      const uint32_t low = __shfl_sync(kAllLanes, groups.value(of_line / 4, 0), of_line % 4, 4);
      const uint32_t high = __shfl_sync(kAllLanes, groups.value(of_line / 4, 1), of_line % 4, 4);
      float part[4] = {};
      XLSTM_UNROLL
      for (int i = 0; i < kSpan; ++i) multiply_block<F>(stage, x, span * kSpan + i, low, high, part);
      XLSTM_UNROLL
      for (int i = 0; i < 4; ++i) sums[i] = fmaf(half_value((i < 2 ? low : high) & 0xffffU), part[i], sums[i]);
    }
  }
}

// [rows of x][rows of W] of a warp.
__device__ inline void put_sums(const float (&sums)[4], float* to) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  XLSTM_UNROLL
  for (int i = 0; i < 4; ++i) to[(lane % 4 * 2 + i % 2) * kTileOuts + lane / 4 + i / 2 * kTileOuts / 2] = sums[i];
}

// The sum over all warps.
__device__ inline float total(const float* sums, int index) {
  float sum = 0;
  XLSTM_UNROLL
  for (int warp = 0; warp < kProductWarps; ++warp) sum += sums[warp * kTileSums + index];
  return sum;
}

__device__ inline void finish_tile(const ProductArgs& args, int tile, const float* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  if (!is_gate_up(args)) {
    const int out = tile * kTileOuts + thread % kTileOuts;
    const int row = thread / kTileOuts;
    if (row < args.rows && out < args.out) put(args, row, out, total(sums, thread));
    return;
  }
  constexpr int kPairs = kTileOuts / 2;
  const int pair = thread % kPairs;
  const int row = thread / kPairs;
  if (row < args.rows) {
    put_gate_up(args, row, tile * kPairs + pair, tile * kTileOuts + pair, total(sums, row * kTileOuts + pair),
                total(sums, row * kTileOuts + pair + kPairs));
  }
  if (tile == tiles_of(args) - 1) put_padding(args, 0, args.rows);
}

// Rows of x as the kernel before wrote them; behind their padding zeros.
template <class F>
__device__ inline void copy_rows(const ProductArgs& args, __nv_bfloat16* rows, int stride, int columns) {
  constexpr int kChunkColumns = kChunkBytes / 2;
  constexpr int kBatch = 8;  // loads that a thread has under way
  const int chunks = columns / kChunkColumns;
  const int present = static_cast<int>((args.in + kColumnPad - 1) / kColumnPad * kColumnPad) / kChunkColumns;
  const auto* const x = static_cast<const __nv_bfloat16*>(args.x);
  const auto skip = [&](int& row, int& chunk) {
    while (chunk >= chunks) {
      chunk -= chunks;
      ++row;
    }
  };
  int row = 0;
  int chunk = static_cast<int>(threadIdx.x);
  skip(row, chunk);
  while (row < args.rows) {
    uint4 values[kBatch];
    int places[kBatch];
    XLSTM_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      const int column = chunk * kChunkColumns;
      places[i] = row < args.rows ? row * stride + column : -1;
      values[i] = row < args.rows && chunk < present ? *reinterpret_cast<const uint4*>(x + row * args.x_stride + column)
                                                     : uint4{};
      chunk += kProductThreads;
      skip(row, chunk);
    }
    XLSTM_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (places[i] < 0) break;
      uint32_t pairs[4];
      F::order(values[i], pairs);
      *reinterpret_cast<uint4*>(rows + places[i]) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
    }
  }
}

template <class F>
__device__ inline void fill_rows(const ProductArgs& args, const Sweep& gains, __nv_bfloat16* rows, int stride,
                                 int columns) {
  if (args.norm == InputNorm::kNone) copy_rows<F>(args, rows, stride, columns);
  if (args.norm == InputNorm::kRms) fill_rms<F>(args, gains, rows, stride, columns);
  if (args.norm == InputNorm::kGatedHead) fill_heads<F>(args, gains, rows, stride, columns);
  __syncthreads();
}

template <class F, int kSpan, int kStages>
__device__ inline void narrow_block(const ProductArgs& args, int block, int blocks, uint8_t* shared) {
  auto* const sums_of_warps = reinterpret_cast<float*>(shared + kStages * kStagesBytes);
  auto* const rows = reinterpret_cast<__nv_bfloat16*>(shared + kStages * kStagesBytes + kSumBytes);
  const Lines lines = lines_of(args, block);
  const int columns = lines.count * RingShape<F>::kLineColumns;
  const int stride = columns + kInputPadBytes / 2;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;

  Ring<kStages> ring{shared + warp * kStages * kStageTileBytes, blocks, start_of_tile(args, lines, block)};
  ring.start(args, lines);
  LineGroups<F, kSpan> next_groups = load_line_groups<F, kSpan>(args, block, lines.place(warp));
  prefetch<F>(args, lines, ring.next, blocks);
  prefetch_groups<F>(args, block + blocks);
  const Sweep gains = load_gains(args);
  wait_for_previous();
  fill_rows<F>(args, gains, rows, stride, columns);

  const __nv_bfloat16* const x = rows + least(lane / 4, args.rows - 1) * stride + lane % 4 * kLaneColumns;
  int turn = 0;
  for (int tile = block; tile < tiles_of(args); tile += blocks) {
    prefetch_groups<F>(args, tile + 2 * blocks);
    float sums[4] = {};
    for (int line = warp; line < lines.count; line += kProductWarps) {
      const LineGroups<F, kSpan> groups = next_groups;
      const bool last = line + kProductWarps >= lines.count;
      next_groups = load_line_groups<F, kSpan>(args, last ? tile + blocks : tile,
                                               lines.place(last ? warp : line + kProductWarps));
      const __nv_bfloat16* const from = x + lines.place(line) * RingShape<F>::kLineColumns;
      multiply_stage<F, kSpan, 0>(ring.template step<0>(args, lines), from, groups, sums);
      multiply_stage<F, kSpan, 1>(ring.template step<1>(args, lines), from + RingShape<F>::kStageColumns, groups, sums);
    }
    float* const of_tile = sums_of_warps + turn * kProductWarps * kTileSums;
    put_sums(sums, of_tile + warp * kTileSums);
    __syncthreads();
    finish_tile(args, tile, of_tile);
    turn ^= 1;
  }
}

// Row `out` of a float32 W by the rows of x in shared memory, `columns` apart; by a warp.
__device__ inline void multiply_side_row(const ProductArgs& args, int out, const float* rows, int columns) {
  constexpr int kVector = 4;
  constexpr int kBatch = 8;  // vectors that a lane has under way
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto* const weights = reinterpret_cast<const float4*>(args.weight + out * args.row_bytes);
  const int vectors = columns / kVector;
  float sums[kFusedNormRows] = {};
  for (int first = lane; first < vectors; first += kBatch * kLanes) {
    float4 w[kBatch];
    XLSTM_UNROLL
    for (int i = 0; i < kBatch; ++i) w[i] = __ldg(weights + least(first + i * kLanes, vectors - 1));
    XLSTM_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * kLanes >= vectors) break;
      XLSTM_UNROLL
      for (int row = 0; row < kFusedNormRows; ++row) {
        if (row >= args.rows) break;
        const float4 x = *reinterpret_cast<const float4*>(rows + row * columns + (first + i * kLanes) * kVector);
        sums[row] = fmaf(w[i].w, x.w, fmaf(w[i].z, x.z, fmaf(w[i].y, x.y, fmaf(w[i].x, x.x, sums[row]))));
      }
    }
  }
  XLSTM_UNROLL
  for (int row = 0; row < kFusedNormRows; ++row) {
    if (row >= args.rows) break;
    const float sum = warp_sum(sums[row]);
    if (lane == 0) put(args, row, out, sum);
  }
}

__device__ inline void side_block(const ProductArgs& args, int block, int blocks, float* rows) {
  const int columns = static_cast<int>((args.in + kColumnPad - 1) / kColumnPad * kColumnPad);
  const Sweep gains = load_gains(args);
  wait_for_previous();
  fill_rms<InOrder>(args, gains, rows, columns, columns);
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  for (int out = block * kProductWarps + warp; out < args.out; out += blocks * kProductWarps) {
    multiply_side_row(args, out, rows, columns);
  }
}

// Grid: [blocks, any number up to one per tile, and side_blocks].
template <class F, int kSpan, int kStages>
__global__ void __launch_bounds__(kProductThreads, kBlocksPerProcessor) narrow_product(NarrowArgs args) {
  XLSTM_DYNAMIC_SHARED(uint8_t, shared);
  start_next();
  const int block = static_cast<int>(blockIdx.x);
  if (block < args.blocks) {
    narrow_block<F, kSpan, kStages>(args.product, block, args.blocks, shared);
  } else {
    side_block(args.side, block - args.blocks, args.side_blocks, reinterpret_cast<float*>(shared));
  }
}

int bits_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8: return Int8Weights::kBits;
    case WeightFormat::kInt4: return Int4Weights::kBits;
    default: return Bfloat16Weights::kBits;
  }
}

int64_t input_bytes(WeightFormat format, const ProductArgs& args) {
  const int64_t columns = blocks_of(args.row_bytes, kLineBytes) * kLineBytes * 8 / bits_of(format);
  return args.rows * (columns * 2 + kInputPadBytes);
}

int64_t shared_bytes(WeightFormat format, const ProductArgs& args, int stages) {
  return stages * kStagesBytes + kSumBytes + input_bytes(format, args);
}

// As many stages as leave room for a second block on the processor, or at least for this one.
int stages_for(WeightFormat format, const ProductArgs& args) {
  for (const int64_t room : {kHalfSharedBytes, kMaxSharedBytes}) {
    for (const int stages : {kDeepStages, kShallowStages}) {
      if (shared_bytes(format, args, stages) <= room) return stages;
    }
  }
  return 0;
}

int64_t side_bytes(const ProductArgs& side) {
  return side.rows * padded_columns(side.in) * static_cast<int64_t>(sizeof(float));
}

template <class F, int kSpan, int kStages>
void append(Queue& queue, NarrowArgs args, int64_t shared) {
  const int64_t tiles = blocks_of(args.product.out, kTileOuts);
  // All blocks have the same number of tiles or one less.
  const int64_t turns = blocks_of(tiles, processors(queue.device()) * kBlocksPerProcessor);
  args.blocks = static_cast<int32_t>(blocks_of(tiles, turns));
  args.side_blocks = static_cast<int32_t>(blocks_of(args.side.out, kProductWarps));
  run<narrow_product<F, kSpan, kStages>>(
      queue,
      {.x = static_cast<unsigned>(args.blocks + args.side_blocks),
       .threads = kProductThreads,
       .shared_bytes = static_cast<unsigned>(std::max(shared, side_bytes(args.side)))},
      args);
}

template <class F, int kSpan = 1>
void append(Queue& queue, WeightFormat format, const NarrowArgs& args) {
  const int stages = stages_for(format, args.product);
  if (stages == 0) {
    fail(ExitCode::kDevice, "columns of a normed product", "CUDA kernels", "rows of x that fit into shared memory",
         std::to_string(args.product.in));
  }
  const int64_t shared = shared_bytes(format, args.product, stages);
  stages == kDeepStages ? append<F, kSpan, kDeepStages>(queue, args, shared)
                        : append<F, kSpan, kShallowStages>(queue, args, shared);
}

// Blocks of columns that share a scale wherever they begin at a multiple of their number; of a stage at most.
int span_of(const ProductArgs& args) {
  if (args.groups == 1 || args.group % (4 * kBlockColumns) == 0) return 4;
  return args.group % (2 * kBlockColumns) == 0 ? 2 : 1;
}

void append(Queue& queue, WeightFormat format, const NarrowArgs& args) {
  const int span = span_of(args.product);
  switch (format) {
    case WeightFormat::kBfloat16: return append<Bfloat16Weights>(queue, format, args);
    case WeightFormat::kFloat16: return append<Float16Weights>(queue, format, args);
    case WeightFormat::kInt8:
      return span >= 2 ? append<Int8Weights, 2>(queue, format, args) : append<Int8Weights>(queue, format, args);
    case WeightFormat::kInt4:
      if (span == 4) return append<Int4Weights, 4>(queue, format, args);
      return span == 2 ? append<Int4Weights, 2>(queue, format, args) : append<Int4Weights>(queue, format, args);
    case WeightFormat::kFloat32: XLSTM_ASSERT(false);
  }
}

}  // namespace

bool narrow_fits(WeightFormat format, const ProductArgs& args) {
  if (args.norm != InputNorm::kNone) return true;
  if (args.rows > kTileRows || stages_for(format, args) == 0) return false;
  return shared_bytes(format, args, kShallowStages) <= kHalfSharedBytes || input_bytes(format, args) <= kMostInputBytes;
}

bool side_fits(const ProductArgs& side) {
  return side_bytes(side) <= kHalfSharedBytes;
}

void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args) {
  append(queue, format, {.product = args, .side = {}, .blocks = 0, .side_blocks = 0});
}

void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args, const ProductArgs& side) {
  append(queue, format, {.product = args, .side = side, .blocks = 0, .side_blocks = 0});
}

}  // namespace xlstm::cuda
