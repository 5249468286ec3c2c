#include "signals.h"

#include <array>
#include <csignal>
#include <mutex>
#include <vector>

namespace xlstm::emulation {
#if defined(XLSTM_EMULATOR_ADDRESS) || defined(XLSTM_EMULATOR_THREAD)

void catch_faults_of_this_thread(TakeFault /*take*/) {}

#else
namespace {

constexpr std::array<int, 5> kSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
std::array<struct sigaction, kSignals.size()> previous;
constinit thread_local TakeFault take_fault = nullptr;

void handle(int signal, siginfo_t* info, void* /*context*/) {
  // The kernel's stack is left for good, so nothing goes on where the fault interrupted it.
  if (take_fault != nullptr) take_fault(signal, info->si_addr);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal) sigaction(signal, &previous[i], nullptr);  // and fault again
  }
}

}  // namespace

void catch_faults_of_this_thread(TakeFault take) {
  take_fault = take;
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

}  // namespace xlstm::emulation
