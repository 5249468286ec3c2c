// Which kernel multiplies.
#include "kernels/cuda/product.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/product_parts.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

// Beyond these cuBLAS is faster, at 64 rows of bfloat16 by half (on an H200, the 7B shape). It knows neither float16
// weights with bfloat16 inputs nor integer codes.
constexpr int64_t kMostBfloat16Rows = 8;
constexpr int64_t kMostFloat32Rows = 64;
// Beyond these the block that has a gate row and its up row has too many sums.
constexpr int64_t kMostFusedGateUpRows = 64;

// Of a product by kernels of our own.
int64_t most_own_rows(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32: return kMostFloat32Rows;
    case WeightFormat::kBfloat16: return kMostBfloat16Rows;
    default: return std::numeric_limits<int64_t>::max();
  }
}

int32_t to_int32(int64_t value) {
  XLSTM_ASSERT(value >= 0 && value <= INT32_MAX);
  return static_cast<int32_t>(value);
}

ProductArgs args_of(const Matrix& matrix, const ProductInput& x, int64_t rows) {
  XLSTM_ASSERT(x.norm.kind == InputNorm::kNone || rows <= kFusedNormRows);
  XLSTM_ASSERT(matrix.row_bytes % kLineBytes == 0);
  ProductArgs args{};
  args.weight = static_cast<const uint8_t*>(matrix.weight);
  args.scale = static_cast<const uint16_t*>(matrix.scale);
  args.zero = matrix.zero;
  args.bias = matrix.bias;
  args.x = x.values;
  args.norm_weight = x.norm.weight;
  args.norm_bias = x.norm.bias;
  args.o = x.norm.o;
  args.row_bytes = matrix.row_bytes;
  args.x_stride = x.stride;
  args.o_stride = x.norm.o_stride;
  args.out = to_int32(matrix.out);
  args.in = to_int32(matrix.in);
  args.rows = to_int32(rows);
  if (is_quantized(matrix.format)) {
    args.groups = to_int32(blocks_of(matrix.in, matrix.group));
    args.group_step = static_cast<uint32_t>(blocks_of(int64_t{kGroupOne}, blocks_of(matrix.group, kBlockColumns)));
  }
  args.norm = x.norm.kind;
  args.head_dim = x.norm.head_dim;
  args.eps = x.norm.eps;
  args.splits = 1;
  return args;
}

ProductArgs args_of(const Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y) {
  XLSTM_ASSERT(!y.add || y.cap == 0);
  ProductArgs args = args_of(matrix, x, rows);
  XLSTM_ASSERT(!y.bfloat16);
  args.y = y.y;
  args.y_stride = y.stride;
  args.sink = y.add ? kAdd : kStore;
  args.cap = y.cap;
  return args;
}

void append(Queue& queue, WeightFormat format, const ProductArgs& args) {
  if (args.rows == 0 || args.out == 0) return;
  if (format == WeightFormat::kFloat32) {
    multiply_float32(queue, args);
  } else if (narrow_fits(format, args)) {
    multiply_narrow(queue, format, args);
  } else {
    multiply_wide(queue, format, args);
  }
}

void multiply_by_library(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows,
                         const ProductOutput& y) {
  const bool bfloat16 = matrix.format == WeightFormat::kBfloat16;
  LibraryProduct product{};
  product.weight = matrix.weight;
  product.x = x.values;
  product.y = y.y;
  product.out = matrix.out;
  product.in = padded_columns(matrix.in);  // zeros in both
  product.rows = rows;
  product.weight_stride = matrix.row_bytes / (bfloat16 ? 2 : 4);
  product.x_stride = x.stride;
  product.y_stride = y.stride;
  product.bfloat16 = bfloat16 ? 1 : 0;
  product.bfloat16_y = y.bfloat16 ? 1 : 0;
  product.add = y.add ? 1 : 0;
  library_multiply(queue, product);
  if (matrix.bias == nullptr && y.cap == 0) return;
  XLSTM_ASSERT(!y.bfloat16);
  add_bias_and_cap(queue, {static_cast<float*>(y.y), y.stride, rows, matrix.out, matrix.bias, y.cap});
}

}  // namespace

int64_t most_gate_up_rows(WeightFormat format) {
  return std::min(most_own_rows(format), kMostFusedGateUpRows);
}

// Widening a block's matrices takes as long as some 140 rows take our own kernels more than cuBLAS.
bool is_widened(WeightFormat format, int64_t rows) {
  return is_quantized(format) && rows >= kLeastWidenedRows;
}

bool goes_to_library(WeightFormat format, int64_t rows) {
  return rows > most_own_rows(format) || is_widened(format, rows);
}

void multiply(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y) {
  XLSTM_ASSERT(!y.add || y.cap == 0);
  if (rows > most_own_rows(matrix.format)) return multiply_by_library(queue, matrix, x, rows, y);
  append(queue, matrix.format, args_of(matrix, x, rows, y));
}

void multiply_with_side(Queue& queue, const Matrix& matrix, const Matrix& side, const ProductInput& x, int64_t rows,
                        const ProductOutput& y, const ProductOutput& side_y) {
  XLSTM_ASSERT(x.norm.kind == InputNorm::kRms && side.format == WeightFormat::kFloat32);
  if (matrix.format != WeightFormat::kFloat32 && rows > 0 && matrix.out > 0) {
    return multiply_narrow(queue, matrix.format, args_of(matrix, x, rows, y), args_of(side, x, rows, side_y));
  }
  multiply(queue, matrix, x, rows, y);
  multiply(queue, side, x, rows, side_y);
}

void multiply_gate_up(Queue& queue, const Matrix& matrix, const ProductInput& x, int64_t rows, int64_t width,
                      const ProductRows& y) {
  XLSTM_ASSERT(rows <= most_gate_up_rows(matrix.format) &&
               matrix.out == gate_up_row(blocks_of(width, kGateUpRun) * kGateUpRun, false));
  XLSTM_ASSERT(y.stride >= matrix.out / 2);
  ProductArgs args = args_of(matrix, x, rows);
  args.y = y.values;
  args.y_stride = y.stride;
  args.sink = y.bfloat16 ? kGateUpBfloat16 : kGateUpFloat32;
  args.width = to_int32(width);
  append(queue, matrix.format, args);
}

}  // namespace xlstm::cuda
