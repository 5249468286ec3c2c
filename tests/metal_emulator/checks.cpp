// What the shaders' instrumented memory accesses call.
#include <cstddef>
#include <cstdint>

#include "worker.h"

#if !defined(XLSTM_EMULATOR_THREAD) && !defined(XLSTM_EMULATOR_ADDRESS)

namespace {

inline void check(const void* address, size_t bytes, bool write) {
  xlstm::emulator::Worker* worker = xlstm::emulator::running_worker;
  if (worker != nullptr) worker->access(reinterpret_cast<uintptr_t>(address), bytes, write);
}

}  // namespace

#define XLSTM_ACCESS(bytes)                                \
  extern "C" void __tsan_read##bytes(void* a) {            \
    check(a, bytes, false);                                \
  }                                                        \
  extern "C" void __tsan_write##bytes(void* a) {           \
    check(a, bytes, true);                                 \
  }                                                        \
  extern "C" void __tsan_unaligned_read##bytes(void* a) {  \
    check(a, bytes, false);                                \
  }                                                        \
  extern "C" void __tsan_unaligned_write##bytes(void* a) { \
    check(a, bytes, true);                                 \
  }
XLSTM_ACCESS(1)
XLSTM_ACCESS(2)
XLSTM_ACCESS(4)
XLSTM_ACCESS(8)
XLSTM_ACCESS(16)
#undef XLSTM_ACCESS

extern "C" void __tsan_read_range(void* a, size_t bytes) {
  check(a, bytes, false);
}
extern "C" void __tsan_write_range(void* a, size_t bytes) {
  check(a, bytes, true);
}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}

#endif
