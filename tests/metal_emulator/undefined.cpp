// What the shaders' checks for undefined behaviour call; the layout of their arguments is that of the compilers' own
// runtime, which begins with a place in the source.
#include <cstdint>
#include <string>

#include "worker.h"

#if !defined(XLSTM_EMULATOR_THREAD) && !defined(XLSTM_EMULATOR_ADDRESS)

namespace {

struct Place {
  const char* file;
  uint32_t line;
  uint32_t column;
};

void report(const void* data, const char* what) {
  const auto* place = static_cast<const Place*>(data);
  if (xlstm::emulator::running_worker == nullptr) return;
  xlstm::emulator::running_worker->fault([&] { return std::string(what) + " in line " + std::to_string(place->line); });
}

}  // namespace

extern "C" {
void __ubsan_handle_type_mismatch_v1(void* data, uintptr_t) {
  report(data, "a misaligned pointer is used");
}
void __ubsan_handle_out_of_bounds(void* data, uintptr_t) {
  report(data, "an index is outside of its array");
}
void __ubsan_handle_divrem_overflow(void* data, uintptr_t, uintptr_t) {
  report(data, "an integer is divided by zero");
}
void __ubsan_handle_float_cast_overflow(void* data, uintptr_t) {
  report(data, "a float does not fit its integer");
}
void __ubsan_handle_shift_out_of_bounds(void* data, uintptr_t, uintptr_t) {
  report(data, "a shift is too far");
}
void __ubsan_handle_add_overflow(void* data, uintptr_t, uintptr_t) {
  report(data, "an integer sum overflows");
}
void __ubsan_handle_sub_overflow(void* data, uintptr_t, uintptr_t) {
  report(data, "an integer difference overflows");
}
void __ubsan_handle_mul_overflow(void* data, uintptr_t, uintptr_t) {
  report(data, "an integer product overflows");
}
void __ubsan_handle_negate_overflow(void* data, uintptr_t) {
  report(data, "an integer's negative overflows");
}
}

#endif
