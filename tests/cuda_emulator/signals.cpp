#include "signals.h"

#include <signal.h>

#include <array>
#include <mutex>
#include <vector>

#include "worker.h"

namespace xlstm::cuda_emulator {
#if defined(XLSTM_EMULATOR_ADDRESS) || defined(XLSTM_EMULATOR_THREAD)

void catch_faults_of_this_thread() {}  // the sanitizer's own handlers say more
bool has_checks() {
  return false;
}

#else
namespace {

constexpr std::array<int, 5> kSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
std::array<struct sigaction, kSignals.size()> previous;

std::string describe(int signal, const void* address) {
  if (signal == SIGFPE) return "a division by zero";
  // The checks that the compiler puts into kernels stop them by such an instruction.
  if (signal == SIGILL || signal == SIGTRAP) return "a misaligned access, index out of range or arithmetic overflow";
  char text[64];
  snprintf(text, sizeof(text), "an access to %p, where no memory is", address);
  return text;
}

void handle(int signal, siginfo_t* info, void* /*context*/) {
  if (running_worker != nullptr) {
    // The kernel's stack is left for good, so nothing goes on where the fault interrupted it.
    running_worker->fault([&] { return describe(signal, info->si_addr); });
  }
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal) sigaction(signal, &previous[i], nullptr);  // and fault again
  }
}

}  // namespace

bool has_checks() {
  return true;
}

void catch_faults_of_this_thread() {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action = {};
    action.sa_sigaction = &handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &previous[i]);
  });
  // A stack that overflowed has no room for the handler.
  thread_local std::vector<char> stack;
  if (!stack.empty()) return;
  stack_t present = {};
  sigaltstack(nullptr, &present);
  stack.resize(size_t{64} * 1024);
  if ((present.ss_flags & SS_DISABLE) == 0) return;  // another emulator's will do
  stack_t alternate = {};
  alternate.ss_sp = stack.data();
  alternate.ss_size = stack.size();
  sigaltstack(&alternate, nullptr);
}

#endif

}  // namespace xlstm::cuda_emulator
