#include "kernels/metal/metal_sampling.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "kernels/metal/ints.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {

using namespace shader;

MetalSampling::MetalSampling(std::shared_ptr<metal::Gpu> gpu)
    : gpu_(std::move(gpu)), few_(kernels(*gpu_, kFewCandidates)), most_(kernels(*gpu_, kMostCandidates)) {}

MetalSampling::Kernels MetalSampling::kernels(const metal::Gpu& gpu, int64_t run) {
  return {run, gpu.kernel(cat("greatest_of_blocks_", run)), gpu.kernel(cat("merge_blocks_", run))};
}

void MetalSampling::find_candidates(const at::Tensor& logits, int64_t vocab, const at::Tensor& candidates) {
  const int64_t rows = candidates.size(0);
  const int64_t count = candidates.size(1);
  XLSTM_ASSERT(count >= 1 && count <= kMaxCandidates && count <= vocab && vocab <= logits.size(1));
  XLSTM_ASSERT(rows <= logits.size(0) && logits.is_contiguous() && candidates.is_contiguous());
  const Kernels& use = count <= few_.run ? few_ : most_;
  const int64_t blocks = metal::blocks_of(vocab, kSamplingBlock);
  const int64_t keys = rows * blocks * use.run;
  if (!kept_.defined() || kept_.numel() < keys) {
    kept_ = at::empty({keys}, at::TensorOptions().dtype(at::kLong).device(gpu_->tensors()));
  }
  const GreatestArgs args = {static_cast<int>(vocab), static_cast<int>(logits.size(1)), static_cast<int>(blocks),
                             static_cast<int>(count)};
  gpu_->begin_pass();
  gpu_->run(use.greatest_of_blocks, {{blocks, rows, 1}, kSamplingThreads}, args, {logits, kept_});
  gpu_->run(use.merge_blocks, {{1, rows, 1}, kSamplingThreads}, args, {logits, kept_, candidates});
  gpu_->end_pass();
}

}  // namespace xlstm
