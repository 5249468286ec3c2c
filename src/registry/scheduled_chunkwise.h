// A chunkwise kernel made of a device's tiles and a scheduler.
#pragma once

#include <memory>

#include "kernels/cell.h"
#include "kernels/tile.h"
#include "xlstm/schedule/scheduler.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<CellKernel> make_scheduled_chunkwise(std::unique_ptr<Scheduler> scheduler,
                                                                   std::unique_ptr<TileKernel> tiles);

}  // namespace xlstm
