#include "xlstm/model/workspace.h"

#include <ATen/ATen.h>

namespace xlstm {

void Workspace::reserve(int64_t rows, int64_t logit_rows) {
  const auto options = at::TensorOptions().device(device_).dtype(at::kFloat);
  if (rows > rows_) {
    rows_ = rows;
    const int64_t qk = dims_.qk_dim();
    const int64_t v = dims_.v_dim();
    act.x = at::empty({rows, dims_.embedding_dim}, options);
    act.qkvo = at::empty({rows, dims_.qkvo_dim()}, options);
    act.q = act.qkvo.narrow(1, 0, qk);
    act.k = act.qkvo.narrow(1, qk, qk);
    act.v = act.qkvo.narrow(1, 2 * qk, v);
    act.o = act.qkvo.narrow(1, 2 * qk + v, v);
    act.gates = at::empty({rows, 2 * dims_.num_heads}, options);
    act.h = at::empty({rows, v}, options);
    if (ffn_) act.ffn = at::empty({rows, 2 * dims_.ffn_dim}, options);
  }
  if (logit_rows > logit_rows_) {
    logit_rows_ = logit_rows;
    logits = at::empty({logit_rows, dims_.vocab_size}, options);
  }
}

uint64_t Workspace::bytes() const {
  uint64_t total = 0;
  for (const at::Tensor& t : {act.x, act.qkvo, act.gates, act.h, act.ffn, logits}) {
    if (t.defined()) total += t.nbytes();
  }
  return total;
}

}  // namespace xlstm
