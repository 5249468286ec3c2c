#include "src/cli/program.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "src/cli/arguments.h"
#include "src/cli/commands.h"
#include "src/cli/memory_message.h"
#include "src/cli/setup.h"
#include "src/cli/signals.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

namespace {

using xlstm::ExitCode;

ExitCode run_command(const xlstm::Arguments& args) {
  if (args.command == "help" || args.command == "version") {
    xlstm::print_out(args.text);
    return ExitCode::kOk;
  }
  if (args.print_effective_config) return xlstm::print_effective_config(args);
  if (args.command == "generate") return xlstm::run_generate(args);
  if (args.command == "info") return xlstm::run_info(args);
  if (args.command == "bench") return xlstm::run_bench_command(args);
  if (args.command == "selftest") return xlstm::run_selftest_command(args);
  if (args.command == "perplexity") return xlstm::run_perplexity(args);
  if (args.command == "tokenize") return xlstm::run_tokenize(args);
  if (args.command == "check") return xlstm::run_check(args);
  if (args.command == "tune") return xlstm::run_tune(args);
  if (args.command == "monitor") return xlstm::run_monitor(args);
  if (args.command == "quantize") return xlstm::run_quantize(args);
  xlstm::fail(ExitCode::kInternal, "command", "dispatch", "a known command", args.command);
}

ExitCode report(ExitCode code, std::string_view message) {
  const std::string line = xlstm::cat("error: ", message.substr(0, message.find('\n')), "\n");
  std::fputs(line.c_str(), stderr);
  return code;
}

ExitCode report_torch(const c10::Error& error) {
  const std::string message = error.what_without_backtrace();
  const bool memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr || xlstm::is_about_memory(message);
  if (!memory) return report(ExitCode::kInternal, xlstm::cat("libtorch: ", message));
  return report(ExitCode::kMemory, xlstm::memory_message(message));
}

// What a shell reports for a program that SIGPIPE ends.
constexpr int kClosedPipe = 128 + SIGPIPE;

int run(int argc, char** argv) {
  ExitCode code = ExitCode::kInternal;
  try {
    code = run_command(xlstm::parse_arguments(argc, argv));
    xlstm::log::flush();
  } catch (const xlstm::Stopped& stopped) {
    xlstm::log::flush();
    return xlstm::exit_status(stopped.reason);
  } catch (const xlstm::OutputClosed&) {
    return kClosedPipe;
  } catch (const xlstm::Error& error) {
    code = report(error.code(), error.what());
  } catch (const c10::Error& error) {
    code = report_torch(error);
  } catch (const std::bad_alloc&) {
    code = report(ExitCode::kMemory, "memory (allocation): expected enough memory, got none");
  } catch (const std::exception& error) {
    code = report(ExitCode::kInternal, xlstm::cat("unexpected: ", error.what()));
  }
  return static_cast<int>(code);
}

// A file opened later must not take the place of a closed standard stream, or results would be written into it. Writing
// to the read-only stand-in of standard output fails, as writing to a closed one does.
void occupy_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) == -1) {
      static_cast<void>(::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY));
    }
  }
}

// A matrix is built beside the weights while it is loaded. glibc would take memory of its size from the heap once one
// was freed, and small tensors that stay would keep it from being given back: hundreds of megabytes for a large model.
void keep_large_blocks_off_the_heap() {
#if defined(__GLIBC__)
  constexpr int kLargest = 1 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kLargest);
#endif
}

}  // namespace

namespace xlstm {

void run_program(int argc, char** argv) {
  keep_large_blocks_off_the_heap();
  occupy_standard_streams();
  install_signal_handlers();
  const int code = run(argc, argv);
  std::fflush(nullptr);
  // libtorch's static destructors take their time and have nothing to save.
  std::_Exit(code);
}

}  // namespace xlstm
