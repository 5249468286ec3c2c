// The implementations that one model runs on; made by the registry, once, at load.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cell.h"
#include "kernels/device_ops.h"

namespace xlstm {

struct CellKernels {
  std::unique_ptr<CellKernel> step;
  std::unique_ptr<CellKernel> sequence;
  std::unique_ptr<CellKernel> chunkwise;
  int64_t chunk_size = 64;  // that chunkwise was made with
};

struct ModelKernels {
  std::unique_ptr<DeviceOps> ops;
  CellKernels cell;
};

}  // namespace xlstm
