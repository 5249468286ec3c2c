#include "src/model/empty_linear.h"

#include <ATen/ATen.h>

#include "kernels/element_type.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

uint8_t* byte_pointer(const at::Tensor& tensor, int64_t bytes_before) {
  return static_cast<uint8_t*>(tensor.mutable_data_ptr()) + bytes_before;
}

}  // namespace

Linear empty_linear(const MatrixFormat& format, int64_t out, int64_t in) {
  Linear linear;
  linear.out = out;
  linear.in = in;
  linear.format = format.format;
  if (!is_quantized(format.format)) {
    linear.weight = at::empty({out, in}, element_type(format.format));
    return linear;
  }
  const int64_t groups = groups_per_row(format, in);
  linear.group = effective_group(format, in);
  linear.weight = at::empty({out, row_bytes(format.format, in)}, element_type(format.format));
  linear.scale = at::empty({out, groups}, at::kHalf);
  if (format.format == WeightFormat::kInt4) linear.zero = at::empty({out, groups}, at::kByte);
  return linear;
}

QuantizedRows rows_of(const Linear& linear, int64_t first, int64_t rows) {
  XLSTM_ASSERT(is_quantized(linear.format) && first >= 0 && first + rows <= linear.out);
  const int64_t groups = linear.scale.size(1);
  QuantizedRows view;
  view.format = {linear.format, groups == 1 ? 0 : linear.group};
  view.rows = rows;
  view.columns = linear.in;
  view.codes = byte_pointer(linear.weight, first * linear.weight.size(1));
  view.scale = reinterpret_cast<uint16_t*>(byte_pointer(linear.scale, 2 * first * groups));
  if (linear.zero.defined()) view.zero = byte_pointer(linear.zero, first * groups);
  return view;
}

}  // namespace xlstm
