// The greatest logits, found on a Metal device: what DeviceOps::find_candidates() promises.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "kernels/metal/gpu.h"
#include "kernels/metal/sampling_args.h"

namespace xlstm {

// Belongs to the Gpu's thread.
class MetalSampling {
 public:
  static constexpr int64_t kMaxCandidates = shader::kMostCandidates;

  explicit MetalSampling(std::shared_ptr<metal::Gpu> gpu);

  // logits: [rows or more, V] float32, contiguous; candidates: [rows, count, 2] int32, contiguous, both on the Gpu;
  // 1 ≤ count ≤ kMaxCandidates, count ≤ vocab ≤ V. Two commands, outside of a pass.
  void find_candidates(const at::Tensor& logits, int64_t vocab, const at::Tensor& candidates);

 private:
  struct Kernels {
    int64_t run;  // keys that a block keeps
    metal::Kernel greatest_of_blocks;
    metal::Kernel merge_blocks;
  };
  [[nodiscard]] static Kernels kernels(const metal::Gpu& gpu, int64_t run);

  std::shared_ptr<metal::Gpu> gpu_;
  Kernels few_, most_;
  at::Tensor kept_;  // scratch of the largest call so far
};

}  // namespace xlstm
