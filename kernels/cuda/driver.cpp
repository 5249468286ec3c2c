#include "kernels/cuda/driver.h"

#include <string>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm::cuda {
namespace {

std::string text(int version) {
  return cat(version / 1000, '.', version % 1000 / 10);
}

}  // namespace

void fail_for_old_driver(int driver, int needed) {
  fail(ExitCode::kDevice, "NVIDIA driver", "CUDA", cat("one for CUDA ", text(needed), " or later"),
       cat("one for CUDA ", text(driver)));
}

}  // namespace xlstm::cuda
