// The form in which CUDA kernels multiply with a matrix.
#pragma once

#include <c10/core/Device.h>

#include "kernels/cuda/product.h"
#include "kernels/device_ops.h"
#include "kernels/weights.h"

namespace xlstm::cuda {

// The canonical matrix on `device`, its rows filled up with zeros to a multiple of kColumnPad columns, or to whole
// lines if it is quantized, and then in the order of Matrix (product.h); of a kGateUp matrix, rows, scales, zeros and
// bias in the order of gate_up_row(). `out` and `in` stay the logical ones: the weight has as many rows as there are
// with those that fill up. Shares memory with `canonical` where that is on the device and needs no change. Error
// kDevice for tensors that are not of the format's types.
[[nodiscard]] Linear pack_linear(Linear canonical, RowOrder order, at::Device device);

// Of a matrix that pack_linear() returned, which outlives the result. `out` is the number of the weight's rows.
[[nodiscard]] Matrix matrix_of(const Linear& linear);

}  // namespace xlstm::cuda
