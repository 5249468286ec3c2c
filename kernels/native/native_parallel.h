// The quadratic form of the mLSTM cell, from the zero state, for analysis and as a check on the recurrent forms.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/model_dims.h"

namespace xlstm {

struct ParallelInputs {
  at::Tensor q;  // [NH, S, Dk], not scaled
  at::Tensor k;  // [NH, S, Dk]
  at::Tensor v;  // [NH, S, Dv]
  at::Tensor i;  // [NH, S] soft-capped pre-activations
  at::Tensor f;  // [NH, S]
};

// h [NH, S, Dv] in the dtype of the inputs (float64 serves as a high-precision oracle). Memory grows with S².
// Differs from the recurrent forms only through eps·e^m, since its stabiliser has no m = 0 start: below 1e-6 relative.
[[nodiscard]] at::Tensor native_parallel(const ModelDims& dims, const ParallelInputs& inputs);

}  // namespace xlstm
