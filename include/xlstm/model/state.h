// The memory of the recurrence: C, n and m of every block for a fixed number of sequences ("slots").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/cell.h"
#include "kernels/model_dims.h"
#include "xlstm/io/state_file.h"

namespace xlstm {

struct StateOptions {
  int64_t num_blocks = 0;
  int64_t slots = 1;
  at::ScalarType dtype = at::kFloat;  // of C and n: float32 or bfloat16; m is always float32
  at::Device device = at::kCPU;
};

// Owns all state memory; kernels and schedulers get views. A slot starts at zero. Not thread-safe.
class State {
 public:
  State(const ModelDims& dims, const StateOptions& options);

  [[nodiscard]] LayerState& layer(int64_t block) { return layers_.at(static_cast<size_t>(block)); }
  [[nodiscard]] int64_t slots() const { return slots_; }
  [[nodiscard]] uint64_t bytes() const;

  // Sets one slot back to zero: the state before any token.
  void reset(int64_t slot);

  // One slot in the order of files and of other devices: per block C [NH, Dk, Dv], n [NH, Dk], m [NH], float32.
  [[nodiscard]] std::vector<SavedState::Layer> export_canonical(int64_t slot) const;
  void import_canonical(int64_t slot, const std::vector<SavedState::Layer>& layers);

 private:
  int64_t slots_;
  std::vector<LayerState> layers_;
};

}  // namespace xlstm
