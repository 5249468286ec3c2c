// Reads the status files of this user's running processes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "xlstm/monitor/run_record.h"

namespace xlstm {

struct RunningProcess {
  RunRecord record;
  double silent_s = 0;  // seconds since the record was written
};

// A process writes every two seconds; one that has not for so long is stopped or hangs.
inline constexpr double kSilentAfter = 10;  // seconds

// A record is dropped after this long if the system does not tell whether its process is still the same one.
inline constexpr double kForgetAfter = 60;  // seconds

struct Look {
  double time = 0;  // seconds since 1970
  std::vector<RunningProcess> processes;
  std::vector<std::string> problems;  // folders that could not be trusted or read
};

// Files of processes that are gone, or whose id now belongs to another process, are removed. Everything else in the
// folders (files of others, links, pipes, files that are too large or no records) is passed over.
[[nodiscard]] Look read_processes();  // the user's runtime folders
[[nodiscard]] Look read_processes(const std::vector<std::filesystem::path>& directories);

enum class SortKey { kPid, kModel, kPhase, kTokS, kMemory };
[[nodiscard]] SortKey parse_sort_key(
    std::string_view name);  // "pid", "model", "phase", "tok_s", "memory"; Error kUsage
[[nodiscard]] const char* sort_key_name(SortKey key);
[[nodiscard]] SortKey next_sort_key(SortKey key);

// Texts and ids upwards, phases in the order of a run, speed and memory (host and device) downwards; ties by id.
void sort_processes(std::vector<RunningProcess>& processes, SortKey key);

// Sends a signal to the process that wrote `record`, after making sure that its id still stands for it. Empty if it
// was sent, else the reason why not.
[[nodiscard]] std::string signal_process(const RunRecord& record, int signal);

}  // namespace xlstm
