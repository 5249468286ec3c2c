// The logits of one pass. They stay on the device until someone asks for them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device_ops.h"
#include "xlstm/text/sampler.h"

namespace xlstm {

// Not thread-safe; used by the thread of the engine that gave it, while that engine lives. What the functions return is
// valid until the next call of the same one, and no longer than until the engine's next pass.
class PassLogits {
 public:
  explicit PassLogits(DeviceOps& ops) : ops_(ops) {}

  [[nodiscard]] int64_t rows() const { return rows_; }

  // [rows, V] in host memory. The first call waits for the pass and copies, unless the device is the CPU.
  [[nodiscard]] std::span<const float> all();

  // The `count` greatest of each row's first `vocab` logits, [rows, count], as Sampler wants them; count ≤ vocab. Empty
  // if the device does not find that many (0 never counts as found), or where all() costs nothing any more.
  [[nodiscard]] std::span<const Candidate> greatest(int64_t vocab, int64_t count);

  // [rows, V] on the device, if they are still there; else undefined.
  [[nodiscard]] const at::Tensor& on_device() const { return device_; }

  // Returns when the pass has been computed and what the choice of a token for each row takes has been read: what a
  // measurement of decoding ends with.
  void wait();

  // For the engine. begin(): the logits [rows, V] of a pass, which the next one overwrites; undefined: none.
  void begin(at::Tensor logits);
  // Reads all, so that the engine's next pass overwrites nothing.
  void keep();

 private:
  DeviceOps& ops_;
  int64_t rows_ = 0;
  at::Tensor device_;                               // the engine's memory; undefined after keep()
  at::Tensor host_;                                 // on a CPU, until keep(), the engine's memory
  at::Tensor device_candidates_, host_candidates_;  // [rows, count, 2], kept from pass to pass
  std::vector<Candidate> candidates_;
};

}  // namespace xlstm
