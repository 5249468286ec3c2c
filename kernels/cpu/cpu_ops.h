// The operations around the mLSTM cell on the CPU: SIMD kernels on a thread pool.
//
// Weights of every format are packed into panels (panel_layout.h). What their inputs are rounded to depends on the
// instruction set: input_rounding(). Each row's results have the same bits in any batch and with any number of threads.
// The pool must outlive the object.
#pragma once

#include <memory>

#include "kernels/device_ops.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<DeviceOps> make_cpu_ops(const ModelDims& dims, ThreadPool& pool);

}  // namespace xlstm
