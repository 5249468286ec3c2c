// The mLSTM cell: one interface for the three kernel families (step, sequence, chunkwise) of the registry.
//
// Recurrence (Beck et al., "xLSTM: Extended Long Short-Term Memory", 2024, mLSTM with exponential gating), per head,
// q scaled by Dk^-1/2, state C, n, m starting at zero:
//   lf = logsigmoid(f);  m' = max(lf + m, i);  fa = exp(lf + m - m');  ia = exp(i - m')
//   C' = fa·C + ia·k⊗v;  n' = fa·n + ia·k;  h = (qᵀC') / (max(|qᵀn'|, exp(-m')) + eps)
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "kernels/activations.h"
#include "kernels/model_dims.h"
#include "kernels/row_plan.h"

namespace xlstm {

// The state of one block for all slots. The shapes are logical; strides are the device's own order.
struct LayerState {
  at::Tensor c;  // [slots, NH, Dk, Dv] float32 or bfloat16, relative to m: the unstabilised value is C·e^m
  at::Tensor n;  // [slots, NH, Dk] dtype of c
  at::Tensor m;  // [slots, NH] float32
};

// One call: q, k, v, gates of `act` in, h of `act` out, `state` updated in place.
struct CellArgs {
  const Activations& act;
  LayerState& state;
  std::span<const Span> spans;  // slots differ
  // A requested stop (xlstm/core/stop.h) may end the call half-way with Stopped; h and the state are then undefined.
  bool may_abandon = false;
};

class CellKernel {
 public:
  virtual ~CellKernel() = default;
  // Steps: every span has one row. Sequence: any row count. Chunkwise: row counts are multiples of the chunk size that
  // the kernel was made with. One call at a time per kernel object.
  virtual void run(const CellArgs& args) = 0;

  // Bytes of memory of its own that it keeps once it has run passes up to this size, about, where it says so; else it
  // is in a fixed amount.
  [[nodiscard]] virtual double scratch_bytes(const PassSize& /*size*/) const { return 0; }
};

}  // namespace xlstm
