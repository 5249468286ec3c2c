#include "kernels/native/dequantize.h"

#include <ATen/ATen.h>

namespace xlstm {
namespace {

// A value per group [out, groups] for each column: [out, in].
at::Tensor per_column(const at::Tensor& per_group, const Linear& linear) {
  const at::Tensor wide = per_group.to(at::kFloat);
  if (per_group.size(1) == 1) return wide.expand({linear.out, linear.in});
  return wide.repeat_interleave(linear.group, 1).narrow(1, 0, linear.in);
}

// Columns 2j and 2j + 1 of byte j.
at::Tensor unpack_nibbles(const at::Tensor& bytes, int64_t columns) {
  const at::Tensor even = at::bitwise_and(bytes, 15);
  const at::Tensor odd = at::bitwise_right_shift(bytes, 4);
  return at::stack({even, odd}, -1).flatten(1).narrow(1, 0, columns);
}

}  // namespace

at::Tensor dequantize(const Linear& canonical) {
  switch (canonical.format) {
    case WeightFormat::kInt8: return canonical.weight.to(at::kFloat).mul_(per_column(canonical.scale, canonical));
    case WeightFormat::kInt4: {
      at::Tensor codes = unpack_nibbles(canonical.weight, canonical.in).to(at::kFloat);
      return codes.sub_(per_column(canonical.zero, canonical)).mul_(per_column(canonical.scale, canonical));
    }
    default: return canonical.weight.to(at::kFloat);
  }
}

}  // namespace xlstm
