// Products of any number of rows of x: blocks of 128 W rows by up to 64 rows of x, which go through shared memory in
// stages of 64 columns, by asynchronous copies. Where there are few such tiles, blocks share the columns of one, and a
// kernel of its own adds up their sums.
#include <algorithm>
#include <mutex>
#include <vector>

#include "kernels/cuda/product_parts.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kStageColumns = 64;
constexpr int kInputBytes = kStageColumns * 2;  // of a row of x in a stage
constexpr int kOuts = 128;                      // of a block
constexpr int kOutWarps = 4;                    // side by side; the others take the other columns of a stage
constexpr int kThreads = 2 * kOutWarps * kLanes;
constexpr int kWarpTiles = kOuts / kOutWarps / kTileOuts;
constexpr int kResultStride = kOuts + 4;  // of rows of results in shared memory, in different banks
constexpr int kMostTiles = 8;             // of rows of x in a block
constexpr int kMostRows = kMostTiles * kTileRows;

// A block of W rows and as many rows of x as it gets.
template <class F, int kTiles>
struct Shape {
  static constexpr int kRowBytes = kStageColumns * F::kBits / 8;
  static constexpr int kWeightBytes = kOuts * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTiles * kTileRows * kInputBytes;
  // So that enough weights are under way where they are small.
  static constexpr int kStages = F::kBits == 16 ? 4 : F::kBits == 8 ? 6 : 8;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kSharedBytes >= kTiles * kTileRows * kResultStride * static_cast<int>(sizeof(float)));
};

// The block's W rows, its rows of x, and its columns in stages.
struct Place {
  int first_out;
  int64_t first_row;
  int rows;
  int begin;
  int end;
};

template <int kTiles>
__device__ inline Place place_of_block(const ProductArgs& args) {
  Place place;
  place.first_out = static_cast<int>(blockIdx.y) * kOuts;
  place.first_row = static_cast<int64_t>(blockIdx.x) * kTiles * kTileRows;
  place.rows = static_cast<int>(least(args.rows - place.first_row, int64_t{kTiles * kTileRows}));
  const int stages = (args.in + kStageColumns - 1) / kStageColumns;
  place.begin = static_cast<int>(int64_t{stages} * blockIdx.z / args.splits);
  place.end = static_cast<int>(int64_t{stages} * (blockIdx.z + 1) / args.splits);
  return place;
}

// What a thread copies of each stage: a chunk of every kRowStep-th row. Rows behind the last are not copied: what they
// hold comes into results that nobody stores.
template <int kRowBytes>
struct Copies {
  static constexpr int kChunks = kRowBytes / kChunkBytes;
  static constexpr int kRowStep = kThreads / kChunks;

  const uint8_t* from;  // the next stage of the first row
  int64_t step;         // in bytes, to the next row
  int place;            // of the first row in a stage
  int rows;             // from that one to the last

  // `first`: the chunk in column 0 of row 0, of `rows` rows.
  __device__ inline Copies(const uint8_t* first, int64_t row_bytes, int rows_of_block, int stage) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int row = static_cast<int>(threadIdx.x) / kChunks;
    from = first + row * row_bytes + int64_t{stage} * kRowBytes + chunk * kChunkBytes;
    step = kRowStep * row_bytes;
    place = chunk_place<kRowBytes>(row, chunk);
    rows = rows_of_block - row;
  }

  // A step does not change a row's turn in chunk_place().
  template <int kRows>
  __device__ inline void start(uint8_t* stage) {
    static_assert(kRowStep % 8 == 0);
    const uint8_t* row = from;
    XLSTM_UNROLL
    for (int i = 0; i < (kRows + kRowStep - 1) / kRowStep; ++i) {
      if (i * kRowStep < rows) copy_async_16(stage + place + i * kRowStep * kRowBytes, row);
      row += step;
    }
    from += kRowBytes;
  }
};

// Scales and zeros of a lane's rows in a warp's block of columns: g and g + 8 of each tile.
struct Groups {
  uint32_t scale[kWarpTiles][2];
  uint32_t zero[kWarpTiles][2];
};

// `row`: the lane's g in the first tile.
template <class F>
__device__ inline Groups load_groups(const ProductArgs& args, int row, int column) {
  Groups groups{};
  if constexpr (F::kHasScale) {
    const int group = group_of(args, column);
    XLSTM_UNROLL
    for (int tile = 0; tile < kWarpTiles; ++tile) {
      const int of_rows = least(row + tile * kTileOuts, args.out - 1) / kTileOuts;
      const int64_t index = first_of_group(args, of_rows, group) + row % kTileOuts * 2;
      const uint32_t scales = *reinterpret_cast<const uint32_t*>(args.scale + index);
      groups.scale[tile][0] = scales & 0xffffU;
      groups.scale[tile][1] = scales >> 16;
      if constexpr (F::kHasZero) {
        groups.zero[tile][0] = args.zero[index];
        groups.zero[tile][1] = args.zero[index + 1];
      }
    }
  }
  return groups;
}

// sums += W · x of a warp's block of columns in a stage.
template <class F, int kTiles>
__device__ inline void multiply_stage(const uint8_t* stage, const Groups& groups,
                                      float (&sums)[kWarpTiles][kTiles][4]) {
  using S = Shape<F, kTiles>;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int block = warp / kOutWarps;
  const int byte = (4 * block + lane % 4) * F::kBits;
  // Eight rows further a chunk has the same place in its row.
  const uint8_t* const first = stage + warp % kOutWarps * kWarpTiles * kTileOuts * S::kRowBytes +
                               chunk_place<S::kRowBytes>(lane / 4, byte / kChunkBytes) + byte % kChunkBytes;
  uint32_t weights[kWarpTiles][2][F::kParts][4];
  XLSTM_UNROLL
  for (int tile = 0; tile < kWarpTiles; ++tile) {
    XLSTM_UNROLL
    for (int half = 0; half < 2; ++half) {
      const uint8_t* const from = first + (2 * tile + half) * (kTileOuts / 2) * S::kRowBytes;
      F::widen(*reinterpret_cast<const typename F::Raw*>(from), groups.zero[tile][half], weights[tile][half]);
    }
  }
  const uint8_t* const input = stage + S::kWeightBytes + chunk_place<kInputBytes>(lane / 4, 4 * block + lane % 4);
  XLSTM_UNROLL
  for (int n = 0; n < kTiles; ++n) {
    const uint4 x = *reinterpret_cast<const uint4*>(input + n * kTileRows * kInputBytes);
    const uint32_t factors[4] = {x.x, x.y, x.z, x.w};
    XLSTM_UNROLL
    for (int tile = 0; tile < kWarpTiles; ++tile) {
      if constexpr (!F::kHasScale) {
        add_products<F>(weights[tile][0], weights[tile][1], factors, sums[tile][n]);
      } else {
        float part[4] = {};
        add_products<F>(weights[tile][0], weights[tile][1], factors, part);
        XLSTM_UNROLL
        for (int i = 0; i < 4; ++i) {
          sums[tile][n][i] = fmaf(half_value(groups.scale[tile][i / 2]), part[i], sums[tile][n][i]);
        }
      }
    }
  }
}

// [rows of x][W rows] of the block in shared memory: the sums of the warps with the other columns, and then those of
// the first kOutWarps added to them.
template <int kTiles>
__device__ inline void collect_sums(const float (&sums)[kWarpTiles][kTiles][4], float* results) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  float* const first = results + lane % 4 * 2 * kResultStride + warp % kOutWarps * kWarpTiles * kTileOuts + lane / 4;
  for (int turn = 0; turn < 2; ++turn) {
    __syncthreads();  // the stages were read, or the other sums written
    if ((warp < kOutWarps) != (turn == 1)) continue;
    XLSTM_UNROLL
    for (int i = 0; i < kWarpTiles * kTiles * 4; ++i) {
      const int tile = i / (kTiles * 4);
      const int n = i / 4 % kTiles;
      float& result = first[(n * kTileRows + i % 2) * kResultStride + tile * kTileOuts + i % 4 / 2 * kTileOuts / 2];
      const float sum = sums[tile][n][i % 4];
      result = turn == 0 ? sum : result + sum;
    }
  }
  __syncthreads();
}

// Results of the block, by all its threads, whose neighbours have neighbouring W rows.
__device__ inline void put_results(const ProductArgs& args, const Place& place, const float* results) {
  const bool pairs = args.splits == 1 && is_gate_up(args);
  const int columns = pairs ? kOuts / 2 : kOuts;
  constexpr int kRun = static_cast<int>(kGateUpRun);
  for (int i = static_cast<int>(threadIdx.x); i < place.rows * columns; i += kThreads) {
    const int row = i / columns;
    const int column = i % columns;
    const int out_of_block = pairs ? column / kRun * kTileOuts + column % kRun : column;
    const int out = place.first_out + out_of_block;
    if (out >= args.out) continue;
    const float* const sum = results + row * kResultStride + out_of_block;
    if (args.splits > 1) {
      args.partial[(int64_t{blockIdx.z} * args.rows + place.first_row + row) * args.out + out] = *sum;
    } else if (pairs) {
      put_gate_up(args, place.first_row + row, place.first_out / 2 + column, out, sum[0], sum[kRun]);
    } else {
      put(args, place.first_row + row, out, *sum);
    }
  }
}

// Grid: [rows of x, W rows, splits]; the first blocks have all rows of x and the same weights.
template <class F, int kTiles>
__global__ void __launch_bounds__(kThreads, 2) wide_product(ProductArgs args) {
  using S = Shape<F, kTiles>;
  XLSTM_DYNAMIC_SHARED(uint8_t, shared);
  const Place place = place_of_block<kTiles>(args);
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  Copies<S::kRowBytes> weights(args.weight + place.first_out * args.row_bytes, args.row_bytes,
                               least(args.out - place.first_out, kOuts), place.begin);
  Copies<kInputBytes> input(static_cast<const uint8_t*>(args.x) + place.first_row * args.x_stride * 2,
                            args.x_stride * 2, place.rows, place.begin);
  for (int i = 0; i < S::kStages - 1 && place.begin + i < place.end; ++i) {
    weights.template start<kOuts>(shared + i * S::kStageBytes);
  }
  const int first_out = place.first_out + warp % kOutWarps * kWarpTiles * kTileOuts + lane / 4;
  const int first_column = warp / kOutWarps * kBlockColumns;
  Groups next_groups = load_groups<F>(args, first_out, place.begin * kStageColumns + first_column);
  start_next();
  wait_for_previous();
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (place.begin + i < place.end) {
      input.template start<kTiles * kTileRows>(shared + i * S::kStageBytes + S::kWeightBytes);
    }
    commit_copies();
  }

  float sums[kWarpTiles][kTiles][4] = {};
  int slot = 0;
  for (int index = place.begin; index < place.end; ++index) {
    wait_for_copies<S::kStages - 2>();
    __syncthreads();
    if (index + S::kStages - 1 < place.end) {
      uint8_t* const stage = shared + (slot == 0 ? S::kStages - 1 : slot - 1) * S::kStageBytes;
      weights.template start<kOuts>(stage);
      input.template start<kTiles * kTileRows>(stage + S::kWeightBytes);
    }
    commit_copies();
    const Groups groups = next_groups;
    next_groups = load_groups<F>(args, first_out, (index + 1) * kStageColumns + first_column);
    multiply_stage<F, kTiles>(shared + slot * S::kStageBytes, groups, sums);
    slot = slot + 1 < S::kStages ? slot + 1 : 0;
  }
  auto* const results = reinterpret_cast<float*>(shared);
  collect_sums<kTiles>(sums, results);
  put_results(args, place, results);
  const bool last = place.first_out + kOuts >= args.out;
  if (is_gate_up(args) && args.splits == 1 && last) put_padding<kThreads>(args, place.first_row, place.rows);
}

// Sums of the splits, in their order. Grid: [results or pairs of them, rows of x].
__global__ void __launch_bounds__(kThreads) add_splits(ProductArgs args) {
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.y;
  const int column = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const auto total = [&](int out) {
    float sum = 0;
    for (int split = 0; split < args.splits; ++split) {
      sum += args.partial[(int64_t{split} * args.rows + row) * args.out + out];
    }
    return sum;
  };
  if (!is_gate_up(args)) {
    if (column < args.out) put(args, row, column, total(column));
  } else if (column < args.out / 2) {
    constexpr int kRun = static_cast<int>(kGateUpRun);
    const int gate_row = column / kRun * kTileOuts + column % kRun;
    put_gate_up(args, row, column, gate_row, total(gate_row), total(gate_row + kRun));
  }
  if (is_gate_up(args) && blockIdx.x == 0) put_padding<kThreads>(args, row, 1);
}

// Blocks that share the columns of a tile of W rows, so that all processors have work: half as many again as there are
// processors, since not all have as much.
int splits_for(int64_t tiles, int64_t stages, int processors) {
  constexpr int64_t kFewestStages = 8;
  const int64_t wanted = int64_t{processors} * 3 / 2 / tiles;
  return static_cast<int>(std::max<int64_t>(1, std::min(wanted, stages / kFewestStages)));
}

// Room for the sums of all splits, made once for a device, whose products come one after the other.
float* partial_sums(const Queue& queue, int64_t count) {
  struct Buffer {
    float* values = nullptr;
    int64_t count = 0;
  };
  static std::mutex mutex;
  static std::vector<Buffer> buffers;
  const std::lock_guard lock(mutex);
  const auto device = static_cast<size_t>(queue.device());
  if (buffers.size() <= device) buffers.resize(device + 1);
  Buffer& buffer = buffers[device];
  if (buffer.count == 0) {
    select(queue.device());
    // No product has more blocks that share columns, and none of them more sums.
    buffer.count = int64_t{queue.processors()} * 3 / 2 * kOuts * kMostRows;
    buffer.values = static_cast<float*>(allocate_on_device(static_cast<size_t>(buffer.count) * sizeof(float)));
  }
  XLSTM_ASSERT(count <= buffer.count);
  return buffer.values;
}

template <class F, int kTiles>
void append(Queue& queue, ProductArgs args) {
  using S = Shape<F, kTiles>;
  const int64_t row_blocks = blocks_of(args.rows, kTiles * kTileRows);
  const int64_t out_blocks = blocks_of(args.out, kOuts);
  args.splits = splits_for(row_blocks * out_blocks, blocks_of(args.in, kStageColumns), queue.processors());
  if (args.splits > 1) args.partial = partial_sums(queue, int64_t{args.splits} * args.rows * args.out);
  run<wide_product<F, kTiles>>(queue,
                               {.x = static_cast<unsigned>(row_blocks),
                                .y = static_cast<unsigned>(out_blocks),
                                .z = static_cast<unsigned>(args.splits),
                                .threads = kThreads,
                                .shared_bytes = S::kSharedBytes},
                               args);
  if (args.splits == 1) return;
  const int64_t results = args.sink >= kGateUpFloat32 ? args.out / 2 : args.out;
  run<add_splits>(queue,
                  {.x = static_cast<unsigned>(blocks_of(results, kThreads)),
                   .y = static_cast<unsigned>(args.rows),
                   .threads = kThreads},
                  args);
}

template <class F>
void append(Queue& queue, const ProductArgs& args) {
  if (args.rows <= kTileRows) return append<F, 1>(queue, args);
  if (args.rows <= 2 * kTileRows) return append<F, 2>(queue, args);
  if (args.rows <= 4 * kTileRows) return append<F, 4>(queue, args);
  append<F, kMostTiles>(queue, args);
}

}  // namespace

void multiply_wide(Queue& queue, WeightFormat format, const ProductArgs& args) {
  XLSTM_ASSERT(args.norm == InputNorm::kNone);
  switch (format) {
    case WeightFormat::kBfloat16: return append<Bfloat16Weights>(queue, args);
    case WeightFormat::kFloat16: return append<Float16Weights>(queue, args);
    case WeightFormat::kInt8: return append<Int8Weights>(queue, args);
    case WeightFormat::kInt4: return append<Int4Weights>(queue, args);
    case WeightFormat::kFloat32: XLSTM_ASSERT(false);
  }
}

}  // namespace xlstm::cuda
