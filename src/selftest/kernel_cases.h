// The kernel part of the selftest: random inputs through a kernel and through the native one.
#pragma once

#include <functional>

#include "xlstm/core/thread_pool.h"
#include "xlstm/selftest/selftest.h"

namespace xlstm {

using CaseSink = std::function<void(SelftestCase)>;

// Every cell kernel that runs on the device, over shapes, against the native recurrence.
void check_cells(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink);

// Every set of operations that runs on the device, over shapes and weight dtypes, against the native ones.
void check_ops(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink);

}  // namespace xlstm
