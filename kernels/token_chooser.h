// Choosing tokens where the logits are, so that a device goes on with the next pass before the host has seen them.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "kernels/token_choice.h"

namespace xlstm {

// Not thread-safe; used by the thread of the DeviceOps that made it, while that lives.
class TokenChooser {
 public:
  virtual ~TokenChooser() = default;

  // Begins the pass, or runs at once outside of one: chooses a token for each row of logits, [rows, V] float32
  // where DeviceOps::place() puts tensors. Returns the ids, [rows] int32 there, which the next call overwrites. wait()
  // comes between two calls.
  virtual const at::Tensor& choose(const at::Tensor& logits) = 0;

  // What choose() has chosen, a token for each row; returns when the device has got so far, while it goes on with the
  // pass. Valid until the next choose().
  virtual std::span<const ChosenToken> wait() = 0;
};

}  // namespace xlstm
