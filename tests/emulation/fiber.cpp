#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#if defined(XLSTM_EMULATOR_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(XLSTM_EMULATOR_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

#include <cstdint>
#include <new>

namespace xlstm::emulation {

// Saves the registers that a function must keep, on the stack it leaves. The floating-point control words are the same
// on all stacks.
#if defined(__x86_64__)
asm(R"(
  .text
  .globl xlstm_fiber_switch
  .type xlstm_fiber_switch, @function
xlstm_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size xlstm_fiber_switch, .-xlstm_fiber_switch

  .globl xlstm_fiber_begin
  .type xlstm_fiber_begin, @function
xlstm_fiber_begin:
  movq %r12, %rdi
  callq *%r13
  ud2
  .size xlstm_fiber_begin, .-xlstm_fiber_begin
)");

extern "C" void xlstm_fiber_begin();

static void* first_frame(void* stack_begin, size_t stack_bytes, void (*entry)(void*), void* argument) {
  auto* top = reinterpret_cast<uint64_t*>(static_cast<char*>(stack_begin) + stack_bytes);
  *--top = 0;  // so that the stack is aligned as after a call
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(&xlstm_fiber_begin);
  *--top = 0;                                     // rbp
  *--top = 0;                                     // rbx
  *--top = reinterpret_cast<uint64_t>(argument);  // r12
  *--top = reinterpret_cast<uint64_t>(entry);     // r13
  *--top = 0;                                     // r14
  *--top = 0;                                     // r15
  return top;
}
#elif defined(__aarch64__)
asm(R"(
  .text
  .globl xlstm_fiber_switch
  .type xlstm_fiber_switch, %function
xlstm_fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size xlstm_fiber_switch, .-xlstm_fiber_switch

  .globl xlstm_fiber_begin
  .type xlstm_fiber_begin, %function
xlstm_fiber_begin:
  mov x0, x19
  blr x20
  brk #1
  .size xlstm_fiber_begin, .-xlstm_fiber_begin
)");

extern "C" void xlstm_fiber_begin();

static void* first_frame(void* stack_begin, size_t stack_bytes, void (*entry)(void*), void* argument) {
  auto* frame = reinterpret_cast<uint64_t*>(static_cast<char*>(stack_begin) + stack_bytes - 160);
  for (int i = 0; i < 20; ++i) frame[i] = 0;
  frame[0] = reinterpret_cast<uint64_t>(argument);             // x19
  frame[1] = reinterpret_cast<uint64_t>(entry);                // x20
  frame[11] = reinterpret_cast<uint64_t>(&xlstm_fiber_begin);  // x30
  return frame;
}
#else
#error "The emulators' stack switch is written for x86-64 and AArch64"
#endif

#if defined(XLSTM_EMULATOR_ADDRESS)
void switch_context(Context& from, Context& to, bool abandon) {
  __sanitizer_start_switch_fiber(abandon ? nullptr : &from.sanitizer, to.bottom, to.bytes);
  xlstm_fiber_switch(&from.stack_pointer, to.stack_pointer);
  __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
}
void begin_context(Context& from) {
  __sanitizer_finish_switch_fiber(nullptr, &from.bottom, &from.bytes);
}
#elif defined(XLSTM_EMULATOR_THREAD)
void switch_context(Context& from, Context& to, bool /*abandon*/) {
  from.sanitizer = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.sanitizer, 0);
  xlstm_fiber_switch(&from.stack_pointer, to.stack_pointer);
}
void begin_context(Context& /*from*/) {}
#else
void begin_context(Context& /*from*/) {}
#endif

void make_context(Context& fiber, void* bottom, size_t bytes, void (*entry)(void*), void* argument) {
#if defined(XLSTM_EMULATOR_ADDRESS)
  __asan_unpoison_memory_region(bottom, bytes);  // from frames that were abandoned
#endif
  fiber.stack_pointer = first_frame(bottom, bytes, entry, argument);
  fiber.bottom = bottom;
  fiber.bytes = bytes;
#if defined(XLSTM_EMULATOR_THREAD)
  if (fiber.sanitizer == nullptr) fiber.sanitizer = __tsan_create_fiber(0);
#else
  fiber.sanitizer = nullptr;
#endif
}

Stacks::Stacks(size_t count) : count_(count), page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
  void* memory = mmap(nullptr, bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count_; ++i) mprotect(begin(i), kBytes, PROT_READ | PROT_WRITE);
}

Stacks::~Stacks() {
#if defined(XLSTM_EMULATOR_ADDRESS)
  __asan_unpoison_memory_region(memory_, bytes());  // frames that were never left; others get these addresses
#endif
  munmap(memory_, bytes());
}

}  // namespace xlstm::emulation
