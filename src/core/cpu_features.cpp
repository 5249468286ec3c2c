#include "xlstm/core/cpu_features.h"

#include <sys/utsname.h>

#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#else
#include <fstream>
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

// The builtins ask the processor and, by XGETBV, the system.
#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

}  // namespace

std::string cpu_name() {
  return cat(model_name(), ", ", available_cores(), " cores");
}

std::string system_name() {
  struct utsname name {};
  return ::uname(&name) == 0 ? cat(name.sysname, ' ', name.release, ' ', name.machine) : "unknown";
}

bool has_avx512_bf16() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

bool has_fast_bf16_dot() {
#if defined(__x86_64__)
  return has_avx512_bf16() && !__builtin_cpu_is("intel");
#else
  return false;
#endif
}

bool has_avx512_vnni() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace xlstm
