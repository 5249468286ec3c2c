#include "kernels/native/native_cell.h"

#include <ATen/ATen.h>

#include <cmath>

namespace xlstm {
namespace {

// The tokens of one span, cut into heads, time before features; views of the activations.
struct Tokens {
  at::Tensor q;  // [NH, S, Dk], scaled by Dk^-1/2
  at::Tensor k;  // [NH, S, Dk]
  at::Tensor v;  // [NH, S, Dv]
  at::Tensor i;  // [NH, S] input gate pre-activation
  at::Tensor f;  // [NH, S] logsigmoid of the forget gate pre-activation
};

Tokens tokens_of(const ModelDims& dims, const Activations& act, int64_t first_row, int64_t rows) {
  const auto heads = [&](const at::Tensor& t, int64_t features) {
    return t.narrow(0, first_row, rows).reshape({rows, dims.num_heads, features}).transpose(0, 1);
  };
  const at::Tensor gates = act.gates.narrow(0, first_row, rows).t();
  const double scale = 1.0 / std::sqrt(static_cast<double>(dims.head_dim_qk));
  return {heads(act.q, dims.head_dim_qk) * scale, heads(act.k, dims.head_dim_qk), heads(act.v, dims.head_dim_v),
          gates.narrow(0, 0, dims.num_heads), at::log_sigmoid(gates.narrow(0, dims.num_heads, dims.num_heads))};
}

// C, n, m of one slot in float32, and the way back into the state's own dtype and order.
struct SlotState {
  SlotState(const LayerState& state, int64_t slot)
      : c_view(state.c.select(0, slot)),
        n_view(state.n.select(0, slot)),
        m_view(state.m.select(0, slot)),
        c(c_view.to(at::kFloat)),
        n(n_view.to(at::kFloat)),
        m(m_view.clone()) {}

  void store() {
    c_view.copy_(c);
    n_view.copy_(n);
    m_view.copy_(m);
  }

  at::Tensor c_view, n_view, m_view;
  at::Tensor c;  // [NH, Dk, Dv]
  at::Tensor n;  // [NH, Dk]
  at::Tensor m;  // [NH]
};

// One token. Returns h [NH, Dv].
at::Tensor step(const ModelDims& dims, const Tokens& tokens, int64_t t, SlotState& state) {
  const at::Tensor q = tokens.q.select(1, t);
  const at::Tensor k = tokens.k.select(1, t);
  const at::Tensor v = tokens.v.select(1, t);
  const at::Tensor i = tokens.i.select(1, t);
  const at::Tensor decayed_m = tokens.f.select(1, t) + state.m;
  const at::Tensor m = at::maximum(decayed_m, i);
  const at::Tensor forget = at::exp(decayed_m - m).unsqueeze(-1);
  const at::Tensor input = at::exp(i - m).unsqueeze(-1);
  state.c = forget.unsqueeze(-1) * state.c + (input * k).unsqueeze(-1) * v.unsqueeze(-2);
  state.n = forget * state.n + input * k;
  state.m = m;
  const at::Tensor numerator = at::matmul(q.unsqueeze(-2), state.c).squeeze(-2);
  const at::Tensor dot = (q * state.n).sum(-1);
  const at::Tensor denominator = at::maximum(dot.abs(), at::exp(-m)) + dims.cell_eps;
  return numerator / denominator.unsqueeze(-1);
}

class NativeSequence : public CellKernel {
 public:
  explicit NativeSequence(const ModelDims& dims) : dims_(dims) {}

  void run(const CellArgs& args) override {
    for (const Span& span : args.spans) {
      const Tokens tokens = tokens_of(dims_, args.act, span.first_row, span.rows);
      SlotState state(args.state, span.slot);
      for (int64_t t = 0; t < span.rows; ++t) {
        args.act.h.select(0, span.first_row + t).copy_(step(dims_, tokens, t, state).reshape(-1));
      }
      state.store();
    }
  }

 private:
  ModelDims dims_;
};

// One chunk of any length. Returns h [NH, L, Dv]. Symbols as in the chunkwise form of Beck et al. 2025: b cumulative
// log forget gates, g their total, a the decay from a token to the chunk's end plus its input gate.
at::Tensor chunk(const ModelDims& dims, const Tokens& all, int64_t begin, int64_t length, SlotState& state) {
  const at::Tensor q = all.q.narrow(1, begin, length);
  const at::Tensor k = all.k.narrow(1, begin, length);
  const at::Tensor v = all.v.narrow(1, begin, length);
  const at::Tensor i = all.i.narrow(1, begin, length);
  const at::Tensor f = all.f.narrow(1, begin, length);

  const at::Tensor b = f.cumsum(1);              // [NH, L]
  const at::Tensor g = b.select(1, length - 1);  // [NH]
  // Sum of the gates after t by a reverse cumulative sum: subtracting b from g would lose digits.
  const at::Tensor after = f.flip(1).cumsum(1).flip(1) - f;
  const at::Tensor a = after + i;  // [NH, L]

  // Outputs, from the state before the chunk.
  const at::Tensor causal = at::ones({length, length}, q.options().dtype(at::kBool)).tril();
  const at::Tensor log_d =
      (b.unsqueeze(2) - b.unsqueeze(1) + i.unsqueeze(1)).masked_fill(causal.logical_not(), -INFINITY);  // [NH, L, L]
  const at::Tensor m_inter = b + state.m.unsqueeze(1);                                                  // [NH, L]
  const at::Tensor m_out = at::maximum(m_inter, log_d.amax(2));                                         // [NH, L]
  const at::Tensor weights = at::matmul(q, k.transpose(1, 2)) * at::exp(log_d - m_out.unsqueeze(2));
  const at::Tensor q_inter = q * at::exp(m_inter - m_out).unsqueeze(2);
  const at::Tensor numerator = at::matmul(q_inter, state.c) + at::matmul(weights, v);
  const at::Tensor dot = at::matmul(q_inter, state.n.unsqueeze(2)).squeeze(2) + weights.sum(2);
  const at::Tensor denominator = at::maximum(dot.abs(), at::exp(-m_out)) + dims.cell_eps;

  // State after the chunk.
  const at::Tensor decayed_m = g + state.m;
  const at::Tensor m = at::maximum(decayed_m, a.amax(1));
  const at::Tensor decay = at::exp(decayed_m - m).unsqueeze(1);
  const at::Tensor k_in = k * at::exp(a - m.unsqueeze(1)).unsqueeze(2);
  state.c = decay.unsqueeze(2) * state.c + at::matmul(k_in.transpose(1, 2), v);
  state.n = decay * state.n + k_in.sum(1);
  state.m = m;
  return numerator / denominator.unsqueeze(2);
}

class NativeChunkwise : public CellKernel {
 public:
  NativeChunkwise(const ModelDims& dims, int64_t chunk_size) : dims_(dims), chunk_size_(chunk_size) {}

  void run(const CellArgs& args) override {
    for (const Span& span : args.spans) {
      const Tokens tokens = tokens_of(dims_, args.act, span.first_row, span.rows);
      SlotState state(args.state, span.slot);
      for (int64_t t = 0; t < span.rows; t += chunk_size_) {
        const int64_t length = std::min(chunk_size_, span.rows - t);
        const at::Tensor h = chunk(dims_, tokens, t, length, state);
        args.act.h.narrow(0, span.first_row + t, length)
            .view({length, dims_.num_heads, dims_.head_dim_v})
            .copy_(h.transpose(0, 1));
      }
      state.store();
    }
  }

 private:
  ModelDims dims_;
  int64_t chunk_size_;
};

}  // namespace

std::unique_ptr<CellKernel> make_native_step(const ModelDims& dims) {
  return make_native_sequence(dims);
}

std::unique_ptr<CellKernel> make_native_sequence(const ModelDims& dims) {
  return std::make_unique<NativeSequence>(dims);
}

std::unique_ptr<CellKernel> make_native_chunkwise(const ModelDims& dims, int64_t chunk_size) {
  return std::make_unique<NativeChunkwise>(dims, chunk_size);
}

}  // namespace xlstm
