#include "kernels/metal/metal_matrix.h"

#include <ATen/ATen.h>

#include <array>

#include "kernels/element_type.h"
#include "kernels/metal/ints.h"
#include "kernels/metal/product_args.h"
#include "xlstm/core/errors.h"

namespace xlstm::metal {
namespace {

constexpr const char* kWhere = "Metal kernels";
constexpr int64_t kLoadBytes = 16;  // of the widest vector load

void check(const Linear& linear) {
  const bool int4 = linear.format == WeightFormat::kInt4;
  require_type(linear.weight, element_type(linear.format), "weight dtype", kWhere);
  const int64_t columns = int4 ? (linear.in + 1) / 2 : linear.in;
  XLSTM_ASSERT(linear.weight.dim() == 2 && linear.weight.size(0) == linear.out && linear.weight.size(1) == columns);
  if (!is_quantized(linear.format)) return;
  require_type(linear.scale, at::kHalf, "scale dtype", kWhere);
  XLSTM_ASSERT(linear.group > 0 && (linear.group % shader::kColumnPad == 0 || linear.group >= linear.in));
  const std::array<int64_t, 2> per_group = {linear.out, blocks_of(linear.in, linear.group)};
  XLSTM_ASSERT(linear.scale.sizes() == at::IntArrayRef(per_group));
  if (!int4) return;
  require_type(linear.zero, at::kByte, "zero dtype", kWhere);
  XLSTM_ASSERT(linear.zero.sizes() == at::IntArrayRef(per_group));
}

at::Tensor filled_up(const at::Tensor& weight, int64_t columns) {
  if (weight.size(1) == columns) {
    const at::Tensor whole = weight.contiguous();
    const bool aligned = whole.storage_offset() * static_cast<int64_t>(whole.element_size()) % kLoadBytes == 0;
    return aligned ? whole : whole.clone();
  }
  const at::Tensor filled = at::zeros({weight.size(0), columns}, weight.options().device(at::kCPU));
  filled.narrow(1, 0, weight.size(1)).copy_(weight);
  return filled;
}

}  // namespace

Linear pack_linear(Linear canonical, at::Device device) {
  check(canonical);
  const int64_t columns = blocks_of(canonical.in, shader::kColumnPad) * shader::kColumnPad;
  canonical.weight =
      filled_up(canonical.weight, canonical.format == WeightFormat::kInt4 ? columns / 2 : columns).to(device);
  for (at::Tensor* tensor : {&canonical.bias, &canonical.scale, &canonical.zero}) {
    if (tensor->defined()) *tensor = tensor->contiguous().to(device);
  }
  return canonical;
}

}  // namespace xlstm::metal
