// Products with float32 weights, by fused multiplications and additions. A block has a few W rows and up to eight rows
// of x; its threads share the columns, four at a time.
#include <string>

#include "kernels/cuda/product_parts.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kVector = 4;
constexpr int kPadColumns = static_cast<int>(kColumnPad);

__device__ __host__ inline int padded(int in) {
  return (in + kPadColumns - 1) / kPadColumns * kPadColumns;
}

// W row `i` of the block's; of a gate|up matrix gate rows, then the up rows beside them.
template <int kOuts>
__device__ inline int weight_row(const ProductArgs& args, int i) {
  if (!is_gate_up(args)) return static_cast<int>(blockIdx.x) * kOuts + i;
  constexpr int kPairs = kOuts > 1 ? kOuts / 2 : 1;
  constexpr int kRun = static_cast<int>(kGateUpRun);
  const int pair = static_cast<int>(blockIdx.x) * kPairs + i % kPairs;
  return pair / kRun * kTileOuts + pair % kRun + i / kPairs * kRun;
}

template <int kOuts>
struct Vectors {
  float4 v[kOuts];
};

// Vector `index` of each W row; zeros behind the end. Rows behind the last are the last again.
template <int kOuts>
__device__ inline Vectors<kOuts> load_weights(const ProductArgs& args, int index, int vectors) {
  Vectors<kOuts> loaded{};
  if (index < vectors) {
    XLSTM_UNROLL
    for (int i = 0; i < kOuts; ++i) {
      const int64_t row = least(weight_row<kOuts>(args, i), args.out - 1);
      loaded.v[i] = __ldg(reinterpret_cast<const float4*>(args.weight + row * args.row_bytes) + index);
    }
  }
  return loaded;
}

template <int kRows, int kOuts>
__device__ inline void add_vectors(const Vectors<kOuts>& weights, const float* x, int64_t stride, int rows,
                                   float (&sums)[kRows][kOuts]) {
  XLSTM_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const float4 factor = *reinterpret_cast<const float4*>(x + least(row, rows - 1) * stride);
    XLSTM_UNROLL
    for (int i = 0; i < kOuts; ++i) {
      const float4& w = weights.v[i];
      sums[row][i] = fmaf(w.w, factor.w, fmaf(w.z, factor.z, fmaf(w.y, factor.y, fmaf(w.x, factor.x, sums[row][i]))));
    }
  }
}

// Result `index` of the block's, [rows][W rows]; of a gate|up matrix of its pairs.
template <int kRows, int kOuts>
__device__ inline void finish(const ProductArgs& args, int64_t first_row, int rows, const float* sums) {
  const auto total = [&](int row, int i) {
    float sum = 0;
    XLSTM_UNROLL
    for (int warp = 0; warp < kProductWarps; ++warp) sum += sums[(warp * kRows + row) * kOuts + i];
    return sum;
  };
  const int thread = static_cast<int>(threadIdx.x);
  if (!is_gate_up(args)) {
    const int out = weight_row<kOuts>(args, thread % kOuts);
    const int row = thread / kOuts;
    if (row < rows && out < args.out) put(args, first_row + row, out, total(row, thread % kOuts));
    return;
  }
  constexpr int kPairs = kOuts > 1 ? kOuts / 2 : 1;
  const int pair = static_cast<int>(blockIdx.x) * kPairs + thread % kPairs;
  const int row = thread / kPairs;
  if (row < rows && pair < args.out / 2) {
    put_gate_up(args, first_row + row, pair, weight_row<kOuts>(args, thread % kPairs), total(row, thread % kPairs),
                total(row, kOuts - kPairs + thread % kPairs));
  }
  if (blockIdx.x == 0) put_padding<kProductThreads>(args, first_row, rows);
}

// Grid: [W rows / kOuts up, rows / kRows up]. kDepth: vectors of each W row that a thread has under way.
template <int kRows, int kOuts, int kDepth>
__global__ void __launch_bounds__(kProductThreads, 2) float32_product(ProductArgs args) {
  XLSTM_DYNAMIC_SHARED(float, normed);
  __shared__ float sums_of_warps[kProductWarps * kRows * kOuts];
  __shared__ float partial[kFusedNormRows * kProductWarps];
  const int columns = padded(args.in);
  const int vectors = columns / kVector;
  const int thread = static_cast<int>(threadIdx.x);
  Vectors<kOuts> weights[kDepth];
  XLSTM_UNROLL
  for (int i = 0; i < kDepth; ++i) weights[i] = load_weights<kOuts>(args, thread + i * kProductThreads, vectors);
  const Quads gains = load_gains(args);
  start_next();
  wait_for_previous();

  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kRows;
  const int rows = static_cast<int>(least(args.rows - first_row, int64_t{kRows}));
  const float* x = static_cast<const float*>(args.x) + first_row * args.x_stride;
  int64_t stride = args.x_stride;
  if (args.norm != InputNorm::kNone) {
    ProductArgs own = args;
    own.rows = rows;
    own.x = x;
    own.o = args.o + (args.o == nullptr ? 0 : first_row * args.o_stride);
    if (args.norm == InputNorm::kRms) fill_rms(own, gains, partial, normed, columns, columns);
    if (args.norm == InputNorm::kGatedHead) fill_heads(own, gains, normed, columns, columns);
    __syncthreads();
    x = normed;
    stride = columns;
  }

  float sums[kRows][kOuts] = {};
  for (int first = thread; first < vectors; first += kDepth * kProductThreads) {
    XLSTM_UNROLL
    for (int i = 0; i < kDepth; ++i) {
      const int index = first + i * kProductThreads;
      if (index < vectors) add_vectors<kRows, kOuts>(weights[i], x + index * kVector, stride, rows, sums);
      weights[i] = load_weights<kOuts>(args, index + kDepth * kProductThreads, vectors);
    }
  }
  XLSTM_UNROLL
  for (int i = 0; i < kRows * kOuts; ++i) {
    const float sum = warp_sum(sums[i / kOuts][i % kOuts]);
    if (thread % kLanes == 0) sums_of_warps[thread / kLanes * kRows * kOuts + i] = sum;
  }
  __syncthreads();
  finish<kRows, kOuts>(args, first_row, rows, sums_of_warps);
}

template <int kRows, int kOuts, int kDepth>
void append(Queue& queue, const ProductArgs& args) {
  const bool norms = args.norm != InputNorm::kNone;
  const int64_t shared = norms ? int64_t{kRows} * padded(args.in) * static_cast<int64_t>(sizeof(float)) : 0;
  run<float32_product<kRows, kOuts, kDepth>>(queue,
                                             {.x = static_cast<unsigned>(blocks_of(args.out, kOuts)),
                                              .y = static_cast<unsigned>(blocks_of(args.rows, kRows)),
                                              .threads = kProductThreads,
                                              .shared_bytes = static_cast<unsigned>(shared)},
                                             args);
}

// Few W rows are spread over more processors.
template <int kRows>
void append(Queue& queue, const ProductArgs& args) {
  constexpr int kManyOuts = 4;
  if (args.sink < kGateUpFloat32 && args.out < kManyOuts * queue.processors()) {
    append<kRows, 1, 4>(queue, args);
  } else {
    append<kRows, kManyOuts, 2>(queue, args);
  }
}

// Rows of x of a block.
int rows_of_block(const ProductArgs& args) {
  constexpr int kMostRows = 8;
  constexpr int64_t kStaticBytes = 4 * 1024;
  int rows = 1;
  while (rows < args.rows && rows < kMostRows) rows *= 2;
  if (args.norm == InputNorm::kNone) return rows;
  const int64_t row_bytes = int64_t{padded(args.in)} * static_cast<int64_t>(sizeof(float));
  while (rows > 1 && rows * row_bytes > kMaxSharedBytes - kStaticBytes) rows /= 2;
  if (row_bytes > kMaxSharedBytes - kStaticBytes) {
    fail(ExitCode::kDevice, "columns of a normed product", "CUDA kernels", "a row of x that fits into shared memory",
         std::to_string(args.in));
  }
  return rows;
}

}  // namespace

void multiply_float32(Queue& queue, const ProductArgs& args) {
  switch (rows_of_block(args)) {
    case 1: return append<1>(queue, args);
    case 2: return append<2>(queue, args);
    case 4: return append<4>(queue, args);
    default: return append<8>(queue, args);
  }
}

}  // namespace xlstm::cuda
