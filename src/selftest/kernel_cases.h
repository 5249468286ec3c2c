// The kernel part of the selftest: random inputs through a kernel and through the native one.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "xlstm/core/thread_pool.h"
#include "xlstm/selftest/selftest.h"

namespace xlstm {

using CaseSink = std::function<void(SelftestCase)>;

// The case that a result of a device gives, compared with the reference on the host in double precision.
[[nodiscard]] SelftestCase compare_tensors(std::string kernel, std::string subject, const at::Tensor& actual,
                                           const at::Tensor& expected, double tolerance);

// Every cell kernel that runs on the device, over shapes, against the native recurrence.
void check_cells(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink);

// Every set of operations that runs on the device, over shapes and weight dtypes, against the native ones.
void check_ops(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink);

}  // namespace xlstm
