// libtorch's matrix product on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace xlstm {

// Rate of x · Wᵀ in a type of weights: "float32", "bfloat16", "float16", or "int8" (int8 · int8 in int32). Not
// thread-safe.
class GemmProbe {
 public:
  explicit GemmProbe(at::Device device);

  // The types that this device multiplies at a rate worth comparing with: float32, and those that are not many times
  // slower. Measured once, on small matrices.
  [[nodiscard]] const std::vector<std::string>& dtypes() const { return dtypes_; }

  // The one of dtypes() that products with weights of this type are judged by: itself, int8 for int4, else the nearest
  // type that a device without it would compute in.
  [[nodiscard]] std::string judge_of(const std::string& weight_dtype) const;

  // FLOP per second over at least `seconds`; `dtype` is one of dtypes().
  [[nodiscard]] double flop_per_s(const std::string& dtype, double seconds);

  // Of the matrices that flop_per_s() keeps for its next call, on the device.
  [[nodiscard]] uint64_t operand_bytes() const;

 private:
  struct Operands {
    at::Tensor x;
    at::Tensor w;
  };
  // On small matrices; absent for a type that this device does not multiply.
  [[nodiscard]] std::optional<double> quick_rate(const std::string& dtype) const;
  [[nodiscard]] Operands make(const std::string& dtype, int64_t size) const;
  [[nodiscard]] double measure(const Operands& operands, double seconds) const;

  at::Device device_;
  std::vector<std::string> dtypes_;
  std::map<std::string, Operands> operands_;  // made when first used
};

}  // namespace xlstm
