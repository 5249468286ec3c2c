// The norms of rows.h: RMSNorm and the head norm with its gate.
#include "kernels/cuda/product.h"
#include "kernels/cuda/rows_parts.h"

namespace xlstm::cuda {
namespace {

constexpr unsigned kMostThreads = 1024;  // of a block that takes a row

// In every thread of the block. `partial`: [kMostThreads / kLanes], used by no other sum.
__device__ inline float block_sum(float value, float* partial) {
  const unsigned lane = threadIdx.x % kLanes;
  const float sum = warp_sum(value);
  if (lane == 0) partial[threadIdx.x / kLanes] = sum;
  __syncthreads();
  return warp_sum(lane < blockDim.x / kLanes ? partial[lane] : 0.0F);
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
        const auto bias = load_pack<kCount>(args.bias + column);
        XLSTM_UNROLL
        for (int i = 0; i < kCount; ++i) y.v[i] += bias.v[i];
      }
    }
  }
  put_pack(args.out, blockIdx.x, column, y);
  if (args.also.values != nullptr) put_pack(args.also, blockIdx.x, column, y);
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
    if (has_norm && first + k * step < args.width) weight[k] = load_pack<kCount>(args.weight + first + k * step);
  }
  wait_for_previous();

  const int64_t row = args.row_ids == nullptr ? static_cast<int64_t>(blockIdx.x) : args.row_ids[blockIdx.x];
  const float* x = args.x + row * args.x_stride;
  Pack<float, kCount> held[kHeld] = {};
  XLSTM_UNROLL
  for (int k = 0; k < kHeld; ++k) {
    if (first + k * step < args.width) held[k] = load_pack<kCount>(x + first + k * step);
  }
  float scale = 1;
  if (has_norm) {
    float squares = 0;
    XLSTM_UNROLL
    for (int k = 0; k < kHeld; ++k) squares += sum_of_squares(held[k]);
    for (int column = first + kHeld * step; column < args.width; column += step) {
      squares += sum_of_squares(load_pack<kCount>(x + column));
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
    if (column < args.width) values = load_pack<kCount>(x + column);
    if (has_norm && column < args.width) weights = load_pack<kCount>(args.weight + column);
    put_normed(args, column, values, weights, scale);
  }
}

// With a float32 matrix w of `outs` rows.
struct SideArgs {
  RmsNormArgs norm;
  const float* w;
  const float* bias;  // may be null
  float* y;
  int64_t w_stride;
  int64_t y_stride;
  int32_t outs;  // a multiple of kSideOuts
  float cap;
};

constexpr int kSideOuts = 2;  // rows of w that a block multiplies by

template <int kCount>
__device__ inline float dot(const Pack<float, kCount>& x, const Pack<float, kCount>& y) {
  float sum = 0;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) sum = fmaf(x.v[i], y.v[i], sum);
  return sum;
}

// normalise_rows() of rows that have no more packs than a block has threads, and of each kSideOuts products. What is
// constant is read before the row is waited for. Grid: [rows, outs / kSideOuts]; the first of a row's blocks writes it.
template <int kCount>
__global__ void __launch_bounds__(kMostThreads) normalise_and_multiply(SideArgs args) {
  __shared__ float partial[kMostThreads / kLanes];
  __shared__ float partial_dots[kSideOuts][kMostThreads / kLanes];
  start_next();
  const RmsNormArgs& norm = args.norm;
  const int column = static_cast<int>(threadIdx.x) * kCount;
  const int64_t first_out = static_cast<int64_t>(blockIdx.y) * kSideOuts;
  const bool inside = column < norm.width;
  Pack<float, kCount> gain = {};
  Pack<float, kCount> bias = {};
  Pack<float, kCount> weights[kSideOuts] = {};
  if (inside) {
    gain = load_pack<kCount>(norm.weight + column);
    if (norm.bias != nullptr) bias = load_pack<kCount>(norm.bias + column);
    XLSTM_UNROLL
    for (int i = 0; i < kSideOuts; ++i) {
      weights[i] = load_pack<kCount>(args.w + (first_out + i) * args.w_stride + column);
    }
  }
  wait_for_previous();

  const int64_t row = blockIdx.x;
  Pack<float, kCount> y = {};
  if (inside) y = load_pack<kCount>(norm.x + row * norm.x_stride + column);
  const float scale = rsqrtf(fmaf(block_sum(sum_of_squares(y), partial), norm.inverse_width, norm.eps));
  if (inside) {
    XLSTM_UNROLL
    for (int i = 0; i < kCount; ++i) y.v[i] = fmaf(y.v[i], scale * gain.v[i], bias.v[i]);
  }
  if (blockIdx.y == 0 && column < norm.out.stride) put_pack(norm.out, row, column, y);
  const auto warp = threadIdx.x / kLanes;
  XLSTM_UNROLL
  for (int i = 0; i < kSideOuts; ++i) {
    const float sum = warp_sum(dot(y, weights[i]));
    if (threadIdx.x % kLanes == 0) partial_dots[i][warp] = sum;
  }
  __syncthreads();
  const unsigned warps = blockDim.x / kLanes;
  const unsigned lane = threadIdx.x % kLanes;
  for (unsigned i = warp; i < kSideOuts; i += warps) {
    float sum = warp_sum(lane < warps ? partial_dots[i][lane] : 0.0F);
    if (args.bias != nullptr) sum += args.bias[first_out + i];
    if (lane == 0) args.y[row * args.y_stride + first_out + i] = capped(sum, args.cap);
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
  if (args.bias != nullptr) bias = load_pack<kCount>(args.bias + feature);
  Pack<float, kCount> y;
  XLSTM_UNROLL
  for (int i = 0; i < kCount; ++i) {
    y.v[i] = fmaf(centred.v[i] * scale, weight.v[i], bias.v[i]) * sigmoid(gate.v[i]);
  }
  put_pack(args.out, row, feature, y);
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
  for (int i = first + kRest; i < args.head_dim; i += kStep) sum += sum_of(load_pack<kCount>(h + i));
  const float mean = warp_sum(sum) * args.inverse_head_dim;

  // The mean is taken off before the squares are summed: where a head's values lie close together nothing cancels.
  float squares = 0;
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    if (first + k * kStep >= args.head_dim) continue;
    held[k] = less(held[k], mean);
    squares += sum_of_squares(held[k]);
  }
  for (int i = first + kRest; i < args.head_dim; i += kStep)
    squares += sum_of_squares(less(load_pack<kCount>(h + i), mean));
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
    if (first + k * kStep < args.head_dim) weight[k] = load_pack<kCount>(args.weight + begin + first + k * kStep);
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
    held[k] = load_pack<kCount>(h + first + k * kStep);
    gate[k] = load_pack<kCount>(o + first + k * kStep);
  }
  const MeanAndScale measured = measure_head<kCount>(args, h, first, held);
  XLSTM_UNROLL
  for (int k = 0; k < kHeldOfHead; ++k) {
    const int i = first + k * kStep;
    if (i < args.head_dim) put_gated(args, row, begin + i, held[k], gate[k], weight[k], measured.scale);
  }
  for (int i = first + kHeldOfHead * kStep; i < args.head_dim; i += kStep) {
    put_gated(args, row, begin + i, less(load_pack<kCount>(h + i), measured.mean), load_pack<kCount>(o + i),
              load_pack<kCount>(args.weight + begin + i), measured.scale);
  }
  if (head != args.heads - 1) return;
  for (int i = begin + args.head_dim + lane; i < args.out.stride; i += kLanes) {
    put_pack(args.out, row, i, Pack<float, 1>{});
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

RmsNormArgs own_args(const RmsNorm& args) {
  check_grid(args.rows, args.out.stride);
  XLSTM_ASSERT(args.also.values == nullptr || args.also.stride == args.out.stride);
  return {args.x,
          args.row_ids,
          args.weight,
          args.bias,
          out_rows(args.out, args.width),
          args.also.values == nullptr ? OutRows{} : out_rows(args.also, args.width),
          args.x_stride,
          args.width,
          args.eps,
          1.0F / static_cast<float>(args.width)};
}

bool takes_vectors(const RmsNorm& args) {
  return is_aligned(args.x) && is_aligned(args.weight) && is_aligned(args.bias) && is_aligned(args.out) &&
         is_aligned(args.also) && is_whole(args.x_stride) && is_whole(args.width);
}

}  // namespace

void rms_norm(Queue& queue, const RmsNorm& args) {
  const RmsNormArgs own = own_args(args);
  if (takes_vectors(args)) {
    normalise<kRowVector>(queue, args.rows, own);
  } else {
    normalise<1>(queue, args.rows, own);
  }
}

bool takes_side(int64_t rows, int64_t width) {
  return rows <= kFewRows && padded_columns(width) <= int64_t{kMostThreads} * (is_whole(width) ? kRowVector : 1);
}

void rms_norm_with_side(Queue& queue, const RmsNorm& args, const Matrix& side, const ProductOutput& y) {
  XLSTM_ASSERT(takes_side(args.rows, args.width) && args.weight != nullptr && args.row_ids == nullptr);
  XLSTM_ASSERT(args.also.values == nullptr && args.out.stride == padded_columns(args.width));
  XLSTM_ASSERT(side.format == WeightFormat::kFloat32 && side.in == args.width && side.out % kSideOuts == 0 && !y.add);
  const SideArgs own = {own_args(args),
                        static_cast<const float*>(side.weight),
                        side.bias,
                        static_cast<float*>(y.y),
                        side.row_bytes / static_cast<int64_t>(sizeof(float)),
                        y.stride,
                        static_cast<int32_t>(side.out),
                        y.cap};
  const bool vectors = takes_vectors(args) && is_aligned(own.w) && is_whole(own.w_stride);
  XLSTM_ASSERT(vectors == is_whole(args.width));
  const Grid grid = {.x = static_cast<unsigned>(args.rows),
                     .y = grid_size(side.out, kSideOuts),
                     .threads = grid_size(args.out.stride, vectors ? kRowVector * kLanes : kLanes) * kLanes};
  if (vectors) {
    run<normalise_and_multiply<kRowVector>>(queue, grid, own);
  } else {
    run<normalise_and_multiply<1>>(queue, grid, own);
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
    run<normalise_heads<kRowVector>>(queue, grid, own);
  } else {
    run<normalise_heads<1>>(queue, grid, own);
  }
}

}  // namespace xlstm::cuda
