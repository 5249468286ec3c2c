// Memory that passes write into, planned once for the largest pass so that nothing inside a pass allocates.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/activations.h"
#include "kernels/model_dims.h"

namespace xlstm {

class Workspace {
 public:
  // `ffn`: with Activations::ffn.
  Workspace(const ModelDims& dims, const at::Device& device, bool ffn = true)
      : dims_(dims), device_(device), ffn_(ffn) {}

  // Makes room for passes of up to `rows` rows and `logit_rows` rows of logits. Keeps larger memory that is there;
  // contents are lost when it grows. Never called inside a pass.
  void reserve(int64_t rows, int64_t logit_rows);

  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t logit_rows() const { return logit_rows_; }
  [[nodiscard]] uint64_t bytes() const;

  Activations act;
  at::Tensor logits;  // [logit_rows, V] float32

 private:
  ModelDims dims_;
  at::Device device_;
  bool ffn_;
  int64_t rows_ = 0;
  int64_t logit_rows_ = 0;
};

}  // namespace xlstm
