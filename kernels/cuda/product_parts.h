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

// Of those threads; kernels may have more.
__device__ inline void sync_product_threads() {
  sync_threads<1, kProductThreads>();
}

constexpr int kTileRows = 8;     // rows of x that a matrix instruction takes
constexpr int kLaneColumns = 8;  // columns that a lane has of kBlockColumns, for two such instructions
constexpr int kBlockColumns = 4 * kLaneColumns;
constexpr int kChunkBytes = 16;  // of a copy
constexpr int kMaxSharedBytes = static_cast<int>(kPlannedSharedBytes);

// What becomes of a sum. The last two: SiLU(gate) · up as float32 or bfloat16.
enum Sink : int32_t { kStore, kAdd, kGateUpFloat32, kGateUpBfloat16 };

constexpr uint32_t kGroupOne = uint32_t{1} << 31;  // a group in fixed point

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
  int32_t out;
  int32_t in;
  int32_t rows;
  int32_t groups;
  uint32_t group_step;  // kGroupOne / a group's blocks of kBlockColumns columns, rounded up
  int32_t norm;         // InputNorm::Kind
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
// Also `side`, a product of the same rows, with the same norm, kRms, and a float32 matrix.
void multiply_narrow(Queue& queue, WeightFormat format, const ProductArgs& args, const ProductArgs& side);
// Any number of rows, without a norm: tiles of W rows by rows of x, the columns shared by blocks where there are few.
void multiply_wide(Queue& queue, WeightFormat format, const ProductArgs& args);
void multiply_float32(Queue& queue, const ProductArgs& args);

template <class T>
__device__ inline T least(T a, T b) {
  return a < b ? a : b;
}

// Of a column that is a multiple of kBlockColumns.
__device__ inline int group_of(const ProductArgs& args, int column) {
  const uint64_t steps = static_cast<uint64_t>(static_cast<uint32_t>(column) / kBlockColumns) * args.group_step;
  return least(static_cast<int>(steps / kGroupOne), args.groups - 1);
}

// Where the scales or zeros of a tile's group begin: those of rows g and g + kTileOuts / 2 are at 2g and 2g + 1.
__device__ inline int64_t first_of_group(const ProductArgs& args, int tile, int group) {
  return (int64_t{tile} * args.groups + group) * kTileOuts;
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
  sum = capped(sum, args.cap);
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

// The columns behind the last pair, of `rows` rows from `first` on; by kThreads threads.
template <int kThreads>
__device__ inline void put_padding(const ProductArgs& args, int64_t first, int rows) {
  for (int row = 0; row < rows; ++row) {
    for (int64_t column = args.out / 2 + threadIdx.x % kThreads; column < args.y_stride; column += kThreads) {
      put_gated(args, first + row, column, 0);
    }
  }
}

// Inputs.

constexpr int kQuad = 4;

__device__ inline void put_input(float* to, float value) {
  *to = value;
}
__device__ inline void put_input(__nv_bfloat16* to, float value) {
  *to = __float2bfloat16_rn(value);
}

// Four columns from `column` on, a multiple of four; `row` is aligned to 16 bytes.
__device__ inline void put_quad(float* row, int column, const float4& values) {
  *reinterpret_cast<float4*>(row + column) = values;
}
__device__ inline void put_quad(__nv_bfloat16* row, int column, const float4& values) {
  const __nv_bfloat16 rounded[kQuad] = {__float2bfloat16_rn(values.x), __float2bfloat16_rn(values.y),
                                        __float2bfloat16_rn(values.z), __float2bfloat16_rn(values.w)};
  uint2 bits;
  memcpy(&bits, rounded, sizeof(bits));
  *reinterpret_cast<uint2*>(row + column) = bits;
}

// What is run once for a kernel is as short as it can be: instructions that are not in a processor's cache take longer
// to come than to run. So rows are taken by four columns at a time where they allow it, all under way together, and by
// short loops where not.
constexpr int kQuads = 4;  // of a thread
constexpr int kHeldColumns = kQuads * kQuad * kProductThreads;
constexpr int kHeldHead = kQuads * kQuad * kLanes;

struct Quads {
  float4 v[kQuads];
};

// The column of a thread's quad i, of kThreads threads.
template <int kThreads>
__device__ inline int column_of_quad(int i) {
  return (i * kThreads + static_cast<int>(threadIdx.x) % kThreads) * kQuad;
}

// Zeros behind the last column.
template <int kThreads>
__device__ inline Quads load_quads(const float* values, int columns) {
  Quads loaded;
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    const int column = column_of_quad<kThreads>(i);
    loaded.v[i] = column < columns ? *reinterpret_cast<const float4*>(values + column) : float4{};
  }
  return loaded;
}

__device__ inline bool takes_quads(const ProductArgs& args) {
  const bool heads = args.norm == InputNorm::kGatedHead;
  const int width = heads ? args.head_dim : args.in;
  const uintptr_t pointers = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(args.norm_weight) |
                             reinterpret_cast<uintptr_t>(args.norm_bias) | reinterpret_cast<uintptr_t>(args.o);
  return pointers % sizeof(float4) == 0 && (args.x_stride | args.o_stride | width) % kQuad == 0 &&
         width <= (heads ? kHeldHead : kHeldColumns);
}

__device__ inline int heads_of(const ProductArgs& args) {
  return args.in / args.head_dim;
}

// What a thread needs of the norm's weights first. May be called before wait_for_previous().
__device__ inline Quads load_gains(const ProductArgs& args) {
  if (args.norm != InputNorm::kGatedHead) {
    return load_quads<kProductThreads>(args.norm_weight,
                                       args.norm == InputNorm::kRms && takes_quads(args) ? args.in : 0);
  }
  const int head = warp_of_block() % heads_of(args);
  return load_quads<kLanes>(args.norm_weight + head * args.head_dim, takes_quads(args) ? args.head_dim : 0);
}

__device__ inline float sum_of(const float4& x) {
  return (x.x + x.y) + (x.z + x.w);
}
__device__ inline float add_squares(const float4& x, float sum) {
  return fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, sum))));
}
__device__ inline float4 multiplied(const float4& a, const float4& b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}
__device__ inline float4 multiplied(const float4& a, float b) {
  return {a.x * b, a.y * b, a.z * b, a.w * b};
}
__device__ inline float4 added(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// To be added to a thread's normed quads of `columns` columns.
template <int kThreads>
__device__ inline void add_bias(const float* bias, int columns, Quads& values) {
  if (bias == nullptr) return;
  const Quads loaded = load_quads<kThreads>(bias, columns);
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) values.v[i] = added(values.v[i], loaded.v[i]);
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

__device__ inline const float* input_row(const ProductArgs& args, int row) {
  return static_cast<const float*>(args.x) + row * args.x_stride;
}

// A row with zeros up to `columns`.
template <class T>
__device__ inline void fill_held_row(const ProductArgs& args, const Quads& gains, int row, float* partial, T* to,
                                     int columns) {
  Quads x = load_quads<kProductThreads>(input_row(args, row), args.in);
  float squares = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) squares = add_squares(x.v[i], squares);
  put_squares(squares, partial);
  sync_product_threads();
  const float scale = rms_scale(args, partial);
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) x.v[i] = multiplied(multiplied(x.v[i], scale), gains.v[i]);
  add_bias<kProductThreads>(args.norm_bias, args.in, x);
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    const int column = column_of_quad<kProductThreads>(i);
    if (column < columns) put_quad(to, column, x.v[i]);
  }
}

// The same of any row.
template <class T>
__device__ inline void fill_any_row(const ProductArgs& args, int row, float* partial, T* to, int columns) {
  const float* const x = input_row(args, row);
  const int thread = static_cast<int>(threadIdx.x);
  float squares = 0;
  for (int i = thread; i < args.in; i += kProductThreads) squares = fmaf(x[i], x[i], squares);
  put_squares(squares, partial);
  sync_product_threads();
  const float scale = rms_scale(args, partial);
  for (int i = thread; i < columns; i += kProductThreads) {
    float value = 0;
    if (i < args.in) {
      value = x[i] * scale * args.norm_weight[i];
      if (args.norm_bias != nullptr) value += args.norm_bias[i];
    }
    put_input(to + i, value);
  }
}

// rows of rms_norm() (rows.h) in shared memory, `stride` elements apart, with zeros up to `columns`. Leaves what
// rms_scale() needs of each row in `partial`: [kFusedNormRows, kProductWarps].
template <class T>
__device__ inline void fill_rms(const ProductArgs& args, const Quads& gains, float* partial, T* rows, int stride,
                                int columns) {
  const bool held = takes_quads(args);
  for (int row = 0; row < args.rows; ++row) {
    float* const of_row = partial + row * kProductWarps;
    if (held) {
      fill_held_row(args, gains, row, of_row, rows + row * stride, columns);
    } else {
      fill_any_row(args, row, of_row, rows + row * stride, columns);
    }
  }
}

// The sigmoid as an input of a product needs it, which rounds it to T.
template <class T>
__device__ inline float output_gate(float o) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return sigmoid(o);
  } else {
    return __fdividef(1.0F, 1.0F + __expf(-o));
  }
}

template <class T>
__device__ inline float4 output_gates(const float4& o) {
  return {output_gate<T>(o.x), output_gate<T>(o.y), output_gate<T>(o.z), output_gate<T>(o.w)};
}

// A row's head, `first` and further, as gated_head_norm() (rows.h) has it; by a warp.
template <class T>
__device__ inline void put_held_head(const ProductArgs& args, Quads h, const Quads& o, const Quads& gains, int first,
                                     T* to) {
  const auto width = static_cast<float>(args.head_dim);
  float sum = 0;
  XLSTM_UNROLL
  for (const float4& quad : h.v) sum += sum_of(quad);
  const float mean = warp_sum(sum) / width;
  float squares = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    h.v[i] = added(h.v[i], {-mean, -mean, -mean, -mean});
    if (column_of_quad<kLanes>(i) < args.head_dim) squares = add_squares(h.v[i], squares);
  }
  const float scale = 1.0F / sqrtf(warp_sum(squares) / width + args.eps);
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) h.v[i] = multiplied(multiplied(h.v[i], scale), gains.v[i]);
  add_bias<kLanes>(args.norm_bias == nullptr ? nullptr : args.norm_bias + first, args.head_dim, h);
  XLSTM_UNROLL
  for (int i = 0; i < kQuads; ++i) {
    const int column = column_of_quad<kLanes>(i);
    if (column < args.head_dim) put_quad(to, first + column, multiplied(h.v[i], output_gates<T>(o.v[i])));
  }
}

// The same of any head.
template <class T>
__device__ inline void put_any_head(const ProductArgs& args, const float* h, const float* o, int first, T* to) {
  const int lane = lane_of_warp();
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
    put_input(to + first + i, value * output_gate<T>(o[i]));
  }
}

// `gains`: of the warp's first head.
template <class T>
__device__ inline void fill_heads(const ProductArgs& args, Quads gains, T* rows, int stride, int columns) {
  const bool held = takes_quads(args);
  const int heads = heads_of(args);
  int row = 0;
  int head = warp_of_block();
  bool first_head = true;
  for (;; head += kProductWarps) {
    for (; head >= heads; head -= heads) ++row;
    if (row >= args.rows) break;
    const int first = head * args.head_dim;
    const float* const h = input_row(args, row) + first;
    const float* const o = args.o + row * args.o_stride + first;
    if (held) {
      if (!first_head) gains = load_quads<kLanes>(args.norm_weight + first, args.head_dim);
      put_held_head(args, load_quads<kLanes>(h, args.head_dim), load_quads<kLanes>(o, args.head_dim), gains, first,
                    rows + row * stride);
    } else {
      put_any_head(args, h, o, first, rows + row * stride);
    }
    first_head = false;
  }
  for (int row = 0; row < args.rows; ++row) {
    for (int column = args.in + static_cast<int>(threadIdx.x); column < columns; column += kProductThreads) {
      put_input(rows + row * stride + column, 0);
    }
  }
}

}  // namespace xlstm::cuda
