// The commands of the executable. Each returns the exit code or throws Error.
#pragma once

#include "src/cli/arguments.h"
#include "xlstm/core/errors.h"

namespace xlstm {

ExitCode run_generate(const Arguments& args);
ExitCode run_info(const Arguments& args);
ExitCode run_bench_command(const Arguments& args);
ExitCode run_selftest_command(const Arguments& args);
ExitCode run_perplexity(const Arguments& args);
ExitCode run_tokenize(const Arguments& args);
ExitCode run_check(const Arguments& args);
ExitCode run_tune(const Arguments& args);
ExitCode run_monitor(const Arguments& args);
ExitCode run_quantize(const Arguments& args);

// --print-effective-config
ExitCode print_effective_config(const Arguments& args);

}  // namespace xlstm
