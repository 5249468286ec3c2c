// The executable: parses the command line, runs one command, and turns every failure into one line and an exit code.

#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "src/cli/arguments.h"
#include "src/cli/commands.h"
#include "src/cli/setup.h"
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
  xlstm::fail(ExitCode::kInternal, "command", "dispatch", "a known command", args.command);
}

ExitCode report(ExitCode code, std::string_view message) {
  const std::string line = xlstm::cat("error: ", message.substr(0, message.find('\n')), "\n");
  std::fputs(line.c_str(), stderr);
  return code;
}

ExitCode report_torch(const c10::Error& error) {
  const std::string message = error.what_without_backtrace();
  const bool memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                      message.find("can't allocate memory") != std::string::npos;
  return report(memory ? ExitCode::kMemory : ExitCode::kInternal, xlstm::cat("libtorch: ", message));
}

ExitCode run(int argc, char** argv) {
  try {
    return run_command(xlstm::parse_arguments(argc, argv));
  } catch (const xlstm::Error& error) {
    return report(error.code(), error.what());
  } catch (const c10::Error& error) {
    return report_torch(error);
  } catch (const std::bad_alloc&) {
    return report(ExitCode::kMemory, "memory (allocation): expected enough memory, got none");
  } catch (const std::exception& error) {
    return report(ExitCode::kInternal, xlstm::cat("unexpected: ", error.what()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const ExitCode code = run(argc, argv);
  xlstm::log::flush();
  std::fflush(nullptr);
  // libtorch's static destructors take their time and have nothing to save.
  std::_Exit(static_cast<int>(code));
}
