#include "kernels/cpu/cell_view.h"

#include <ATen/ATen.h>

#include "xlstm/core/errors.h"

namespace xlstm::cpu {

CellView::Rows CellView::rows_of(const at::Tensor& tensor, int64_t features) {
  XLSTM_ASSERT(tensor.scalar_type() == at::kFloat && tensor.dim() == 2 && tensor.size(1) >= features);
  XLSTM_ASSERT(tensor.stride(1) == 1 || tensor.size(1) == 1);
  return {tensor.data_ptr<float>(), tensor.stride(0)};
}

CellView::CellView(const ModelDims& dims, const CellArgs& args)
    : num_heads_(dims.num_heads),
      dims_{dims.head_dim_qk, dims.head_dim_v, dims.cell_eps},
      q_(rows_of(args.act.q, dims.qk_dim())),
      k_(rows_of(args.act.k, dims.qk_dim())),
      v_(rows_of(args.act.v, dims.v_dim())),
      gates_(rows_of(args.act.gates, 2 * dims.num_heads)),
      h_(rows_of(args.act.h, dims.v_dim())) {
  const at::Tensor& c = args.state.c;
  const at::Tensor& n = args.state.n;
  const at::Tensor& m = args.state.m;
  XLSTM_ASSERT(c.dim() == 4 && c.size(1) == num_heads_ && c.size(2) == dims_.dk && c.size(3) == dims_.dv);
  XLSTM_ASSERT(n.dim() == 3 && n.size(1) == num_heads_ && n.size(2) == dims_.dk);
  XLSTM_ASSERT(m.dim() == 2 && m.size(1) == num_heads_ && m.scalar_type() == at::kFloat);
  XLSTM_ASSERT(c.stride(3) == 1 || dims_.dv == 1);
  XLSTM_ASSERT(n.stride(2) == 1 || dims_.dk == 1);
  XLSTM_ASSERT(c.scalar_type() == at::kFloat || c.scalar_type() == at::kBFloat16);
  XLSTM_ASSERT(n.scalar_type() == c.scalar_type());
  dtype_ = c.scalar_type() == at::kFloat ? Dtype::kFloat32 : Dtype::kBfloat16;
  c_ = c.data_ptr();
  n_ = n.data_ptr();
  m_ = m.data_ptr<float>();
  c_slot_ = c.stride(0);
  c_head_ = c.stride(1);
  c_row_ = c.stride(2);
  n_slot_ = n.stride(0);
  n_head_ = n.stride(1);
  m_slot_ = m.stride(0);
  m_head_ = m.stride(1);
}

HeadRows CellView::rows(const Span& span, int64_t head, int64_t begin, int64_t end) const {
  const int64_t first = span.first_row + begin;
  HeadRows rows;
  rows.q = q_.data + first * q_.stride + head * dims_.dk;
  rows.k = k_.data + first * k_.stride + head * dims_.dk;
  rows.v = v_.data + first * v_.stride + head * dims_.dv;
  rows.i_gate = gates_.data + first * gates_.stride + head;
  rows.f_gate = rows.i_gate + num_heads_;
  rows.h = h_.data + first * h_.stride + head * dims_.dv;
  rows.q_stride = q_.stride;
  rows.k_stride = k_.stride;
  rows.v_stride = v_.stride;
  rows.gate_stride = gates_.stride;
  rows.h_stride = h_.stride;
  rows.rows = end - begin;
  return rows;
}

HeadState CellView::state(int64_t slot, int64_t head) const {
  const int64_t c_at = slot * c_slot_ + head * c_head_;
  const int64_t n_at = slot * n_slot_ + head * n_head_;
  HeadState state;
  if (dtype_ == Dtype::kFloat32) {
    state.c = static_cast<float*>(c_) + c_at;
    state.n = static_cast<float*>(n_) + n_at;
  } else {
    state.c = static_cast<Bfloat16*>(c_) + c_at;
    state.n = static_cast<Bfloat16*>(n_) + n_at;
  }
  state.m = m_ + slot * m_slot_ + head * m_head_;
  state.c_stride = c_row_;
  state.dtype = dtype_;
  return state;
}

StepArgs CellView::step(const Span& span, int64_t begin, int64_t end) const {
  return {rows(span, begin, 0, 1), state(span.slot, begin), dims_, end - begin, c_head_, n_head_, m_head_};
}

}  // namespace xlstm::cpu
