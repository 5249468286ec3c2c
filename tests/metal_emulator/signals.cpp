#include "signals.h"

#include <signal.h>

#include <array>
#include <mutex>
#include <vector>

#include "worker.h"

namespace xlstm::emulator {
#if defined(XLSTM_EMULATOR_ADDRESS) || defined(XLSTM_EMULATOR_THREAD)

void catch_faults_of_this_thread() {}  // the sanitizer's own handlers say more

#else
namespace {

constexpr std::array<int, 3> kSignals = {SIGSEGV, SIGBUS, SIGFPE};
std::array<struct sigaction, kSignals.size()> previous;

void handle(int signal, siginfo_t* info, void* /*context*/) {
  if (running_worker != nullptr) {
    // The kernel's stack is left for good, so nothing goes on where the fault interrupted it.
    running_worker->fault_at(signal == SIGFPE ? nullptr : info->si_addr);
  }
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal) sigaction(signal, &previous[i], nullptr);  // and fault again
  }
}

}  // namespace

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
  stack.resize(size_t{64} * 1024);
  stack_t alternate = {};
  alternate.ss_sp = stack.data();
  alternate.ss_size = stack.size();
  sigaltstack(&alternate, nullptr);
}

#endif

}  // namespace xlstm::emulator
