// Operations on rows of activations. Rows are read and written once, by vectors of kVector elements where widths,
// strides and addresses allow it and by single ones elsewhere. Weights are loaded before the values that other kernels
// write.
#include "kernels/cuda/rows.h"

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/warp.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kVector = 4;
constexpr unsigned kThreads = 256;                           // of a block whose threads work by themselves
constexpr unsigned kMostThreads = 1024;                      // of a block that takes a row
constexpr int64_t kMostColumns = int64_t{65535} * kThreads;  // so many blocks may lie along y

// Elements that are loaded and stored as one.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T v[kCount];
};

template <int kCount, class T>
__device__ inline Pack<T, kCount> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}

template <int kCount, class T>
__device__ inline void store(T* to, const Pack<T, kCount>& values) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = values;
}

// ProductRows without padding.
struct OutRows {
  void* values;
  int64_t stride;
  int64_t bfloat16;
};

template <int kCount>
__device__ inline void put(const OutRows& out, int64_t row, int column, const Pack<float, kCount>& values) {
  const int64_t index = row * out.stride + column;
  if (out.bfloat16 == 0) {
    store(static_cast<float*>(out.values) + index, values);
    return;
  }
  Pack<__nv_bfloat16, kCount> rounded;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) rounded.v[i] = __float2bfloat16_rn(values.v[i]);
  store(static_cast<__nv_bfloat16*>(out.values) + index, rounded);
}

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(__half value) {
  return __half2float(value);
}
__device__ inline float widen(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

// In every thread of the block. `partial`: [kMostThreads / kLanes], used by no other sum.
__device__ inline float block_sum(float value, float* partial) {
  const unsigned lane = threadIdx.x % kLanes;
  const float sum = warp_sum(value);
  if (lane == 0) partial[threadIdx.x / kLanes] = sum;
  __syncthreads();
  return warp_sum(lane < blockDim.x / kLanes ? partial[lane] : 0.0F);
}

struct EmbedArgs {
  const void* table;
  const int32_t* ids;
  int64_t width;
  float* x;
};

// Grid: [rows, width / (kThreads · kCount) up].
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) embed_rows(EmbedArgs args) {
  start_next();
  wait_for_previous();
  const auto column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kCount;
  if (column >= args.width) return;
  const int64_t from = args.ids[blockIdx.x] * args.width + column;
  const int64_t to = static_cast<int64_t>(blockIdx.x) * args.width + column;
  const auto values = load<kCount>(static_cast<const T*>(args.table) + from);
  Pack<float, kCount> wide;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) wide.v[i] = widen(values.v[i]);
  store(args.x + to, wide);
}

struct RmsNormArgs {
  const float* x;
  const int32_t* row_ids;
  const float* weight;
  const float* bias;
  OutRows out;
  OutRows also;  // values null: there are none
  int64_t x_stride;
  int64_t width;
  float eps;
  float inverse_width;
};

template <int kCount>
__device__ inline float sum_of_squares(const Pack<float, kCount>& x) {
  float sum = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) sum = fmaf(x.v[i], x.v[i], sum);
  return sum;
}

// Writes kCount columns of a row; `x`, `weight`: these columns'.
template <int kCount>
__device__ inline void put_normed(const RmsNormArgs& args, int column, const Pack<float, kCount>& x,
                                  const Pack<float, kCount>& weight, float scale) {
  Pack<float, kCount> y = {};
  if (column < args.width) {
    y = x;
    if (args.weight != nullptr) {
      XLSTM_UNROLL
      for (int i = 0; i < kCount; ++i) y.v[i] *= scale * weight.v[i];
      if (args.bias != nullptr) {
        const auto bias = load<kCount>(args.bias + column);
        XLSTM_UNROLL
        for (int i = 0; i < kCount; ++i) y.v[i] += bias.v[i];
      }
    }
  }
  put(args.out, blockIdx.x, column, y);
  if (args.also.values != nullptr) put(args.also, blockIdx.x, column, y);
}

// A block takes a row. Its threads keep kHeld packs of it each in registers; what is left of a longer row is read
// again. Grid: [rows].
template <int kCount, int kHeld>
__global__ void __launch_bounds__(kMostThreads) normalise_rows(RmsNormArgs args) {
  __shared__ float partial[kMostThreads / kLanes];
  start_next();
  const auto first = static_cast<int>(threadIdx.x) * kCount;
  const int step = static_cast<int>(blockDim.x) * kCount;
  const bool has_norm = args.weight != nullptr;
  Pack<float, kCount> weight[kHeld] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kHeld; ++k) {
    if (has_norm && first + k * step < args.width) weight[k] = load<kCount>(args.weight + first + k * step);
  }
  wait_for_previous();

  const int64_t row = args.row_ids == nullptr ? static_cast<int64_t>(blockIdx.x) : args.row_ids[blockIdx.x];
  const float* x = args.x + row * args.x_stride;
  Pack<float, kCount> held[kHeld] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kHeld; ++k) {
    if (first + k * step < args.width) held[k] = load<kCount>(x + first + k * step);
  }
  float scale = 1;
  if (has_norm) {
    float squares = 0;
    XLSTM_UNROLL
    for (int k = 0; k < kHeld; ++k) squares += sum_of_squares(held[k]);
    for (int column = first + kHeld * step; column < args.width; column += step) {
      squares += sum_of_squares(load<kCount>(x + column));
    }
    scale = rsqrtf(fmaf(block_sum(squares, partial), args.inverse_width, args.eps));
  }
  XLSTM_UNROLL
  for (int k = 0; k < kHeld; ++k) {
    if (first + k * step < args.out.stride) put_normed(args, first + k * step, held[k], weight[k], scale);
  }
  for (int column = first + kHeld * step; column < args.out.stride; column += step) {
    Pack<float, kCount> values = {};
    Pack<float, kCount> weights = {};
    if (column < args.width) values = load<kCount>(x + column);
    if (has_norm && column < args.width) weights = load<kCount>(args.weight + column);
    put_normed(args, column, values, weights, scale);
  }
}

struct HeadNormArgs {
  const float* h;
  const float* o;
  const float* weight;
  const float* bias;
  OutRows out;
  int64_t h_stride;
  int64_t o_stride;
  int64_t rows;
  int32_t heads;
  int32_t head_dim;
  float eps;
  float inverse_head_dim;
};

// The pieces of a head that stand in the registers of a warp: kHeldOfHead packs a lane.
constexpr int kHeldOfHead = 4;
constexpr unsigned kHeadThreads = 128;  // of a block: their many registers are dealt out in small lots

template <int kCount>
__device__ inline float sum_of(const Pack<float, kCount>& x) {
  float sum = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) sum += x.v[i];
  return sum;
}

template <int kCount>
__device__ inline Pack<float, kCount> less(const Pack<float, kCount>& x, float mean) {
  Pack<float, kCount> centred;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) centred.v[i] = x.v[i] - mean;
  return centred;
}

// Writes kCount features of a row; `centred`, `gate`: theirs.
template <int kCount>
__device__ inline void put_gated(const HeadNormArgs& args, int64_t row, int feature, const Pack<float, kCount>& centred,
                                 const Pack<float, kCount>& gate, const Pack<float, kCount>& weight, float scale) {
  Pack<float, kCount> bias = {};
  if (args.bias != nullptr) bias = load<kCount>(args.bias + feature);
  Pack<float, kCount> y;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) {
    y.v[i] = fmaf(centred.v[i] * scale, weight.v[i], bias.v[i]) * sigmoid(gate.v[i]);
  }
  put(args.out, row, feature, y);
}

struct MeanAndScale {
  float mean;
  float scale;
};

// Of a head, in every lane of its warp; takes the mean off `held`. `h`: the head; `first`: the lane's first feature.
template <int kCount>
__device__ inline MeanAndScale measure_head(const HeadNormArgs& args, const float* h, int first,
                                            Pack<float, kCount> (&held)[kHeldOfHead]) {
  constexpr int kStep = static_cast<int>(kLanes) * kCount;
  constexpr int kRest = kHeldOfHead * kStep;
  float sum = 0;
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) sum += sum_of(held[k]);
  for (int i = first + kRest; i < args.head_dim; i += kStep) sum += sum_of(load<kCount>(h + i));
  const float mean = warp_sum(sum) * args.inverse_head_dim;

  // The mean is taken off before the squares are summed: where a head's values lie close together nothing cancels.
  float squares = 0;
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    if (first + k * kStep >= args.head_dim) continue;
    held[k] = less(held[k], mean);
    squares += sum_of_squares(held[k]);
  }
  for (int i = first + kRest; i < args.head_dim; i += kStep) squares += sum_of_squares(less(load<kCount>(h + i), mean));
  return {mean, rsqrtf(fmaf(warp_sum(squares), args.inverse_head_dim, args.eps))};
}

// A warp takes a head of a row, so that nothing waits for other warps; of a longer head than its registers hold it
// reads the rest again. Grid: [rows · heads / (kHeadThreads / kLanes) up].
template <int kCount>
__global__ void __launch_bounds__(kHeadThreads) normalise_heads(HeadNormArgs args) {
  start_next();
  const unsigned task = blockIdx.x * (kHeadThreads / kLanes) + threadIdx.x / kLanes;
  const auto head = static_cast<int>(task % static_cast<unsigned>(args.heads));
  const int64_t row = task / static_cast<unsigned>(args.heads);
  const int begin = head * args.head_dim;  // this head's features
  const auto lane = static_cast<int>(threadIdx.x % kLanes);
  const int first = lane * kCount;
  constexpr int kStep = static_cast<int>(kLanes) * kCount;
  Pack<float, kCount> weight[kHeldOfHead] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    if (first + k * kStep < args.head_dim) weight[k] = load<kCount>(args.weight + begin + first + k * kStep);
  }
  wait_for_previous();
  if (row >= args.rows) return;

  const float* h = args.h + row * args.h_stride + begin;
  const float* o = args.o + row * args.o_stride + begin;
  Pack<float, kCount> held[kHeldOfHead] = {};
  Pack<float, kCount> gate[kHeldOfHead] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    if (first + k * kStep >= args.head_dim) continue;
    held[k] = load<kCount>(h + first + k * kStep);
    gate[k] = load<kCount>(o + first + k * kStep);
  }
  const MeanAndScale measured = measure_head<kCount>(args, h, first, held);
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    const int i = first + k * kStep;
    if (i < args.head_dim) put_gated(args, row, begin + i, held[k], gate[k], weight[k], measured.scale);
  }
  for (int i = first + kHeldOfHead * kStep; i < args.head_dim; i += kStep) {
    put_gated(args, row, begin + i, less(load<kCount>(h + i), measured.mean), load<kCount>(o + i),
              load<kCount>(args.weight + begin + i), measured.scale);
  }
  if (head != args.heads - 1) return;
  for (int i = begin + args.head_dim + lane; i < args.out.stride; i += kLanes) {
    put(args.out, row, i, Pack<float, 1>{});
  }
}

struct SwigluArgs {
  const float* gate_up;
  OutRows out;
  int64_t stride;
  int64_t width;
};

constexpr int kSwigluPacks = 2;  // of a thread

// Grid: [rows, out.stride / (kThreads · kSwigluPacks · kCount) up]. kCount is a divisor of kGateUpRun.
template <int kCount>
__global__ void __launch_bounds__(kThreads) gate_rows(SwigluArgs args) {
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const float* gate_up = args.gate_up + row * args.stride;
  const auto first = static_cast<int>(blockIdx.y * kThreads * kSwigluPacks + threadIdx.x) * kCount;
  constexpr int kStep = static_cast<int>(kThreads) * kCount;
  constexpr auto kRun = static_cast<int>(kGateUpRun);
  Pack<float, kCount> gate[kSwigluPacks] = {};
  Pack<float, kCount> up[kSwigluPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kSwigluPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.width) continue;
    const int place = 2 * kRun * (column / kRun) + column % kRun;
    gate[k] = load<kCount>(gate_up + place);
    up[k] = load<kCount>(gate_up + place + kRun);
  }
  XLSTM_UNROLL
  for (int k = 0; k < kSwigluPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.out.stride) continue;
    Pack<float, kCount> y;
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) y.v[i] = column + i < args.width ? silu(gate[k].v[i]) * up[k].v[i] : 0.0F;
    put(args.out, row, column, y);
  }
}

struct BiasAndCapArgs {
  float* y;
  const float* bias;
  int64_t stride;
  int64_t width;
  float cap;
  float inverse_cap;
};

constexpr int kCapPacks = 4;  // of a thread

// Grid: [rows, width / (kThreads · kCapPacks · kCount) up].
template <int kCount>
__global__ void __launch_bounds__(kThreads) cap_rows(BiasAndCapArgs args) {
  start_next();
  const auto first = static_cast<int>(blockIdx.y * kThreads * kCapPacks + threadIdx.x) * kCount;
  constexpr int kStep = static_cast<int>(kThreads) * kCount;
  float* y = args.y + static_cast<int64_t>(blockIdx.x) * args.stride;
  Pack<float, kCount> bias[kCapPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (args.bias != nullptr && column < args.width) bias[k] = load<kCount>(args.bias + column);
  }
  wait_for_previous();
  Pack<float, kCount> values[kCapPacks] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (column < args.width) values[k] = load<kCount>(y + column);
  }
  XLSTM_UNROLL
  for (int k = 0; k < kCapPacks; ++k) {
    const int column = first + k * kStep;
    if (column >= args.width) continue;
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const float value = values[k].v[i] + bias[k].v[i];
      values[k].v[i] = args.cap == 0 ? value : args.cap * tanhf(value * args.inverse_cap);
    }
    store(y + column, values[k]);
  }
}

// Whether packs of kVector elements can be loaded from and stored to `memory`, or there is none.
template <class T>
bool is_aligned(const T* memory) {
  return reinterpret_cast<uintptr_t>(memory) % (kVector * sizeof(T)) == 0;
}

bool is_aligned(const ProductRows& out) {
  return reinterpret_cast<uintptr_t>(out.values) % (kVector * (out.bfloat16 ? sizeof(uint16_t) : sizeof(float))) == 0;
}

bool is_whole(int64_t elements) {
  return elements % kVector == 0;
}

void check_grid(int64_t rows, int64_t columns) {
  XLSTM_ASSERT(rows >= 0 && rows <= INT32_MAX && columns >= 1 && columns <= kMostColumns);
}

unsigned grid_size(int64_t items, int64_t of_a_block) {
  return static_cast<unsigned>(blocks_of(items, of_a_block));
}

OutRows out_rows(const ProductRows& out, int64_t width) {
  XLSTM_ASSERT(out.stride >= width && is_whole(out.stride));
  return {out.values, out.stride, out.bfloat16 ? 1 : 0};
}

template <class T>
void embed_as(Queue& queue, const Embed& args) {
  check_grid(args.rows, args.width);
  const EmbedArgs own = {args.table, args.ids, args.width, args.x};
  const auto rows = static_cast<unsigned>(args.rows);
  if (is_aligned(static_cast<const T*>(args.table)) && is_aligned(args.x) && is_whole(args.width)) {
    run<embed_rows<T, kVector>>(
        queue, {.x = rows, .y = grid_size(args.width, int64_t{kThreads} * kVector), .threads = kThreads}, own);
  } else {
    run<embed_rows<T, 1>>(queue, {.x = rows, .y = grid_size(args.width, kThreads), .threads = kThreads}, own);
  }
}

// Few rows take as many threads each as there are; beyond, fewer warps have longer to wait for one another than for
// memory, and each thread holds more.
constexpr int64_t kFewRows = 256;
constexpr int kHeldOfLongRow = 4;

template <int kCount>
void normalise(Queue& queue, int64_t rows, const RmsNormArgs& args) {
  const int64_t packs = args.out.stride / kCount;
  const bool holds_more = rows > kFewRows || packs > kMostThreads;
  const unsigned warps = grid_size(packs, holds_more ? int64_t{kHeldOfLongRow} * kLanes : kLanes);
  const unsigned threads = warps * kLanes < kMostThreads ? warps * kLanes : kMostThreads;
  const Grid grid = {.x = static_cast<unsigned>(rows), .threads = threads};
  if (holds_more) {
    run<normalise_rows<kCount, kHeldOfLongRow>>(queue, grid, args);
  } else {
    run<normalise_rows<kCount, 1>>(queue, grid, args);
  }
}

}  // namespace

void embed(Queue& queue, const Embed& args) {
  switch (args.type) {
    case WeightFormat::kFloat32: return embed_as<float>(queue, args);
    case WeightFormat::kFloat16: return embed_as<__half>(queue, args);
    case WeightFormat::kBfloat16: return embed_as<__nv_bfloat16>(queue, args);
    default: XLSTM_ASSERT(false);
  }
}

void rms_norm(Queue& queue, const RmsNorm& args) {
  check_grid(args.rows, args.out.stride);
  const RmsNormArgs own = {args.x,
                           args.row_ids,
                           args.weight,
                           args.bias,
                           out_rows(args.out, args.width),
                           args.also.values == nullptr ? OutRows{} : out_rows(args.also, args.width),
                           args.x_stride,
                           args.width,
                           args.eps,
                           1.0F / static_cast<float>(args.width)};
  XLSTM_ASSERT(args.also.values == nullptr || args.also.stride == args.out.stride);
  if (is_aligned(args.x) && is_aligned(args.weight) && is_aligned(args.bias) && is_aligned(args.out) &&
      is_aligned(args.also) && is_whole(args.x_stride) && is_whole(args.width)) {
    normalise<kVector>(queue, args.rows, own);
  } else {
    normalise<1>(queue, args.rows, own);
  }
}

void gated_head_norm(Queue& queue, const GatedHeadNorm& args) {
  check_grid(args.rows * args.heads, args.out.stride);
  const HeadNormArgs own = {args.h,
                            args.o,
                            args.weight,
                            args.bias,
                            out_rows(args.out, args.heads * args.head_dim),
                            args.h_stride,
                            args.o_stride,
                            args.rows,
                            static_cast<int32_t>(args.heads),
                            static_cast<int32_t>(args.head_dim),
                            args.eps,
                            1.0F / static_cast<float>(args.head_dim)};
  const Grid grid = {.x = grid_size(args.rows * args.heads, kHeadThreads / kLanes), .threads = kHeadThreads};
  if (is_aligned(args.h) && is_aligned(args.o) && is_aligned(args.weight) && is_aligned(args.bias) &&
      is_aligned(args.out) && is_whole(args.h_stride) && is_whole(args.o_stride) && is_whole(args.head_dim)) {
    run<normalise_heads<kVector>>(queue, grid, own);
  } else {
    run<normalise_heads<1>>(queue, grid, own);
  }
}

void swiglu(Queue& queue, const Swiglu& args) {
  check_grid(args.rows, args.out.stride);
  const SwigluArgs own = {args.gate_up, out_rows(args.out, args.width), args.stride, args.width};
  const auto rows = static_cast<unsigned>(args.rows);
  constexpr int64_t kBlock = int64_t{kThreads} * kSwigluPacks;
  // The last pack may reach behind the width, but not behind its run.
  const bool has_whole_runs = args.stride >= 2 * kGateUpRun * blocks_of(args.width, kGateUpRun);
  if (has_whole_runs && is_aligned(args.gate_up) && is_aligned(args.out) && is_whole(args.stride)) {
    run<gate_rows<kVector>>(queue, {.x = rows, .y = grid_size(args.out.stride, kBlock * kVector), .threads = kThreads},
                            own);
  } else {
    run<gate_rows<1>>(queue, {.x = rows, .y = grid_size(args.out.stride, kBlock), .threads = kThreads}, own);
  }
}

void add_bias_and_cap(Queue& queue, const BiasAndCap& args) {
  if (args.bias == nullptr && args.cap == 0) return;
  check_grid(args.rows, args.width);
  const BiasAndCapArgs own = {args.y,     args.bias, args.stride,
                              args.width, args.cap,  args.cap == 0 ? 0.0F : 1.0F / args.cap};
  const auto rows = static_cast<unsigned>(args.rows);
  constexpr int64_t kBlock = int64_t{kThreads} * kCapPacks;
  if (is_aligned(args.y) && is_aligned(args.bias) && is_whole(args.stride) && is_whole(args.width)) {
    run<cap_rows<kVector>>(queue, {.x = rows, .y = grid_size(args.width, kBlock * kVector), .threads = kThreads}, own);
  } else {
    run<cap_rows<1>>(queue, {.x = rows, .y = grid_size(args.width, kBlock), .threads = kThreads}, own);
  }
}

}  // namespace xlstm::cuda
