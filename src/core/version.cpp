#include "xlstm/core/version.h"

#include "xlstm/core/str.h"

namespace xlstm {

std::string version() {
  return XLSTM_VERSION;
}

std::string libtorch_version() {
  return XLSTM_LIBTORCH_VERSION;
}

std::string compiler() {
#if defined(__clang__)
  return cat("clang ", __clang_version__);
#elif defined(__GNUC__)
  return cat("gcc ", __VERSION__);
#else
  return "unknown";
#endif
}

}  // namespace xlstm
