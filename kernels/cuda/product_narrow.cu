// Products of up to eight rows of x, which should wait for memory alone.
//
// One block on a processor takes one tile of 16 W rows after the other; x stands in its shared memory. One warp has the
// copy engine bring the weights into a ring of slots, running ahead over the ends of tiles; others multiply, a line of
// a slot each, and leave a tile's sums to the last warp, which adds them up and stores the results. Copies begin before
// wait_for_previous(), when it is the kernel's turn: two blocks fit into a processor unless x is large.
#include <algorithm>
#include <string>
#include <utility>

#include "kernels/cuda/product_ring.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kCopyWarp = kProductWarps;
constexpr int kStoreWarp = kCopyWarp + 1;
constexpr int kThreads = (kStoreWarp + 1) * kLanes;
constexpr int kTileSums = kTileOuts * kTileRows;
// Of a warp's sums: while those of one tile are added up, it multiplies the next.
constexpr int kPlaces = 2;
constexpr int kSumBytes = kPlaces * kProductWarps * kTileSums * static_cast<int>(sizeof(float));
// Keeps rows of x apart in the banks.
constexpr int kInputPadBytes = 64;

constexpr int kLeastOfHalf = 8;
constexpr int kLeastSlots = 4;
constexpr int kManySlots = 20;
constexpr int kBarriers = 2 * kManySlots + 2 * kPlaces + 1;
constexpr int kBarrierBytes = (kBarriers * static_cast<int>(sizeof(SharedBarrier)) + 15) / 16 * 16;
constexpr int kPartialBytes = kFusedNormRows * kProductWarps * static_cast<int>(sizeof(float));
// Two such blocks fill a processor.
constexpr int kHalfSharedBytes = static_cast<int>(kProcessorSharedBytes / 2 - kReservedSharedBytes);

// Without padding.
struct NarrowArgs {
  ProductArgs product;
  ProductArgs side;      // a product with a float32 matrix, of the same rows of x
  const TensorMap* map;  // of `product`
  Turn turn;
  int32_t slots;
  int32_t input_bytes;  // of x in shared memory
};

// The sums of tiles on their way from the warps that multiply to the one that stores. Each warp has room for kPlaces
// tiles, which it takes in turn.
struct Sums {
  float* values;         // [kPlaces, kProductWarps, kTileSums]
  SharedBarrier* full;   // [kPlaces]
  SharedBarrier* empty;  // the same

  [[nodiscard]] __device__ inline float* of(int place, int warp) const {
    return values + (place * kProductWarps + warp) * kTileSums;
  }
};

struct Shared {
  Ring ring;
  Sums sums;
  SharedBarrier* copied;  // rows of x
  float* partial;         // [kFusedNormRows, kProductWarps] of fill_rms()
  __nv_bfloat16* rows;
  float* block_sums;  // of one row of x: of its blocks of kBlockColumns columns
};

template <class F>
__device__ inline Shared divide(uint8_t* memory, const NarrowArgs& args) {
  auto* const barriers = reinterpret_cast<SharedBarrier*>(memory);
  SharedBarrier* const of_sums = barriers + 2 * kManySlots;
  auto* const partial = reinterpret_cast<float*>(memory + kBarrierBytes);
  uint8_t* const before = memory + kBarrierBytes + kPartialBytes;
  uint8_t* const slots = before + (kBoxAlignment - reinterpret_cast<uintptr_t>(before) % kBoxAlignment) % kBoxAlignment;
  uint8_t* const groups = slots + args.slots * kBoxBytes;
  uint8_t* const sums = groups + args.slots * BoxGroups<F>::kBytes;
  uint8_t* const rows = sums + kSumBytes;
  return {{slots, groups, barriers, barriers + kManySlots, args.slots},
          {reinterpret_cast<float*>(sums), of_sums, of_sums + kPlaces},
          of_sums + 2 * kPlaces,
          partial,
          reinterpret_cast<__nv_bfloat16*>(rows),
          reinterpret_cast<float*>(rows + args.input_bytes)};
}

// What a warp that multiplies does. `at`: its team's first box; `stride`: of the rows of x.
template <class Way>
__device__ inline void multiply_tiles(const ProductArgs& args, const Shared& shared, int block, int blocks,
                                      const Boxes& boxes, Position at, int stride) {
  using F = typename Way::F;
  const int lane = lane_of_warp();
  const int warp = warp_of_block();
  const int line = warp % kBoxLines;
  const int tiles = tiles_of(args);
  const int lines = lines_of(args);
  const __nv_bfloat16* const x = Way::part_of_lane(args, shared.rows, stride);
  const Ring& ring = shared.ring;
  const uint8_t* const mine = ring.slots + line * kBoxLineBytes;
  Cursor read{warp / kBoxLines};
  Cursor place{0};
  bool first_places = true;
  for (int tile = block; tile < tiles; tile += blocks) {
    float sums[4] = {};
    while (at.tile == tile) {
      const int box = boxes.place(at.box);
      const int place = box * kBoxLines + line;
      BoxGroups<F> groups{ring.groups + read.slot * BoxGroups<F>::kBytes, 0};
      if constexpr (F::kHasScale) groups.first = first_group<F>(args, box);
      at.advance(kTeams, boxes, blocks);
      wait_at(ring.full + read.slot, read.parity);
      if (place < lines) {
        Way::multiply(args, mine + read.slot * kBoxBytes, groups, place, x, shared.block_sums, sums);
      }
      __syncwarp();
      if (lane == 0) arrive(ring.empty + read.slot);
      read.advance(kTeams, ring.count);
    }
    if (!first_places) wait_at(shared.sums.empty + place.slot, place.parity ^ 1);
    Way::put(sums, shared.sums.of(place.slot, warp));
    __syncwarp();
    if (lane == 0) arrive(shared.sums.full + place.slot);
    place.advance(1, kPlaces);
    if (place.slot == 0) first_places = false;
  }
}

// The sum over all warps. `sums`: of the first one.
__device__ inline float total(const float* sums, int index) {
  float sum = 0;
  XLSTM_UNROLL
  for (int warp = 0; warp < kProductWarps; ++warp) sum += sums[warp * kTileSums + index];
  return sum;
}

// Of a lane's rows of W: g and g + 8 of the tile in the lower and the upper half, where g is the lane's in each eight.
template <class F>
__device__ inline uint32_t scales_of_sums(const ProductArgs& args, int tile) {
  constexpr uint32_t kOnes = 0x3c003c00U;
  if constexpr (!F::kScalesSums) return kOnes;
  return *reinterpret_cast<const uint32_t*>(args.scale + tile * kTileOuts + lane_of_warp() % 8 * 2);
}

__device__ inline void finish_tile(const ProductArgs& args, int tile, uint32_t scales, const float* sums) {
  const float low = half_value(scales & 0xffffU);
  const float high = half_value(scales >> 16);
  if (!is_gate_up(args)) {
    const float scale = lane_of_warp() % kTileOuts < kTileOuts / 2 ? low : high;
    for (int i = lane_of_warp(); i < args.rows * kTileOuts; i += kLanes) {
      const int out = tile * kTileOuts + i % kTileOuts;
      if (out < args.out) put(args, i / kTileOuts, out, scale * total(sums, i));
    }
    return;
  }
  constexpr int kPairs = kTileOuts / 2;
  for (int i = lane_of_warp(); i < args.rows * kPairs; i += kLanes) {
    const int pair = i % kPairs;
    const int row = i / kPairs;
    put_gate_up(args, row, tile * kPairs + pair, tile * kTileOuts + pair, low * total(sums, row * kTileOuts + pair),
                high * total(sums, row * kTileOuts + pair + kPairs));
  }
  if (tile == tiles_of(args) - 1) put_padding<kLanes>(args, 0, args.rows);
}

// What the last warp does.
template <class F>
__device__ inline void finish_tiles(const ProductArgs& args, const Sums& sums, int block, int blocks) {
  wait_for_previous();
  const int tiles = tiles_of(args);
  Cursor place{0};
  for (int tile = block; tile < tiles; tile += blocks) {
    const uint32_t scales = scales_of_sums<F>(args, tile);
    wait_at(sums.full + place.slot, place.parity);
    finish_tile(args, tile, scales, sums.of(place.slot, 0));
    __syncwarp();
    if (lane_of_warp() == 0) arrive(sums.empty + place.slot);
    place.advance(1, kPlaces);
  }
}

// Rows of x as the kernel before wrote them, by the copy engine; behind their padding zeros.
__device__ inline void copy_rows(const ProductArgs& args, SharedBarrier* copied, __nv_bfloat16* rows, int stride,
                                 int columns) {
  constexpr int kColumnsOfChunk = kChunkBytes / 2;
  const int thread = static_cast<int>(threadIdx.x);
  const auto present = static_cast<int>((args.in + kColumnPad - 1) / kColumnPad * kColumnPad);
  if (thread == 0) {
    arrive_announcing(copied, args.rows * present * 2);
    for (int row = 0; row < args.rows; ++row) {
      const auto* const x = static_cast<const __nv_bfloat16*>(args.x) + row * args.x_stride;
      copy_bulk(rows + row * stride, x, present * 2, copied);
    }
  }
  for (int row = 0; row < args.rows; ++row) {
    for (int column = present + thread * kColumnsOfChunk; column < columns;
         column += kProductThreads * kColumnsOfChunk) {
      *reinterpret_cast<uint4*>(rows + row * stride + column) = uint4{};
    }
  }
  __syncwarp();
  wait_at(copied, 0);
}

__device__ inline void fill_rows(const ProductArgs& args, const Quads& gains, const Shared& shared, int stride,
                                 int columns) {
  if (args.norm == InputNorm::kNone) copy_rows(args, shared.copied, shared.rows, stride, columns);
  if (args.norm == InputNorm::kRms) fill_rms(args, gains, shared.partial, shared.rows, stride, columns);
  if (args.norm == InputNorm::kGatedHead) fill_heads(args, gains, shared.rows, stride, columns);
  sync_product_threads();
}

__device__ inline float sum_of_pair(uint32_t pair) {
  return __uint_as_float(pair << 16) + __uint_as_float(pair & 0xffff0000U);
}

// Of one row.
__device__ inline void fill_block_sums(const __nv_bfloat16* row, int columns, float* sums) {
  for (int block = static_cast<int>(threadIdx.x); block < columns / kBlockColumns; block += kProductThreads) {
    const auto* const chunks = reinterpret_cast<const uint4*>(row + block * kBlockColumns);
    float sum = 0;
    for (int i = 0; i < kBlockColumns * 2 / kChunkBytes; ++i) {
      const uint4 chunk = chunks[i];
      sum += sum_of_pair(chunk.x) + sum_of_pair(chunk.y) + (sum_of_pair(chunk.z) + sum_of_pair(chunk.w));
    }
    sums[block] = sum;
  }
  sync_product_threads();
}

__device__ inline void init_barriers(const Shared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < shared.ring.count) {
    init_barrier(shared.ring.full + thread, 1);
    init_barrier(shared.ring.empty + thread, kBoxLines);
  }
  if (thread < kPlaces) {
    init_barrier(shared.sums.full + thread, kProductWarps);
    init_barrier(shared.sums.empty + thread, 1);
  }
  if (thread == 0) init_barrier(shared.copied, 1);
  publish_barriers();
  __syncthreads();
}

// Row `out` of the float32 matrix; by the warps that multiply, behind fill_rms(). `sums`: [kProductWarps].
__device__ inline void multiply_side_row(const ProductArgs& args, int out, const float* partial, float* sums) {
  constexpr int kBatch = 8;  // columns that a thread has under way
  const auto* const weights = reinterpret_cast<const float*>(args.weight + out * args.row_bytes);
  for (int row = 0; row < args.rows; ++row) {
    const float scale = rms_scale(args, partial + row * kProductWarps);
    const float* const x = input_row(args, row);
    float sum = 0;
    for (int first = static_cast<int>(threadIdx.x); first < args.in; first += kBatch * kProductThreads) {
      float w[kBatch];
      float normed[kBatch];
      XLSTM_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        const int column = least(first + i * kProductThreads, args.in - 1);
        w[i] = first + i * kProductThreads < args.in ? weights[column] : 0;
        normed[i] = x[column] * (scale * args.norm_weight[column]);
        if (args.norm_bias != nullptr) normed[i] += args.norm_bias[column];
      }
      XLSTM_UNROLL
      for (int i = 0; i < kBatch; ++i) sum = fmaf(w[i], normed[i], sum);
    }
    sum = warp_sum(sum);
    if (lane_of_warp() == 0) sums[warp_of_block()] = sum;
    sync_product_threads();
    if (threadIdx.x == 0) {
      float total = 0;
      XLSTM_UNROLL
      for (int i = 0; i < kProductWarps; ++i) total += sums[i];
      put(args, row, out, total);
    }
    sync_product_threads();
  }
}

// Brings the rows of the float32 matrix that are the block's to the L2 cache; by a warp.
__device__ inline void prefetch_side(const ProductArgs& args, int block, int blocks) {
  for (int out = blocks - 1 - block; out < args.out; out += blocks) {
    const uint8_t* const row = args.weight + out * args.row_bytes;
    for (int64_t i = lane_of_warp() * kPrefetchBytes; i < args.row_bytes; i += kLanes * kPrefetchBytes) {
      prefetch_line(row + i);
    }
  }
}

// The last blocks begin: they have the fewest tiles.
__device__ inline void multiply_side(const ProductArgs& args, int block, int blocks, const float* partial,
                                     float* sums) {
  for (int out = blocks - 1 - block; out < args.out; out += blocks) multiply_side_row(args, out, partial, sums);
}

template <class Way>
__device__ inline void narrow_block(const NarrowArgs& all, uint8_t* memory) {
  using F = typename Way::F;
  const ProductArgs& args = all.product;
  const auto block = static_cast<int>(blockIdx.x);
  const auto blocks = static_cast<int>(gridDim.x);
  const Shared shared = divide<F>(memory, all);
  init_barriers(shared);
  const int warp = warp_of_block();
  const Boxes boxes = boxes_of(args, block);
  if (warp == kCopyWarp) return stream_weights<F>(args, all.map, all.turn, shared.ring, block, blocks);
  if (warp == kStoreWarp) {
    if (all.side.rows > 0) prefetch_side(all.side, block, blocks);
    return finish_tiles<F>(args, shared.sums, block, blocks);
  }
  Position at{block, 0};
  at.advance(warp / kBoxLines, boxes, blocks);
  const Quads gains = load_gains(args);
  wait_for_previous();
  start_next();
  const int columns = lines_of(args) * Line<F>::kColumns;
  const int stride = columns + kInputPadBytes / 2;
  fill_rows(args, gains, shared, stride, columns);
  if (all.side.rows > 0) multiply_side(all.side, block, blocks, shared.partial, shared.sums.values);
  if constexpr (Way::kNeedsBlockSums) fill_block_sums(shared.rows, columns, shared.block_sums);
  multiply_tiles<Way>(args, shared, block, blocks, boxes, at, stride);
}

// Grid: any number of blocks up to one per tile.
template <class Way>
__global__ void __launch_bounds__(kThreads, 2) narrow_product(NarrowArgs args) {
  XLSTM_DYNAMIC_SHARED(uint8_t, shared);
  narrow_block<Way>(args, shared);
}

int bits_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8: return Int8Weights::kBits;
    case WeightFormat::kInt4: return Int4Weights::kBits;
    default: return Bfloat16Weights::kBits;
  }
}

// Whether rows have one scale each, and no zeros.
bool has_row_scales(WeightFormat format, const ProductArgs& args) {
  return format == WeightFormat::kInt8 && args.groups == 1;
}

// Of a slot's scales and zeros.
int group_bytes(WeightFormat format, const ProductArgs& args) {
  if (has_row_scales(format, args)) return BoxGroups<Int8RowWeights>::kBytes;
  switch (format) {
    case WeightFormat::kInt8: return BoxGroups<Int8Weights>::kBytes;
    case WeightFormat::kInt4: return BoxGroups<Int4Weights>::kBytes;
    default: return 0;
  }
}

int64_t columns_in_lines(WeightFormat format, const ProductArgs& args) {
  return args.row_bytes * 8 / bits_of(format);
}

int64_t input_bytes(WeightFormat format, const ProductArgs& args) {
  return args.rows * (columns_in_lines(format, args) * 2 + kInputPadBytes);
}

// How the shared memory is divided.
struct Plan {
  int slots = 0;
  int64_t shared_bytes = 0;
};

// Which rows are multiplied by OfOneRow.
bool has_block_sums(WeightFormat format, const ProductArgs& args) {
  return format == WeightFormat::kInt4 && args.rows == 1;
}

// As many slots as leave room for a second block on the processor, or as there is room for; none if x leaves too
// little.
Plan plan_for(WeightFormat format, const ProductArgs& args) {
  int64_t others = kBarrierBytes + kPartialBytes + kBoxAlignment + kSumBytes + input_bytes(format, args);
  if (has_block_sums(format, args)) {
    others += columns_in_lines(format, args) / kBlockColumns * static_cast<int64_t>(sizeof(float));
  }
  const int64_t slot_bytes = kBoxBytes + group_bytes(format, args);
  for (const auto& [room, least] :
       {std::pair(kHalfSharedBytes, kLeastOfHalf), std::pair(kMaxSharedBytes, kLeastSlots)}) {
    const int64_t fitting = (room - others) / slot_bytes / kTeams * kTeams;
    if (fitting < least) continue;
    const int64_t slots = std::min<int64_t>(fitting, kManySlots);
    return {static_cast<int>(slots), others + slots * slot_bytes};
  }
  return {};
}

template <class Way>
void append(Queue& queue, NarrowArgs args, const Plan& plan) {
  XLSTM_ASSERT(plan.shared_bytes >= kTwoBlocksBytes);
  const int64_t blocks = std::min<int64_t>(blocks_of(args.product.out, kTileOuts), queue.processors());
  args.slots = plan.slots;
  args.turn = queue.take_turn(blocks);
  run<narrow_product<Way>>(queue,
                           {.x = static_cast<unsigned>(blocks),
                            .threads = kThreads,
                            .shared_bytes = static_cast<unsigned>(plan.shared_bytes)},
                           args);
}

// Blocks of columns that share a scale wherever they begin at a multiple of their number; four at most. A group's
// blocks from its step, which gives them exactly up to 2¹⁵.
int span_of(const ProductArgs& args) {
  const uint32_t group = (kGroupOne + args.group_step / 2) / args.group_step;
  if (args.groups == 1 || group % 4 == 0) return 4;
  return group % 2 == 0 ? 2 : 1;
}

void append_int4(Queue& queue, const NarrowArgs& args, const Plan& plan) {
  const ProductArgs& product = args.product;
  if (has_block_sums(WeightFormat::kInt4, product)) {
    return append<OfOneRow<Int4Weights>>(queue, args, plan);
  }
  switch (span_of(product)) {
    case 4: return append<OfRows<Int4Weights, 4>>(queue, args, plan);
    case 2: return append<OfRows<Int4Weights, 2>>(queue, args, plan);
    default: return append<OfRows<Int4Weights, 1>>(queue, args, plan);
  }
}

void append(Queue& queue, WeightFormat format, NarrowArgs args) {
  const Plan plan = plan_for(format, args.product);
  if (plan.slots == 0) {
    fail(ExitCode::kDevice, "columns of a normed product", "CUDA kernels", "rows of x that fit into shared memory",
         std::to_string(args.product.in));
  }
  args.map = queue.tensor_map(args.product.weight, args.product.row_bytes, args.product.out);
  args.input_bytes = static_cast<int32_t>(input_bytes(format, args.product));
  switch (format) {
    case WeightFormat::kBfloat16: return append<OfRows<Bfloat16Weights, 1>>(queue, args, plan);
    case WeightFormat::kFloat16: return append<OfRows<Float16Weights, 1>>(queue, args, plan);
    case WeightFormat::kInt8:
      if (has_row_scales(format, args.product)) return append<OfRows<Int8RowWeights, 1>>(queue, args, plan);
      return span_of(args.product) >= 2 ? append<OfRows<Int8Weights, 2>>(queue, args, plan)
                                        : append<OfRows<Int8Weights, 1>>(queue, args, plan);
    case WeightFormat::kInt4: return append_int4(queue, args, plan);
    case WeightFormat::kFloat32: XLSTM_ASSERT(false);
  }
}

}  // namespace

bool narrow_fits(WeightFormat format, const ProductArgs& args) {
  if (args.norm != InputNorm::kNone) return true;
  return args.rows <= kTileRows && plan_for(format, args).slots > 0;
}

void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args) {
  multiply_narrow(queue, format, args, {});
}

void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args, const ProductArgs& side) {
  append(queue, format, {.product = args, .side = side, .map = nullptr, .turn = {}, .slots = 0, .input_bytes = 0});
}

}  // namespace xlstm::cuda
