#include "kernels/cuda/cell_view.h"

#include <cmath>

#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

int64_t stride_of_rows(const at::Tensor& tensor, int64_t features) {
  XLSTM_ASSERT(tensor.scalar_type() == at::kFloat && tensor.dim() == 2 && tensor.size(1) >= features);
  XLSTM_ASSERT(tensor.stride(1) == 1 || tensor.size(1) == 1);
  return tensor.stride(0);
}

const float* floats(const at::Tensor& tensor) {
  return static_cast<const float*>(tensor.const_data_ptr());
}

}  // namespace

CellTensors view(const CellArgs& call, const ModelDims& dims) {
  const Activations& act = call.act;
  const LayerState& state = call.state;
  XLSTM_ASSERT(state.c.dim() == 4 && state.c.size(1) == dims.num_heads && state.c.size(2) == dims.head_dim_qk &&
               state.c.size(3) == dims.head_dim_v);
  XLSTM_ASSERT(state.n.dim() == 3 && state.n.size(1) == dims.num_heads && state.n.size(2) == dims.head_dim_qk);
  XLSTM_ASSERT(state.m.dim() == 2 && state.m.size(1) == dims.num_heads && state.m.scalar_type() == at::kFloat);
  XLSTM_ASSERT(state.c.is_contiguous() && state.n.is_contiguous() && state.m.is_contiguous());
  XLSTM_ASSERT(state.c.scalar_type() == at::kFloat || state.c.scalar_type() == at::kBFloat16);
  XLSTM_ASSERT(state.n.scalar_type() == state.c.scalar_type());

  CellTensors view{};
  view.q = floats(act.q);
  view.k = floats(act.k);
  view.v = floats(act.v);
  view.gates = floats(act.gates);
  view.h = static_cast<float*>(act.h.mutable_data_ptr());
  view.c = state.c.mutable_data_ptr();
  view.n = state.n.mutable_data_ptr();
  view.m = static_cast<float*>(state.m.mutable_data_ptr());
  view.qkv_stride = stride_of_rows(act.q, dims.qk_dim());
  XLSTM_ASSERT(stride_of_rows(act.k, dims.qk_dim()) == view.qkv_stride);
  XLSTM_ASSERT(stride_of_rows(act.v, dims.v_dim()) == view.qkv_stride);
  view.gates_stride = stride_of_rows(act.gates, 2 * dims.num_heads);
  view.h_stride = stride_of_rows(act.h, dims.v_dim());
  view.heads = static_cast<int32_t>(dims.num_heads);
  view.dk = static_cast<int32_t>(dims.head_dim_qk);
  view.dv = static_cast<int32_t>(dims.head_dim_v);
  view.bfloat16_state = state.c.scalar_type() == at::kBFloat16 ? 1 : 0;
  view.scale = 1.0F / std::sqrt(static_cast<float>(dims.head_dim_qk));
  view.eps = dims.cell_eps;
  return view;
}

}  // namespace xlstm::cuda
