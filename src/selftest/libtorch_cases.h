// The part of the selftest that looks at libtorch's own products on a device.
#pragma once

#include "src/selftest/kernel_cases.h"

namespace xlstm {

// Matrix products as the native kernels ask for them (two dimensions, contiguous, no bias; batches of heads), in every
// float type, several times each: on some systems they are known to be wrong for some shapes, or now and then.
void check_libtorch(const Resolution& resolution, const CaseSink& sink);

}  // namespace xlstm
