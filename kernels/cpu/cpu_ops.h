// The operations around the mLSTM cell on the CPU: SIMD kernels on a thread pool.
//
// Weights stay row-major in float32, bfloat16 or float16 and are widened in registers. Each row's results have the same
// bits in any batch and with any number of threads. The pool must outlive the object.
#pragma once

#include <memory>

#include "kernels/device_ops.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<DeviceOps> make_cpu_ops(const ModelDims& dims, ThreadPool& pool);

}  // namespace xlstm
