// How much memory a run will take, known before anything is loaded.
//
// Counted: the weights at their type at run time, the states, the workspace of the largest pass, and what
// random_weights() holds beside the parameter that it is drawing (load_weights() converts in place). What libtorch, the
// tokenizer, the threads and the kernels' scratch take is one fixed amount. All amounts are bytes.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/model_dims.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/memory/memory_limits.h"
#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/registry/registry.h"

namespace xlstm {

// Bytes per element, scales and zero points of quantized matrices included. Norms, biases and gates are float32.
struct WeightBytes {
  double matrices = 4;
  double embedding = 4;
  double head = 4;
};
// The same type for all of them: "float32", "bfloat16" or "float16".
[[nodiscard]] WeightBytes weight_bytes(const std::string& dtype);

enum class WeightPlace {
  kHost,     // a CPU: everything is this process's memory
  kDevice,   // weights, states and workspace are in the device's own memory
  kUnified,  // the device's memory is the machine's: both sides must have room for everything
};

struct EstimateRequest {
  WeightBytes weights;
  double state_bytes = 4;       // per element of C and n; m is float32
  int64_t slots = 1;            // sequences that have a state
  int64_t rows = 1;             // of the largest pass
  int64_t logit_rows = 1;       // whose logits the largest pass keeps
  bool float32_copies = false;  // operations that convert a matrix to float32 each time they multiply with it
  WeightPlace place = WeightPlace::kHost;
};
// One sequence in segments of prefill_segment tokens, logits for the last row: what `generate` does. `longest_prompt`:
// tokens, as far as they are known to be fewer than a segment; a text has no more tokens than bytes, and BOS.
[[nodiscard]] EstimateRequest estimate_request(const RuntimeOpts& opts, const Resolution& resolution,
                                               int64_t longest_prompt = INT64_MAX);

struct MemoryEstimate {
  uint64_t weights = 0;
  uint64_t loading = 0;  // the most that weights take while they are loaded
  uint64_t staging = 0;  // the most that one parameter takes until it is on a device
  uint64_t state = 0;
  uint64_t workspace = 0;  // activations, logits, float32 copies
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
