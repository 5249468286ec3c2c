#include "kernels/cuda/cuda_recurrent.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cuda/cell_args.h"
#include "kernels/cuda/cell_recurrent.h"
#include "kernels/cuda/cell_view.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

class CudaRecurrent : public CellKernel {
 public:
  CudaRecurrent(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu, bool single_rows)
      : dims_(dims), gpu_(std::move(gpu)), single_rows_(single_rows) {
    if (dims_.head_dim_qk <= cuda::kMaxRecurrentDk) return;
    fail(ExitCode::kDevice, "query/key features of a head", "CUDA", cat("at most ", cuda::kMaxRecurrentDk),
         cat(dims_.head_dim_qk));
  }

  void run(const CellArgs& call) override {
    const cuda::CellTensors cell = cuda::view(call, dims_);
    const int64_t slots = call.state.c.size(0);
    list_spans(call, slots);
    if (spans_.empty()) return;
    float* const arrivals = arrivals_for(slots);  // may run what has been appended, thus before stage()
    const cuda::Recurrent args{cell, gpu_->queue.stage(spans_), arrivals,
                               static_cast<int32_t>(spans_.size() / kSpanValues), static_cast<int32_t>(slots)};
    if (single_rows_) {
      cuda::run_step(gpu_->queue, args);
    } else {
      cuda::run_sequence(gpu_->queue, args);
    }
  }

 private:
  static constexpr size_t kSpanValues = sizeof(cuda::CellSpan) / sizeof(int32_t);

  // The spans of a call but the empty ones, as CellSpan.
  void list_spans(const CellArgs& call, int64_t slots) {
    spans_.clear();
    for (const Span& span : call.spans) {
      XLSTM_ASSERT(span.rows == 1 || !single_rows_);
      if (span.rows == 0) continue;
      XLSTM_ASSERT(span.slot >= 0 && span.slot < slots && span.first_row >= 0 && span.rows > 0);
      XLSTM_ASSERT(span.first_row + span.rows <= call.act.q.size(0));
      for (const int64_t value : {span.slot, span.first_row, span.rows, int64_t{0}}) {
        spans_.push_back(static_cast<int32_t>(value));
      }
    }
  }

  // Memory of size [slots, heads], zeros at first, as the kernels leave it.
  float* arrivals_for(int64_t slots) {
    const int64_t count = slots * dims_.num_heads;
    if (!arrivals_.defined() || arrivals_.numel() < count) {
      gpu_->queue.flush();
      arrivals_ = at::zeros({count}, at::TensorOptions().device(gpu_->tensors).dtype(at::kFloat));
    }
    return static_cast<float*>(arrivals_.mutable_data_ptr());
  }

  ModelDims dims_;
  std::shared_ptr<cuda::Gpu> gpu_;
  bool single_rows_;
  std::vector<int32_t> spans_;
  at::Tensor arrivals_;
};

}  // namespace

std::unique_ptr<CellKernel> make_cuda_step(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu) {
  return std::make_unique<CudaRecurrent>(dims, std::move(gpu), /*single_rows=*/true);
}

std::unique_ptr<CellKernel> make_cuda_sequence(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu) {
  return std::make_unique<CudaRecurrent>(dims, std::move(gpu), /*single_rows=*/false);
}

}  // namespace xlstm
