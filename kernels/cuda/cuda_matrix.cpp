#include "kernels/cuda/cuda_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/cuda/blocks.h"
#include "kernels/element_type.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr const char* kWhere = "CUDA kernels";
constexpr uintptr_t kLoadBytes = 16;   // of the widest load
constexpr int64_t kGroupColumns = 32;  // that share a scale at least

int64_t bytes_of_columns(WeightFormat format, int64_t columns) {
  return format == WeightFormat::kInt4 ? blocks_of(columns, 2) : columns;
}

void check(const Linear& linear) {
  require_type(linear.weight, element_type(linear.format), "weight dtype", kWhere);
  const std::array<int64_t, 2> shape = {linear.out, bytes_of_columns(linear.format, linear.in)};
  XLSTM_ASSERT(linear.weight.sizes() == at::IntArrayRef(shape));
  if (linear.bias.defined()) {
    require_type(linear.bias, at::kFloat, "bias dtype", kWhere);
    XLSTM_ASSERT(linear.bias.dim() == 1 && linear.bias.size(0) == linear.out);
  }
  if (!is_quantized(linear.format)) return;
  require_type(linear.scale, at::kHalf, "scale dtype", kWhere);
  XLSTM_ASSERT(linear.group > 0 && (linear.group % kGroupColumns == 0 || linear.group >= linear.in));
  const std::array<int64_t, 2> per_group = {linear.out, blocks_of(linear.in, linear.group)};
  XLSTM_ASSERT(linear.scale.sizes() == at::IntArrayRef(per_group));
  if (linear.format != WeightFormat::kInt4) return;
  require_type(linear.zero, at::kByte, "zero dtype", kWhere);
  XLSTM_ASSERT(linear.zero.sizes() == at::IntArrayRef(per_group));
}

// Rows [gate | up] → runs of kGateUpRun rows of either by turns, and `columns` columns, with zeros where there is none.
at::Tensor interleaved(const at::Tensor& rows, int64_t columns) {
  const int64_t width = rows.size(0) / 2;
  const int64_t runs = blocks_of(width, kGateUpRun);
  const at::Tensor result = at::zeros({runs, 2, kGateUpRun, columns}, rows.options());
  const int64_t whole = width / kGateUpRun;
  for (int64_t half = 0; half < 2; ++half) {
    const at::Tensor from = rows.narrow(0, half * width, width);
    const at::Tensor to = result.select(1, half).narrow(2, 0, rows.size(1));
    to.narrow(0, 0, whole).copy_(from.narrow(0, 0, whole * kGateUpRun).reshape({whole, kGateUpRun, rows.size(1)}));
    const int64_t rest = width - whole * kGateUpRun;
    if (rest > 0) to.select(0, whole).narrow(0, 0, rest).copy_(from.narrow(0, width - rest, rest));
  }
  return result.view({2 * kGateUpRun * runs, columns});
}

at::Tensor filled_up(const at::Tensor& rows, int64_t columns) {
  if (rows.size(1) == columns) {
    const at::Tensor whole = rows.contiguous();
    return reinterpret_cast<uintptr_t>(whole.const_data_ptr()) % kLoadBytes == 0 ? whole : whole.clone();
  }
  at::Tensor filled = at::zeros({rows.size(0), columns}, rows.options());
  filled.narrow(1, 0, rows.size(1)).copy_(rows);
  return filled;
}

at::Tensor arranged(const at::Tensor& rows, int64_t columns, RowOrder order) {
  return order == RowOrder::kGateUp ? interleaved(rows, columns) : filled_up(rows, columns);
}

// The order of the columns in Matrix (product.h), which makes neighbours of the codes that widen to a pair.
at::Tensor reordered(const at::Tensor& codes, WeightFormat format) {
  constexpr int64_t kMask = 15;
  const at::Tensor pairs = codes.view({codes.size(0), -1, 2, 2});
  if (format == WeightFormat::kInt8) return pairs.transpose(2, 3).reshape(codes.sizes());
  const at::Tensor first = pairs.select(3, 0);
  const at::Tensor second = pairs.select(3, 1);
  const at::Tensor even = at::bitwise_and(first, kMask).bitwise_or_(at::bitwise_left_shift(second, 4));
  const at::Tensor odd = at::bitwise_right_shift(first, 4).bitwise_or_(at::bitwise_and(second, kMask << 4));
  return at::stack({even, odd}, 2).view(codes.sizes());
}

// reordered(), on `device`, some rows at a time: a whole matrix is there once.
at::Tensor reordered_on(at::Device device, const at::Tensor& codes, WeightFormat format) {
  constexpr int64_t kSliceBytes = int64_t{16} << 20;
  const at::Tensor result = at::empty(codes.sizes(), codes.options().device(device));
  const int64_t step = std::max<int64_t>(1, kSliceBytes / std::max<int64_t>(1, codes.size(1)));
  for (int64_t first = 0; first < codes.size(0); first += step) {
    const int64_t rows = std::min(step, codes.size(0) - first);
    result.narrow(0, first, rows).copy_(reordered(codes.narrow(0, first, rows).to(device), format));
  }
  return result;
}

// Scales or zeros, [out, groups], as they stand in Matrix.
at::Tensor in_tiles(const at::Tensor& per_row) {
  const int64_t out = per_row.size(0);
  const int64_t groups = per_row.size(1);
  const int64_t tiles = blocks_of(out, kTileOuts);
  const at::Tensor filled = at::zeros({tiles * kTileOuts, groups}, per_row.options());
  filled.narrow(0, 0, out).copy_(per_row);
  return filled.view({tiles, 2, kTileOuts / 2, groups}).permute({0, 3, 2, 1}).contiguous();
}

}  // namespace

Linear pack_linear(Linear canonical, RowOrder order, at::Device device) {
  check(canonical);
  XLSTM_ASSERT(order == RowOrder::kPlain || canonical.out % 2 == 0);
  int64_t columns = bytes_of_columns(canonical.format, padded_columns(canonical.in));
  if (is_quantized(canonical.format)) columns = blocks_of(columns, kLineBytes) * kLineBytes;
  const at::Tensor rows = arranged(canonical.weight, columns, order);
  canonical.weight = is_quantized(canonical.format) ? reordered_on(device, rows, canonical.format) : rows.to(device);
  for (at::Tensor* const tensor : {&canonical.scale, &canonical.zero}) {
    if (tensor->defined()) *tensor = in_tiles(arranged(*tensor, tensor->size(1), order).to(device));
  }
  if (canonical.bias.defined()) {
    canonical.bias = arranged(canonical.bias.unsqueeze(1), 1, order).squeeze(1).to(device);
  }
  return canonical;
}

Matrix matrix_of(const Linear& linear) {
  Matrix matrix;
  matrix.weight = linear.weight.const_data_ptr();
  if (linear.scale.defined()) matrix.scale = linear.scale.const_data_ptr();
  if (linear.zero.defined()) matrix.zero = static_cast<const uint8_t*>(linear.zero.const_data_ptr());
  if (linear.bias.defined()) matrix.bias = static_cast<const float*>(linear.bias.const_data_ptr());
  matrix.out = linear.weight.size(0);
  matrix.in = linear.in;
  matrix.row_bytes = linear.weight.size(1) * static_cast<int64_t>(linear.weight.element_size());
  matrix.group = linear.group;
  matrix.format = linear.format;
  return matrix;
}

}  // namespace xlstm::cuda
