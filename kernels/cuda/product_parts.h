// What the kernels of the products share: their arguments, how inputs are normed, how sums become results. For .cu
// files only.
#pragma once

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/product_weights.h"
#include "kernels/cuda/warp.h"

namespace xlstm::cuda {

constexpr int kProductWarps = 8;
constexpr int kProductThreads = kProductWarps * kLanes;
constexpr int kTileOuts = 16;    // rows of W that a matrix instruction takes
constexpr int kTileRows = 8;     // and rows of x
constexpr int kLaneColumns = 8;  // columns that a lane has of kBlockColumns, for two such instructions
constexpr int kBlockColumns = 4 * kLaneColumns;
constexpr int kChunkBytes = 16;  // of a copy
constexpr int kMaxSharedBytes = static_cast<int>(kPlannedSharedBytes);

// What becomes of a sum. The last two: SiLU(gate) · up as float32 or bfloat16.
enum Sink : int32_t { kStore, kAdd, kGateUpFloat32, kGateUpBfloat16 };

// Without padding. Pointers and sizes: product.h.
struct ProductArgs {
  const uint8_t* weight;
  const uint16_t* scale;
  const uint8_t* zero;
  const float* bias;
  const void* x;
  const float* norm_weight;
  const float* norm_bias;
  const float* o;
  void* y;
  float* partial;  // sums of `splits` shares of the columns: [splits, rows, out]
  int64_t row_bytes;
  int64_t x_stride;
  int64_t o_stride;
  int64_t y_stride;
  int64_t group_step;  // groups in kBlockColumns columns · 2³²
  int32_t out;
  int32_t in;
  int32_t rows;
  int32_t groups;
  int32_t group;
  int32_t norm;  // InputNorm::Kind
  int32_t head_dim;
  int32_t sink;
  int32_t width;  // of a gate|up product
  int32_t splits;
  float eps;
  float cap;
};

// Host code that appends kernels. All fields but `partial` and `splits` are set.

// Rows of x in the shared memory of every block, up to kTileRows of them; the warps of a block share the columns.
[[nodiscard]] bool narrow_fits(WeightFormat format, const ProductArgs& args);
void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args);
// Also `side`, a product of the same rows, with the same norm, kRms, and a float32 matrix; if its rows fit.
[[nodiscard]] bool side_fits(const ProductArgs& side);
void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args, const ProductArgs& side);
// Any number of rows, without a norm: tiles of W rows by rows of x, the columns shared by blocks where there are few.
void multiply_wide(Queue& queue, WeightFormat format, const ProductArgs& args);
void multiply_float32(Queue& queue, const ProductArgs& args);

[[nodiscard]] int processors(int device);

template <class T>
__device__ inline T least(T a, T b) {
  return a < b ? a : b;
}

// Of a column that is a multiple of kBlockColumns.
__device__ inline int group_of(const ProductArgs& args, int column) {
  const auto group = static_cast<int>(column / kBlockColumns * args.group_step >> 32);
  return least(group, args.groups - 1);
}

// Where 16 bytes of a row stand in shared memory, so that lanes which read the same chunks of neighbouring rows find
// them in different banks.
template <int kRowBytes>
__device__ inline int chunk_place(int row, int chunk) {
  static_assert(kRowBytes == 32 || kRowBytes == 64 || kRowBytes == 128);
  int turn = 0;
  if constexpr (kRowBytes == 128) turn = (row & 1) * 4;
  if constexpr (kRowBytes == 64) turn = (row >> 1 & 1) * 2 + (row >> 2 & 1);
  if constexpr (kRowBytes == 32) turn = row >> 2 & 1;
  return row * kRowBytes + (chunk ^ turn) * kChunkBytes;
}

// Results.

__device__ inline void put(const ProductArgs& args, int64_t row, int column, float sum) {
  float* const y = static_cast<float*>(args.y) + row * args.y_stride + column;
  if (args.bias != nullptr) sum += args.bias[column];
  if (args.cap > 0) sum = args.cap * tanhf(sum / args.cap);
  if (args.sink == kAdd) {
    atomicAdd(y, sum);  // no other thread adds to it; unlike a load and a store, nothing waits for it
  } else {
    *y = sum;
  }
}

__device__ inline void put_gated(const ProductArgs& args, int64_t row, int64_t column, float value) {
  const int64_t index = row * args.y_stride + column;
  if (args.sink == kGateUpFloat32) {
    static_cast<float*>(args.y)[index] = value;
  } else {
    static_cast<__nv_bfloat16*>(args.y)[index] = __float2bfloat16_rn(value);
  }
}

// Of pair `column`, whose gate row of W is `gate_row`.
__device__ inline void put_gate_up(const ProductArgs& args, int64_t row, int column, int gate_row, float gate,
                                   float up) {
  if (args.bias != nullptr) {
    gate += args.bias[gate_row];
    up += args.bias[gate_row + kGateUpRun];
  }
  const float value = silu(gate) * up;
  put_gated(args, row, column, column < args.width ? value : 0);
}

__device__ inline bool is_gate_up(const ProductArgs& args) {
  return args.sink >= kGateUpFloat32;
}

// The columns behind the last pair, of `rows` rows from `first` on; by a block.
__device__ inline void put_padding(const ProductArgs& args, int64_t first, int rows) {
  for (int row = 0; row < rows; ++row) {
    for (int64_t column = args.out / 2 + threadIdx.x; column < args.y_stride; column += kProductThreads) {
      put_gated(args, first + row, column, 0);
    }
  }
}

// Inputs.

__device__ inline void put_input(float* to, float value) {
  *to = value;
}
__device__ inline void put_input(__nv_bfloat16* to, float value) {
  *to = __float2bfloat16_rn(value);
}

// Values that a thread takes at once, all under way together: of a row in steps of the block's threads, or of a head in
// steps of a warp's lanes.
constexpr int kHeldValues = 16;
constexpr int kSweep = kHeldValues * kProductThreads;
constexpr int kHeldHead = kHeldValues * kLanes;

struct Sweep {
  float v[kHeldValues];
};

// Values first, first + kStep, ...; zeros behind the last.
template <int kStep>
__device__ inline Sweep load_steps(const float* values, int first, int columns) {
  Sweep loaded;
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) {
    const int column = first + i * kStep;
    loaded.v[i] = column < columns ? values[column] : 0;
  }
  return loaded;
}

__device__ inline Sweep load_sweep(const float* values, int first, int columns) {
  return load_steps<kProductThreads>(values, first + static_cast<int>(threadIdx.x), columns);
}

// `columns` of a head, by a warp.
__device__ inline Sweep load_head(const float* values, int columns) {
  return load_steps<kLanes>(values, static_cast<int>(threadIdx.x) % kLanes, columns);
}

__device__ inline int heads_of(const ProductArgs& args) {
  return args.in / args.head_dim;
}

// What a thread needs of the norm's weights first. May be called before wait_for_previous().
__device__ inline Sweep load_gains(const ProductArgs& args) {
  if (args.norm != InputNorm::kGatedHead) {
    return load_sweep(args.norm_weight, 0, args.norm == InputNorm::kRms ? args.in : 0);
  }
  const int head = static_cast<int>(threadIdx.x) / kLanes % heads_of(args);
  return load_head(args.norm_weight + head * args.head_dim, args.head_dim);
}

__device__ inline float sum_of_squares(const Sweep& values, float sum) {
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) sum = fmaf(values.v[i], values.v[i], sum);
  return sum;
}

// `partial`: of the warps, for rms_scale().
__device__ inline void put_squares(float sum, float* partial) {
  sum = warp_sum(sum);
  if (threadIdx.x % kLanes == 0) partial[threadIdx.x / kLanes] = sum;
}

__device__ inline float rms_scale(const ProductArgs& args, const float* partial) {
  float squares = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kProductWarps; ++i) squares += partial[i];
  return 1.0F / sqrtf(squares / static_cast<float>(args.in) + args.eps);
}

// Columns of a row from `first` on, with zeros up to `columns`: those of x and `gains` are zeros there.
template <class Order, class T>
__device__ inline void put_normed(const ProductArgs& args, const Sweep& x, float scale, const Sweep& gains, int first,
                                  int columns, T* row) {
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) {
    const int column = first + i * kProductThreads + static_cast<int>(threadIdx.x);
    float value = x.v[i] * scale * gains.v[i];
    if (args.norm_bias != nullptr && column < args.in) value += args.norm_bias[column];
    if (column < columns) put_input(row + Order::place(column), value);
  }
}

constexpr int kHeldRows = 2;

__device__ inline const float* input_row(const ProductArgs& args, int row) {
  return static_cast<const float*>(args.x) + row * args.x_stride;
}

// Of at most kSweep columns: kHeldRows rows from `row` on are read once. partial: [kHeldRows, kProductWarps].
template <class Order, class T>
__device__ inline void fill_held_rows(const ProductArgs& args, const Sweep& gains, int row, float* partial, T* rows,
                                      int stride, int columns) {
  Sweep x[kHeldRows];
  XLSTM_UNROLL
  for (int i = 0; i < kHeldRows; ++i) x[i] = load_sweep(input_row(args, row + i), 0, row + i < args.rows ? args.in : 0);
  XLSTM_UNROLL
  for (int i = 0; i < kHeldRows; ++i) put_squares(sum_of_squares(x[i], 0), partial + i * kProductWarps);
  __syncthreads();
  XLSTM_UNROLL
  for (int i = 0; i < kHeldRows; ++i) {
    if (row + i >= args.rows) break;
    const float scale = rms_scale(args, partial + i * kProductWarps);
    put_normed<Order>(args, x[i], scale, gains, 0, columns, rows + (row + i) * stride);
  }
}

template <class Order, class T>
__device__ inline void fill_long_row(const ProductArgs& args, int row, float* partial, T* to, int columns) {
  const float* const x = input_row(args, row);
  float sum = 0;
  for (int first = 0; first < args.in; first += kSweep) sum = sum_of_squares(load_sweep(x, first, args.in), sum);
  put_squares(sum, partial);
  __syncthreads();
  const float scale = rms_scale(args, partial);
  for (int first = 0; first < columns; first += kSweep) {
    const Sweep gains = load_sweep(args.norm_weight, first, args.in);
    put_normed<Order>(args, load_sweep(x, first, args.in), scale, gains, first, columns, to);
  }
}

// rows of rms_norm() (rows.h) in shared memory, `stride` elements apart, with zeros up to `columns`.
template <class Order, class T>
__device__ inline void fill_rms(const ProductArgs& args, const Sweep& gains, T* rows, int stride, int columns) {
  __shared__ float partial[kFusedNormRows * kProductWarps];
  if (columns <= kSweep) {
    for (int row = 0; row < args.rows; row += kHeldRows) {
      fill_held_rows<Order>(args, gains, row, partial + row * kProductWarps, rows, stride, columns);
    }
  } else {
    for (int row = 0; row < args.rows; ++row) {
      fill_long_row<Order>(args, row, partial + row * kProductWarps, rows + row * stride, columns);
    }
  }
}

// A row's head of at most kHeldHead columns, `first` and further, as gated_head_norm() (rows.h) has it; by a warp.
template <class Order, class T>
__device__ inline void put_held_head(const ProductArgs& args, const Sweep& h, const Sweep& o, const Sweep& gains,
                                     int first, T* to) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto width = static_cast<float>(args.head_dim);
  float sum = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) sum += h.v[i];
  const float mean = warp_sum(sum) / width;
  float squares = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) {
    const float difference = lane + i * kLanes < args.head_dim ? h.v[i] - mean : 0;
    squares = fmaf(difference, difference, squares);
  }
  const float scale = 1.0F / sqrtf(warp_sum(squares) / width + args.eps);
  XLSTM_UNROLL
  for (int i = 0; i < kHeldValues; ++i) {
    const int column = lane + i * kLanes;
    if (column >= args.head_dim) break;
    float value = (h.v[i] - mean) * scale * gains.v[i];
    if (args.norm_bias != nullptr) value += args.norm_bias[first + column];
    put_input(to + Order::place(first + column), value * sigmoid(o.v[i]));
  }
}

// `gains`: of the warp's first head.
template <class Order, class T>
__device__ inline void fill_held_heads(const ProductArgs& args, Sweep gains, T* rows, int stride) {
  const int heads = heads_of(args);
  const int items = args.rows * heads;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  int head_of_gains = warp % heads;
  for (int item = warp; item < items; item += kProductWarps) {
    const int row = item / heads;
    const int head = item % heads;
    const int first = head * args.head_dim;
    const Sweep h = load_head(input_row(args, row) + first, args.head_dim);
    const Sweep o = load_head(args.o + row * args.o_stride + first, args.head_dim);
    if (head != head_of_gains) gains = load_head(args.norm_weight + first, args.head_dim);
    head_of_gains = head;
    put_held_head<Order>(args, h, o, gains, first, rows + row * stride);
  }
}

// The same of any number of columns.
template <class Order, class T>
__device__ inline void fill_long_head(const ProductArgs& args, int row, int first, T* to) {
  const float* const h = input_row(args, row) + first;
  const float* const o = args.o + row * args.o_stride + first;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto width = static_cast<float>(args.head_dim);
  float sum = 0;
  for (int i = lane; i < args.head_dim; i += kLanes) sum += h[i];
  const float mean = warp_sum(sum) / width;
  float squares = 0;
  for (int i = lane; i < args.head_dim; i += kLanes) squares = fmaf(h[i] - mean, h[i] - mean, squares);
  const float scale = 1.0F / sqrtf(warp_sum(squares) / width + args.eps);
  for (int i = lane; i < args.head_dim; i += kLanes) {
    float value = (h[i] - mean) * scale * args.norm_weight[first + i];
    if (args.norm_bias != nullptr) value += args.norm_bias[first + i];
    put_input(to + Order::place(first + i), value * sigmoid(o[i]));
  }
}

template <class Order, class T>
__device__ inline void fill_long_heads(const ProductArgs& args, T* rows, int stride) {
  const int heads = heads_of(args);
  for (int item = static_cast<int>(threadIdx.x) / kLanes; item < args.rows * heads; item += kProductWarps) {
    const int row = item / heads;
    fill_long_head<Order>(args, row, item % heads * args.head_dim, rows + row * stride);
  }
}

template <class Order, class T>
__device__ inline void fill_heads(const ProductArgs& args, const Sweep& gains, T* rows, int stride, int columns) {
  if (args.head_dim <= kHeldHead) {
    fill_held_heads<Order>(args, gains, rows, stride);
  } else {
    fill_long_heads<Order>(args, rows, stride);
  }
  for (int row = 0; row < args.rows; ++row) {
    for (int column = args.in + static_cast<int>(threadIdx.x); column < columns; column += kProductThreads) {
      put_input(rows + row * stride + Order::place(column), 0);
    }
  }
}

}  // namespace xlstm::cuda
