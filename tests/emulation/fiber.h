// Stacks to switch between within one OS thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace xlstm::emulation {

// A stack, suspended while another one runs.
struct Context {
  void* stack_pointer = nullptr;
  // Where the stack lies, for sanitizers; the OS thread's own is found when a fiber first runs.
  const void* bottom = nullptr;
  size_t bytes = 0;
  void* sanitizer = nullptr;  // what a sanitizer keeps of it
};

extern "C" void xlstm_fiber_switch(void** from, void* to);

// Suspends the running stack in `from` and goes on with `to`. After a switch to a context that is never gone back to,
// `abandon` lets a sanitizer forget the running one.
#if defined(XLSTM_EMULATOR_ADDRESS) || defined(XLSTM_EMULATOR_THREAD)
void switch_context(Context& from, Context& to, bool abandon = false);
#else
inline void switch_context(Context& from, Context& to, bool /*abandon*/ = false) {
  xlstm_fiber_switch(&from.stack_pointer, to.stack_pointer);
}
#endif

// Makes `fiber` a stack on which `entry(argument)` begins when it is switched to. `entry` never returns, and first of
// all calls begin_context(the context that it was switched to from).
void make_context(Context& fiber, void* bottom, size_t bytes, void (*entry)(void*), void* argument);
void begin_context(Context& from);

// `count` stacks side by side, each with a page below it that no one may touch.
class Stacks {
 public:
  static constexpr size_t kBytes = size_t{128} * 1024;  // of which kernels touch little

  explicit Stacks(size_t count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  [[nodiscard]] char* begin(size_t index) const { return memory_ + index * (kBytes + page_) + page_; }
  // Where stack `index` ends: not all at one offset of a page, or few sets of the caches would hold them all.
  [[nodiscard]] size_t bytes_of(size_t index) const { return kBytes - index % 64 * 3 * 64 % 4096; }

 private:
  [[nodiscard]] size_t bytes() const { return count_ * (kBytes + page_); }

  size_t count_;
  size_t page_;
  char* memory_;
};

}  // namespace xlstm::emulation
