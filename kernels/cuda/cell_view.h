// The mLSTM cell's arguments as kernels take them. Formulas: kernels/cell.h.
#pragma once

#include <cstdint>

#include "kernels/cell.h"
#include "kernels/cuda/cell_args.h"
#include "kernels/cuda/gpu.h"
#include "kernels/model_dims.h"

namespace xlstm::cuda {

// Checks shapes, dtypes and strides, which are the program's own doing.
[[nodiscard]] CellTensors view(const CellArgs& call, const ModelDims& dims);

}  // namespace xlstm::cuda
