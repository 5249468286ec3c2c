// A checkpoint directory of floats, made into one of int8 or int4 (docs/quantization.md).
#pragma once

#include <cstdint>
#include <filesystem>

#include "xlstm/core/thread_pool.h"
#include "xlstm/model/quantization.h"

namespace xlstm {

struct QuantizeRequest {
  std::filesystem::path source;
  std::filesystem::path destination;  // a new or an empty directory
  Quantization quantization;
  bool verify = true;  // read everything back and compare it with the source
  bool progress = true;
  uint64_t shard_bytes = 4'000'000'000;  // of tensor data in a file, unless one matrix takes more
};

struct QuantizeReport {
  uint64_t source_bytes = 0;  // of all tensors of the source
  uint64_t bytes = 0;
  size_t files = 0;           // with tensors
  double relative_error = 0;  // ‖w - ŵ‖ / ‖w‖ over all quantized matrices
};

// Goes through the checkpoint a few megabytes at a time and writes into a directory beside the destination, which is
// renamed at the end: the destination is complete or untouched. Tokenizer and generation_config.json are copied.
// Errors: kUsage for a destination in the source, kCheckpoint for a damaged or quantized source, kOutput for what
// cannot be written, kMismatch if verification finds other values than were written. Stopped if a stop is requested.
QuantizeReport quantize_checkpoint(const QuantizeRequest& request, ThreadPool& pool);

}  // namespace xlstm
