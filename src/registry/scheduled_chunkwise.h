// A chunkwise kernel made of a device's tiles and a scheduler.
#pragma once

#include <memory>

#include "kernels/cell.h"
#include "kernels/tile.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<CellKernel> make_scheduled_chunkwise(const ModelDims& dims,
                                                                   const KernelSettings& settings,
                                                                   std::unique_ptr<TileKernel> tiles);

}  // namespace xlstm
