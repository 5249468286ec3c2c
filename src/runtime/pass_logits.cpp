#include "xlstm/runtime/pass_logits.h"

#include <ATen/ATen.h>

#include <array>
#include <bit>
#include <utility>

namespace xlstm {

void PassLogits::begin(at::Tensor logits) {
  rows_ = logits.defined() ? logits.size(0) : 0;
  device_ = std::move(logits);
  host_ = at::Tensor();
}

std::span<const float> PassLogits::all() {
  if (rows_ == 0) return {};
  if (!host_.defined()) host_ = device_.to(at::kCPU);
  return {static_cast<const float*>(host_.const_data_ptr()), static_cast<size_t>(host_.numel())};
}

std::span<const Candidate> PassLogits::greatest(int64_t vocab, int64_t count) {
  if (rows_ == 0 || count <= 0 || count > ops_.max_candidates() || host_.defined()) return {};
  const std::array<int64_t, 3> shape = {rows_, count, 2};
  if (!device_candidates_.defined() || device_candidates_.sizes() != at::IntArrayRef(shape)) {
    device_candidates_ = at::empty(shape, device_.options().dtype(at::kInt));
    host_candidates_ = at::empty(shape, at::kInt);
  }
  ops_.find_candidates(device_, vocab, device_candidates_);
  host_candidates_.copy_(device_candidates_);
  candidates_.resize(static_cast<size_t>(rows_ * count));
  const int32_t* words = static_cast<const int32_t*>(host_candidates_.const_data_ptr());
  for (Candidate& candidate : candidates_) {
    candidate = {words[0], std::bit_cast<float>(words[1])};
    words += 2;
  }
  return candidates_;
}

void PassLogits::wait() {
  if (rows_ > 0 && greatest(device_.size(1), 1).empty()) (void)all();
}

void PassLogits::keep() {
  if (rows_ == 0 || !device_.defined()) return;
  if (!host_.defined() || device_.is_cpu()) host_ = device_.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true);
  device_ = at::Tensor();
}

}  // namespace xlstm
