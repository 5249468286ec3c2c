// Weights from a checkpoint, or made up for a synthetic shape.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/device_ops.h"
#include "kernels/model_dims.h"
#include "kernels/weights.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/model/checkpoint_layout.h"

namespace xlstm {

[[nodiscard]] ModelDims dims_of(const ModelConfig& config);

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  // of the matrices: float32, bfloat16 or float16
  bool progress = true;
};

// Converts and packs tensor by tensor, dropping the pages of each source afterwards, so that no more than one tensor
// above the final size is in memory. Error kCheckpoint, naming the tensor, for a missing, unexpected or misshapen
// tensor and for one that holds NaN or infinity, in the file or after conversion to `dtype`. Stopped if a stop is
// requested (xlstm/core/stop.h).
[[nodiscard]] Weights load_weights(const Checkpoint& checkpoint, const CheckpointLayout& layout, const DeviceOps& ops,
                                   const LoadOptions& options);

// Random weights of a plausible scale, for measuring speed. Equal seeds give equal weights.
[[nodiscard]] Weights random_weights(const ModelDims& dims, int64_t num_blocks, const DeviceOps& ops,
                                     at::ScalarType dtype, uint64_t seed);

// What a decode step reads: all matrices and vectors but the embedding table (one row of it).
[[nodiscard]] uint64_t bytes_read_per_token(const Weights& weights);
[[nodiscard]] uint64_t total_bytes(const Weights& weights);

}  // namespace xlstm
