#include "src/cli/signals.h"

#include <unistd.h>

#include <csignal>

#include "xlstm/core/cache_request.h"
#include "xlstm/core/emergency_files.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

void on_stop_signal(int signal) {
  if (request_stop(signal == SIGINT ? StopReason::kInterrupt : StopReason::kTerminate)) return;
  // A stop by the memory guard may be under way: only a second signal ends it at once.
  static volatile std::sig_atomic_t impatience = 0;
  if (stop_reason() == StopReason::kMemory && impatience == 0) {
    impatience = 1;
    return;
  }
  remove_emergency_files();
  ::_exit(128 + signal);
}

void on_cache_signal(int) {
  request_empty_cache();
}

// No SA_RESTART: reading a prompt from a terminal or a pipe must end.
void install(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);  // a macro on macOS
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction inherited {};
  ::sigaction(SIGINT, nullptr, &inherited);
  if (inherited.sa_handler != SIG_IGN) install(SIGINT, on_stop_signal);
  install(SIGTERM, on_stop_signal);
  install(SIGUSR1, on_cache_signal);
  install(SIGPIPE, SIG_IGN);
  install(SIGXFSZ, SIG_IGN);
}

int exit_status(StopReason reason) {
  return reason == StopReason::kInterrupt   ? 128 + SIGINT
         : reason == StopReason::kTerminate ? 128 + SIGTERM
                                            : static_cast<int>(ExitCode::kMemory);
}

const char* signal_name(StopReason reason) {
  return reason == StopReason::kInterrupt ? "SIGINT" : "SIGTERM";
}

}  // namespace xlstm
