// The form in which Metal kernels multiply with a matrix.
#pragma once

#include <c10/core/Device.h>

#include "kernels/weights.h"

namespace xlstm::metal {

// The canonical matrix on `device`, its rows filled up with zeros to a multiple of kColumnPad columns, so that every
// vector load is aligned. Shares memory with `canonical` where that is on the device and needs no filling. Error
// kDevice for tensors that are not of the format's types.
[[nodiscard]] Linear pack_linear(Linear canonical, at::Device device);

}  // namespace xlstm::metal
