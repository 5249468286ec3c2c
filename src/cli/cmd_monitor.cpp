// monitor: what the running processes of this user are doing.

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/stop.h"
#include "xlstm/monitor/monitor_state.h"
#include "xlstm/monitor/reader.h"
#include "xlstm/monitor/report.h"
#include "xlstm/monitor/terminal.h"

namespace xlstm {
namespace {

Look sorted_look(SortKey sort) {
  Look look = read_processes();
  sort_processes(look.processes, sort);
  return look;
}

// Waits, or throws Stopped.
void wait_for(std::chrono::duration<double> time) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kPoll{50};
  const Clock::time_point begin = Clock::now();
  while (true) {
    throw_if_stopped();
    const std::chrono::duration<double> left = time - (Clock::now() - begin);
    if (left.count() <= 0) return;
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(left, kPoll));
  }
}

void stream(const MonitorArgs& args, SortKey sort) {
  for (int64_t n = 1;; ++n) {
    print_json(look_json(sorted_look(sort)), true);
    if (n == args.count) return;
    wait_for(std::chrono::duration<double>(args.interval));
  }
}

}  // namespace

ExitCode run_monitor(const Arguments& args) {
  const SortKey sort = parse_sort_key(args.monitor.sort);
  if (args.monitor.json_stream) {
    stream(args.monitor, sort);
  } else if (args.json) {
    print_json(look_json(sorted_look(sort)));
  } else if (args.monitor.once) {
    const Look look = sorted_look(sort);
    for (const std::string& problem : look.problems) log::warn(problem);
    print_out(table_text(look));
  } else {
    if (!has_terminal()) {
      fail(ExitCode::kUsage, "monitor", "standard output", "a terminal; or --once, --json or --json-stream", "none");
    }
    MonitorState state;
    state.sort = sort;
    state.interval = args.monitor.interval;
    run_terminal(std::move(state));
  }
  return ExitCode::kOk;
}

}  // namespace xlstm
