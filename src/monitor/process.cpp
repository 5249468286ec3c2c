#include "xlstm/monitor/process.h"

#include <cerrno>
#include <csignal>
#include <limits>
#include <string>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#include <sys/types.h>
#else
#include <filesystem>
#include <sstream>
#include <system_error>

#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#endif

namespace xlstm {

#if defined(__APPLE__)

ProcessState process_state(int64_t pid) {
  if (pid <= 0 || pid > std::numeric_limits<pid_t>::max()) return {};
  int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, static_cast<int>(pid)};
  kinfo_proc info{};
  size_t size = sizeof info;
  if (::sysctl(name, 4, &info, &size, nullptr, 0) != 0 || size < sizeof info) return {};
  if (info.kp_proc.p_stat == SZOMB) return {};
  const timeval& start = info.kp_proc.p_starttime;
  return {true, int64_t{start.tv_sec} * 1'000'000 + start.tv_usec};
}

#else

namespace {

// /proc/PID/stat is "PID (NAME) STATE …", and NAME may hold blanks and brackets; see proc(5).
ProcessState parse_stat(const std::string& stat) {
  constexpr int kStartTime = 22;  // number of the field, from 1; STATE is field 3
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return {true, 0};
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  fields >> field;
  if (field == "Z" || field == "X") return {};
  for (int number = 4; number < kStartTime; ++number) fields >> field;
  int64_t start_id = 0;
  fields >> start_id;
  return {true, start_id};
}

}  // namespace

ProcessState process_state(int64_t pid) {
  if (pid <= 0 || pid > std::numeric_limits<pid_t>::max()) return {};
  try {
    return parse_stat(read_file("/proc/" + std::to_string(pid) + "/stat", ExitCode::kInternal));
  } catch (const Error&) {
    // Gone, or a system without /proc: only whether it exists can be told then.
    std::error_code ignored;
    if (std::filesystem::exists("/proc/self/stat", ignored)) return {};
    return {::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM, 0};
  }
}

#endif

}  // namespace xlstm
