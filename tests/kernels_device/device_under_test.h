// The device whose kernels a test program tests: each program is linked with one implementation.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/activations.h"
#include "kernels/cell.h"
#include "kernels/device_ops.h"
#include "kernels/model_dims.h"

namespace xlstm::test {

class DeviceUnderTest {
 public:
  virtual ~DeviceUnderTest() = default;

  [[nodiscard]] virtual std::unique_ptr<DeviceOps> ops(const ModelDims& dims) = 0;
  [[nodiscard]] virtual std::unique_ptr<CellKernel> step(const ModelDims& dims) = 0;
  [[nodiscard]] virtual std::unique_ptr<CellKernel> sequence(const ModelDims& dims) = 0;
  [[nodiscard]] virtual std::unique_ptr<CellKernel> chunkwise(const ModelDims& dims, int64_t chunk_size,
                                                              int64_t heads_per_band) = 0;

  // Calls of kernels between the two are one pass.
  virtual void begin_pass() = 0;
  virtual void end_pass() = 0;

  // A contiguous copy where kernels read it. What they wrote comes back by Tensor::cpu().
  [[nodiscard]] virtual at::Tensor place(const at::Tensor& tensor) const = 0;

  // Calls `run`, which returns the bytes that it computed, several times, if the device is emulated with threads in
  // different orders. What differs from the first result, or an empty string.
  [[nodiscard]] virtual std::string order_dependence(const std::function<std::string()>& run) = 0;
};

[[nodiscard]] std::unique_ptr<DeviceUnderTest> make_device_under_test();

// Copies of all tensors.
inline Activations on_device(const Activations& act, const ModelDims& dims, const DeviceUnderTest& device) {
  Activations copy;
  const int64_t qk = dims.qk_dim();
  const int64_t v = dims.v_dim();
  copy.x = device.place(act.x);
  copy.qkvo = device.place(act.qkvo);
  copy.q = copy.qkvo.narrow(1, 0, qk);
  copy.k = copy.qkvo.narrow(1, qk, qk);
  copy.v = copy.qkvo.narrow(1, 2 * qk, v);
  copy.o = copy.qkvo.narrow(1, 2 * qk + v, v);
  copy.gates = device.place(act.gates);
  copy.h = device.place(act.h);
  copy.ffn = device.place(act.ffn);
  return copy;
}

inline LayerState on_device(const LayerState& state, const DeviceUnderTest& device) {
  return {device.place(state.c), device.place(state.n), device.place(state.m)};
}

// What kernels wrote, to be looked at.
inline Activations from_device(const Activations& act) {
  return {act.x.cpu(), act.qkvo.cpu(),  act.q.cpu(), act.k.cpu(),  act.v.cpu(),
          act.o.cpu(), act.gates.cpu(), act.h.cpu(), act.ffn.cpu()};
}

inline LayerState from_device(const LayerState& state) {
  return {state.c.cpu(), state.n.cpu(), state.m.cpu()};
}

inline std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.cpu().contiguous();
  return {static_cast<const char*>(values.const_data_ptr()), values.nbytes()};
}

}  // namespace xlstm::test
