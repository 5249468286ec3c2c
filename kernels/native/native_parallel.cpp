#include "kernels/native/native_parallel.h"

#include <ATen/ATen.h>

#include <cmath>

namespace xlstm {

at::Tensor native_parallel(const ModelDims& dims, const ParallelInputs& in) {
  const int64_t length = in.q.size(1);
  const at::Tensor b = at::log_sigmoid(in.f).cumsum(1);
  const at::Tensor causal = at::ones({length, length}, in.q.options().dtype(at::kBool)).tril();
  const at::Tensor log_d =
      (b.unsqueeze(2) - b.unsqueeze(1) + in.i.unsqueeze(1)).masked_fill(causal.logical_not(), -INFINITY);
  const at::Tensor m = log_d.amax(2, /*keepdim=*/true);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dims.head_dim_qk));
  const at::Tensor weights = at::matmul(in.q, in.k.transpose(1, 2)) * scale * at::exp(log_d - m);
  const at::Tensor dot = weights.sum(2, /*keepdim=*/true);
  const at::Tensor denominator = at::maximum(dot.abs(), at::exp(-m)) + dims.cell_eps;
  return at::matmul(weights / denominator, in.v);
}

}  // namespace xlstm
