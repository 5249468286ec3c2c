// How much memory a run will take, known before anything is loaded.
//
// Counted: the weights in their formats at run time, the states, the workspace of the largest pass, and while loading
// the one parameter that is being packed, which is there twice. CUDA's kernels say what scratch memory they need. What
// libtorch, the tokenizer, the threads and other scratch memory take is one fixed amount; so is the padding of packed
// matrices. All amounts are bytes.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/model_dims.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/memory/memory_limits.h"
#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

enum class WeightPlace {
  kHost,     // a CPU: everything is this process's memory
  kDevice,   // weights, states and workspace are in the device's own memory
  kUnified,  // the device's memory is the machine's: both sides must have room for everything
};

struct EstimateRequest {
  std::string weight_dtype = "float32";  // as in Resolution
  double state_bytes = 4;                // per element of C and n; m is float32
  int64_t slots = 1;                     // sequences that have a state
  int64_t rows = 1;                      // of the largest pass
  int64_t logit_rows = 1;                // whose logits the largest pass keeps
  bool float32_copies = false;           // operations that make a matrix float32 each time they multiply with it
  bool packs = false;                    // operations that keep matrices in an order of their own
  bool ffn = true;                       // operations that write Activations::ffn
  double scratch_bytes = 0;              // the kernels' own memory
  WeightPlace place = WeightPlace::kHost;
};
// One sequence in segments of prefill_segment tokens, logits for the last row: what `generate` does. `tokens`: of all
// that is fed, as far as they are known to be fewer than a segment; a text has no more tokens than bytes, and BOS.
[[nodiscard]] EstimateRequest estimate_request(const RuntimeOpts& opts, const Resolution& resolution,
                                               int64_t tokens = INT64_MAX);

struct MemoryEstimate {
  uint64_t weights = 0;
  uint64_t loading = 0;  // the most that weights take while they are loaded
  uint64_t staging = 0;  // the most that one parameter takes until it is on a device
  uint64_t state = 0;
  uint64_t workspace = 0;  // activations, logits, float32 copies, the kernels' own memory
  uint64_t fixed = 0;
  WeightPlace place = WeightPlace::kHost;

  [[nodiscard]] uint64_t total() const;   // the larger of loading and running
  [[nodiscard]] uint64_t host() const;    // of it in this process's memory
  [[nodiscard]] uint64_t device() const;  // of it in the device's
};
[[nodiscard]] MemoryEstimate estimate_memory(const CheckpointLayout& layout, const EstimateRequest& request);
// A synthetic shape: a head of its own, no biases but the gates'.
[[nodiscard]] MemoryEstimate estimate_memory(const ModelDims& dims, int64_t num_blocks, const EstimateRequest& request);

// Error kMemory with the numbers if the estimate is above the room; with `force` a warning instead.
void require_room(const MemoryEstimate& estimate, const MemorySample& sample, const RuntimeOpts& opts, bool force);

}  // namespace xlstm
