// Errors of CUDA's runtime as the program's own. For files that see CUDA's headers.
#pragma once

#include <cuda_runtime_api.h>

#include "xlstm/core/errors.h"

namespace xlstm::cuda {

// Error kMemory where none is left, else kDevice.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const ExitCode code = error == cudaErrorMemoryAllocation ? ExitCode::kMemory : ExitCode::kDevice;
  fail(code, what, "CUDA", "success", cudaGetErrorString(error));
}

}  // namespace xlstm::cuda
