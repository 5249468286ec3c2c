// Products of many rows with integer codes: the codes become bfloat16 weights in scratch memory, a slice of the matrix
// at a time, and the library multiplies by them. The matrix units then do nothing but multiply, which for many rows
// outweighs the detour through memory.
#include <algorithm>

#include "kernels/cuda/product_parts.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHalfTile = kTileOuts / 2;  // scales of rows g and g + kHalfTile are beside each other
// Of the scratch memory: several rounds of the library's tiles for each processor.
constexpr int64_t kMostBytes = int64_t{64} << 20;

struct WidenArgs {
  const uint8_t* weight;
  const uint16_t* scale;
  const uint8_t* zero;
  __nv_bfloat16* to;  // [outs, stride]
  int64_t row_bytes;
  int64_t stride;
  int32_t in;
  int32_t groups;
  int32_t group;  // columns
  int32_t first_out;
  int32_t blocks;  // of a row
  int32_t unused;
};

// to[r][i] = scale · (code - zero), rounded once; zeros from column `in` on. Grid: [rows of W · args.blocks].
template <class F>
__global__ void __launch_bounds__(kThreads) widen_codes(WidenArgs args) {
  start_next();
  const int row = static_cast<int>(blockIdx.x) / args.blocks;
  const int part = static_cast<int>(blockIdx.x) % args.blocks;
  const int column = (part * kThreads + static_cast<int>(threadIdx.x)) * kLaneColumns;
  const bool is_inside = column < args.stride;
  const int out = args.first_out + row;
  float scale = 0;
  uint32_t pairs[F::kParts][4] = {};
  if (is_inside) {
    const uint8_t* from = args.weight + int64_t{out} * args.row_bytes + column * F::kBits / 8;
    const int group = least(column / args.group, args.groups - 1);
    const int64_t place = (int64_t{out / kTileOuts} * args.groups + group) * kTileOuts + out % kHalfTile * 2 +
                          out % kTileOuts / kHalfTile;
    scale = half_value(args.scale[place]);
    F::widen(*reinterpret_cast<const typename F::Raw*>(from), F::kHasZero ? args.zero[place] : 0, pairs);
  }
  wait_for_previous();  // for the product before, which reads what is written here
  if (!is_inside) return;
  uint32_t words[4];
  XLSTM_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float even = column + 2 * i < args.in ? scale * __uint_as_float(pairs[0][i] << 16) : 0;
    const float odd = column + 2 * i + 1 < args.in ? scale * __uint_as_float(pairs[0][i] & 0xffff0000U) : 0;
    const __nv_bfloat16 pair[2] = {__float2bfloat16_rn(even), __float2bfloat16_rn(odd)};
    memcpy(&words[i], pair, sizeof(words[i]));
  }
  *reinterpret_cast<uint4*>(args.to + row * args.stride + column) = make_uint4(words[0], words[1], words[2], words[3]);
}

constexpr int64_t kSliceUnit = 128;  // rows of W: whole tiles of the library's

int64_t widened_row_bytes(int64_t in) {
  return padded_columns(in) * static_cast<int64_t>(sizeof(uint16_t));
}

// Rows of W that fit into so many bytes: all, or whole units, and one at least.
int64_t outs_that_fit(int64_t out, int64_t in, int64_t bytes) {
  const int64_t fitting = bytes / widened_row_bytes(in);
  return out <= fitting ? out : std::max(kSliceUnit, fitting / kSliceUnit * kSliceUnit);
}

// All slices but the last are equal.
int64_t outs_of_slice(int64_t out, int64_t in, int64_t bytes) {
  const int64_t most = outs_that_fit(out, in, bytes);
  return out == most ? out : blocks_of(blocks_of(out, blocks_of(out, most)), kSliceUnit) * kSliceUnit;
}

}  // namespace

int64_t widened_bytes(int64_t out, int64_t in) {
  return outs_that_fit(out, in, kMostBytes) * widened_row_bytes(in);
}

void multiply_widened(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y,
                      const WidenedScratch& scratch) {
  XLSTM_ASSERT(is_widened(matrix.format, rows) && x.norm.kind == InputNorm::kNone);
  const int64_t stride = padded_columns(matrix.in);
  const int64_t slice = outs_of_slice(matrix.out, matrix.in, scratch.bytes);
  XLSTM_ASSERT(slice * widened_row_bytes(matrix.in) <= scratch.bytes);
  const int64_t blocks = blocks_of(stride, int64_t{kThreads} * kLaneColumns);
  XLSTM_ASSERT(slice * blocks <= INT32_MAX);
  WidenArgs args{static_cast<const uint8_t*>(matrix.weight),
                 static_cast<const uint16_t*>(matrix.scale),
                 matrix.zero,
                 static_cast<__nv_bfloat16*>(scratch.memory),
                 matrix.row_bytes,
                 stride,
                 static_cast<int32_t>(matrix.in),
                 static_cast<int32_t>(blocks_of(matrix.in, matrix.group)),
                 static_cast<int32_t>(std::min(matrix.group, stride)),
                 0,
                 static_cast<int32_t>(blocks),
                 0};
  for (int64_t first = 0; first < matrix.out; first += slice) {
    Matrix widened;
    widened.weight = scratch.memory;
    widened.bias = matrix.bias == nullptr ? nullptr : matrix.bias + first;
    widened.out = std::min(slice, matrix.out - first);
    widened.in = matrix.in;
    widened.row_bytes = widened_row_bytes(matrix.in);
    widened.format = WeightFormat::kBfloat16;
    args.first_out = static_cast<int32_t>(first);
    const Grid grid{.x = static_cast<unsigned>(widened.out * args.blocks), .threads = kThreads};
    if (matrix.format == WeightFormat::kInt8) {
      run<widen_codes<Int8Weights>>(queue, grid, args);
    } else {
      run<widen_codes<Int4Weights>>(queue, grid, args);
    }
    ProductOutput part = y;
    part.y = static_cast<uint8_t*>(y.y) + first * (y.bfloat16 ? sizeof(uint16_t) : sizeof(float));
    multiply(queue, widened, x, rows, part);
  }
}

}  // namespace xlstm::cuda
