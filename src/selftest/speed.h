// The speed part of the selftest: the operations of a decode step, each alone, on one block of a made-up model.
#pragma once

#include <vector>

#include "xlstm/core/thread_pool.h"
#include "xlstm/selftest/selftest.h"

namespace xlstm {

// One row for each operation and weight format; weights once as large as the shape's block, so that a shape larger than
// the device's caches shows what its memory gives. Stopped between rows if a stop is requested.
[[nodiscard]] std::vector<SelftestSpeed> measure_speed(const SelftestRequest& request, ThreadPool& pool);

}  // namespace xlstm
