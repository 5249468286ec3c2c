// Weights from a checkpoint, or made up for a synthetic shape.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/device_ops.h"
#include "kernels/model_dims.h"
#include "kernels/weights.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/model/checkpoint_layout.h"
#include "xlstm/model/weight_formats.h"

namespace xlstm {

[[nodiscard]] ModelDims dims_of(const ModelConfig& config);

struct LoadOptions {
  WeightFormats formats;
  ThreadPool& pool;
  bool progress = true;
};

// Converts, quantizes or dequantizes, and packs tensor by tensor, dropping the pages of each source afterwards, so that
// no more than one parameter above the final size is in memory. Error kCheckpoint, naming the tensor, for a missing,
// unexpected or misshapen tensor and for one that holds NaN or infinity, in the file or after conversion, or damaged
// scales. Stopped if a stop is requested (xlstm/core/stop.h).
[[nodiscard]] Weights load_weights(const Checkpoint& checkpoint, const CheckpointLayout& layout, const DeviceOps& ops,
                                   const LoadOptions& options);

struct RandomModel {
  ModelDims dims;
  int64_t num_blocks = 1;
  uint64_t seed = 0;
};
// Random weights of a plausible scale, for measuring speed and comparing kernels, drawn in their final format. Equal
// seeds give equal weights on any number of threads; other formats of the same seed are other weights. Progress and
// stops as above.
[[nodiscard]] Weights random_weights(const RandomModel& model, const DeviceOps& ops, const LoadOptions& options);

// What a decode step reads: all matrices and vectors but the embedding table (one row of it).
[[nodiscard]] uint64_t bytes_read_per_token(const Weights& weights);
[[nodiscard]] uint64_t total_bytes(const Weights& weights);

}  // namespace xlstm
