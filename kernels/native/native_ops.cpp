#include "kernels/native/native_ops.h"

#include <ATen/ATen.h>

#include <vector>

#include "kernels/native/dequantize.h"

namespace xlstm {
namespace {

at::Tensor soft_cap(const at::Tensor& x, float cap) {
  return cap > 0 ? at::tanh(x / cap) * cap : x;
}

at::Tensor apply(const Linear& linear, const at::Tensor& x) {
  at::Tensor y = at::matmul(x, dequantize(linear).t());
  return linear.bias.defined() ? y + linear.bias : y;
}

at::Tensor scale_and_shift(const Norm& norm, const at::Tensor& x) {
  const at::Tensor y = x * norm.weight;
  return norm.bias.defined() ? y + norm.bias : y;
}

class NativeOps : public DeviceOps {
 public:
  NativeOps(const ModelDims& dims, const at::Device& device) : dims_(dims), device_(device) {}

  Linear pack(Linear canonical, RowOrder /*order*/) const override {
    for (at::Tensor* tensor : {&canonical.weight, &canonical.bias, &canonical.scale, &canonical.zero}) {
      if (tensor->defined()) *tensor = tensor->to(device_);
    }
    return canonical;
  }

  at::Tensor place(at::Tensor tensor) const override { return tensor.to(device_); }

  void begin_pass(const RowPlan& /*plan*/) override {}
  void end_pass() override {}

  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    const auto rows = static_cast<int64_t>(ids.size());
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(ids.data(), ids.size()), at::kLong).to(device_);
    act.x.narrow(0, 0, rows).copy_(weights.embedding.index_select(0, index));
  }

  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    const at::Tensor u = rms_norm(block.norm_mlstm, act.x.narrow(0, 0, rows));
    act.qkvo.narrow(0, 0, rows).copy_(apply(block.qkvo, u));
    act.gates.narrow(0, 0, rows).copy_(soft_cap(apply(block.gates, u), dims_.gate_soft_cap));
  }

  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    const at::Tensor h = act.h.narrow(0, 0, rows).view({rows, dims_.num_heads, dims_.head_dim_v});
    const at::Tensor centred = h - h.mean(-1, /*keepdim=*/true);
    const at::Tensor variance = centred.square().mean(-1, /*keepdim=*/true);
    const at::Tensor normed = (centred * at::rsqrt(variance + dims_.norm_eps)).reshape({rows, dims_.v_dim()});
    const at::Tensor gated = scale_and_shift(block.multihead_norm, normed) * at::sigmoid(act.o.narrow(0, 0, rows));
    act.x.narrow(0, 0, rows).add_(apply(block.out_proj, gated));
  }

  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    const at::Tensor u = rms_norm(block.norm_ffn, act.x.narrow(0, 0, rows));
    const at::Tensor gate_up = apply(block.ffn_gate_up, u);
    const at::Tensor hidden =
        at::silu(gate_up.narrow(1, 0, dims_.ffn_dim)) * gate_up.narrow(1, dims_.ffn_dim, dims_.ffn_dim);
    act.x.narrow(0, 0, rows).add_(apply(block.ffn_down, hidden));
  }

  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    const std::vector<int64_t>& rows = plan.logit_rows();
    if (rows.empty()) return;
    at::Tensor x = act.x.index_select(0, at::tensor(at::ArrayRef<int64_t>(rows), at::kLong).to(device_));
    if (weights.out_norm.weight.defined()) x = rms_norm(weights.out_norm, x);
    logits.narrow(0, 0, static_cast<int64_t>(rows.size()))
        .copy_(soft_cap(apply(weights.head, x), dims_.logit_soft_cap));
  }

 private:
  at::Tensor rms_norm(const Norm& norm, const at::Tensor& x) const {
    return scale_and_shift(norm, x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + dims_.norm_eps));
  }

  ModelDims dims_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<DeviceOps> make_native_ops(const ModelDims& dims, const at::Device& device) {
  return std::make_unique<NativeOps>(dims, device);
}

}  // namespace xlstm
