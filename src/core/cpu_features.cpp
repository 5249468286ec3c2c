#include "xlstm/core/cpu_features.h"

#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#else
#include <fstream>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace xlstm {
namespace {

std::string model_name() {
#if defined(__APPLE__)
  char name[128] = {};
  size_t size = sizeof name;
  return ::sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "processor";
#else
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    if (line.starts_with("model name")) {
      const size_t colon = line.find(':');
      if (colon != std::string::npos && colon + 2 < line.size()) return line.substr(colon + 2);
    }
  }
  return "processor";
#endif
}

}  // namespace

bool cpu_has_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return ::sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has == 1;
#elif defined(__linux__) && defined(__aarch64__)
  return (::getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
#else
  return false;
#endif
}

std::string cpu_name() {
  return cat(model_name(), ", ", available_cores(), " cores");
}

}  // namespace xlstm
