#include "xlstm/model/state.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

std::vector<float> to_vector(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kCPU, at::kFloat).contiguous();
  const float* data = static_cast<const float*>(flat.const_data_ptr());
  return {data, data + flat.numel()};
}

void copy_from(at::Tensor target, const std::vector<float>& values) {
  XLSTM_ASSERT(static_cast<int64_t>(values.size()) == target.numel());
  at::Tensor source = at::empty(target.sizes(), at::kFloat);
  std::copy(values.begin(), values.end(), source.data_ptr<float>());
  target.copy_(source);
}

}  // namespace

State::State(const ModelDims& dims, const StateOptions& options) : slots_(options.slots) {
  const auto place = at::TensorOptions().device(options.device);
  for (int64_t block = 0; block < options.num_blocks; ++block) {
    layers_.push_back(
        {at::zeros({slots_, dims.num_heads, dims.head_dim_qk, dims.head_dim_v}, place.dtype(options.dtype)),
         at::zeros({slots_, dims.num_heads, dims.head_dim_qk}, place.dtype(options.dtype)),
         at::zeros({slots_, dims.num_heads}, place.dtype(at::kFloat))});
  }
}

uint64_t State::bytes() const {
  uint64_t total = 0;
  for (const LayerState& layer : layers_) total += layer.c.nbytes() + layer.n.nbytes() + layer.m.nbytes();
  return total;
}

void State::reset(int64_t slot) {
  for (LayerState& layer : layers_) {
    layer.c.select(0, slot).zero_();
    layer.n.select(0, slot).zero_();
    layer.m.select(0, slot).zero_();
  }
}

std::vector<SavedState::Layer> State::export_canonical(int64_t slot) const {
  std::vector<SavedState::Layer> out;
  out.reserve(layers_.size());
  for (const LayerState& layer : layers_) {
    out.push_back(
        {to_vector(layer.c.select(0, slot)), to_vector(layer.n.select(0, slot)), to_vector(layer.m.select(0, slot))});
  }
  return out;
}

void State::import_canonical(int64_t slot, const std::vector<SavedState::Layer>& layers) {
  XLSTM_ASSERT(layers.size() == layers_.size());
  for (size_t block = 0; block < layers_.size(); ++block) {
    copy_from(layers_[block].c.select(0, slot), layers[block].c);
    copy_from(layers_[block].n.select(0, slot), layers[block].n);
    copy_from(layers_[block].m.select(0, slot), layers[block].m);
  }
}

}  // namespace xlstm
