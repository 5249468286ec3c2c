// The tensors of one cell call as raw pointers and strides, so that the kernels' inner loops see no libtorch.
#pragma once

#include "kernels/cell.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/cpu/recurrence.h"

namespace xlstm::cpu {

// Refers to the tensors of a CellArgs, which must outlive it. Features and the last dimension of C and n are contiguous
// (asserted); all other strides are the tensors' own.
class CellView {
 public:
  CellView(const ModelDims& dims, const CellArgs& args);

  // Tokens [begin, end) of a span.
  [[nodiscard]] HeadRows rows(const Span& span, int64_t head, int64_t begin, int64_t end) const;
  [[nodiscard]] HeadState state(int64_t slot, int64_t head) const;
  // Heads [begin, end) of the first token of a span.
  [[nodiscard]] StepArgs step(const Span& span, int64_t begin, int64_t end) const;
  [[nodiscard]] const HeadDims& head_dims() const { return dims_; }

 private:
  struct Rows {
    float* data = nullptr;
    int64_t stride = 0;
  };
  static Rows rows_of(const at::Tensor& tensor, int64_t features);

  int64_t num_heads_;
  HeadDims dims_;
  Rows q_, k_, v_, gates_, h_;
  void *c_, *n_;
  float* m_;
  int64_t c_slot_, c_head_, c_row_, n_slot_, n_head_, m_slot_, m_head_;  // strides in elements
  Dtype dtype_;
};

}  // namespace xlstm::cpu
