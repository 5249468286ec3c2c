#include "xlstm/monitor/reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "src/monitor/status_file.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/process.h"
#include "xlstm/monitor/runtime_dir.h"

namespace xlstm {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 10;

std::vector<std::string> names_in(const PrivateDirectory& directory, std::vector<std::string>& problems) {
  std::vector<std::string> names;
  // A descriptor of its own: closedir() closes it, and reading moves its position.
  const int fd = ::openat(directory.descriptor(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = fd < 0 ? nullptr : ::fdopendir(fd);
  if (stream == nullptr) {
    problems.push_back(cat(printable(directory.path().string(), 200), ": ", std::strerror(errno)));
    if (fd >= 0) ::close(fd);
    return names;
  }
  while (const dirent* entry = ::readdir(stream)) names.emplace_back(entry->d_name);
  ::closedir(stream);
  return names;
}

// A file of the folder, open: its text if it is a regular file of this user's of sensible size.
struct OpenedFile {
  std::string text;
  struct stat info {};
};

std::optional<OpenedFile> open_ours(const PrivateDirectory& directory, const std::string& name) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const int fd = ::openat(directory.descriptor(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  OpenedFile file;
  const bool ours = ::fstat(fd, &file.info) == 0 && S_ISREG(file.info.st_mode) && file.info.st_uid == ::geteuid() &&
                    file.info.st_size >= 0 && static_cast<uint64_t>(file.info.st_size) <= kMaxFileBytes;
  bool good = ours;
  std::array<char, 8192> block{};
  while (good) {
    const ssize_t n = ::read(fd, block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) break;
    good = n > 0 && file.text.size() + static_cast<size_t>(n) <= kMaxFileBytes;
    if (good) file.text.append(block.data(), static_cast<size_t>(n));
  }
  ::close(fd);
  if (!good) return std::nullopt;
  return file;
}

// Removes `name` unless it has been replaced since it was looked at.
void remove_stale(const PrivateDirectory& directory, const std::string& name, const struct stat& seen) {
  struct stat now {};
  if (::fstatat(directory.descriptor(), name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (now.st_dev == seen.st_dev && now.st_ino == seen.st_ino) ::unlinkat(directory.descriptor(), name.c_str(), 0);
}

void remove_orphan(const PrivateDirectory& directory, const std::string& name, int64_t pid) {
  struct stat info {};
  if (process_state(pid).alive) return;
  if (::fstatat(directory.descriptor(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (S_ISREG(info.st_mode) && info.st_uid == ::geteuid()) remove_stale(directory, name, info);
}

void read_file_of(const PrivateDirectory& directory, const std::string& name, int64_t pid, Look& look) {
  const std::optional<OpenedFile> file = open_ours(directory, name);
  if (!file) return;
  std::optional<RunRecord> record = parse_run_record(file->text);
  if (!record || record->pid != pid) return;
  const ProcessState state = process_state(pid);
  const double silent_s = std::max(0.0, look.time - record->written);
  const bool uncertain = state.start_id == 0 || record->start_id == 0;
  if (!is_same_process(state, record->start_id) || (uncertain && silent_s > kForgetAfter)) {
    remove_stale(directory, name, file->info);
    return;
  }
  look.processes.push_back({std::move(*record), silent_s});
}

void read_directory(const PrivateDirectory& directory, Look& look) {
  for (const std::string& name : names_in(directory, look.problems)) {
    if (const int64_t pid = pid_of_status_file(name); pid > 0) {
      read_file_of(directory, name, pid, look);
    } else if (const int64_t orphan = pid_of_temporary_file(name); orphan > 0) {
      remove_orphan(directory, name, orphan);
    }
  }
}

Look read_open(const std::vector<PrivateDirectory>& directories, std::vector<std::string> problems) {
  Look look;
  look.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  look.problems = std::move(problems);
  for (const PrivateDirectory& directory : directories) read_directory(directory, look);
  sort_processes(look.processes, SortKey::kPid);
  // A process that changed folders may be in both: its last word counts.
  std::stable_sort(look.processes.begin(), look.processes.end(), [](const RunningProcess& a, const RunningProcess& b) {
    return std::tuple(a.record.pid, -a.record.written) < std::tuple(b.record.pid, -b.record.written);
  });
  const auto same = [](const RunningProcess& a, const RunningProcess& b) { return a.record.pid == b.record.pid; };
  look.processes.erase(std::unique(look.processes.begin(), look.processes.end(), same), look.processes.end());
  return look;
}

constexpr std::array kSortKeys = {SortKey::kPid, SortKey::kModel, SortKey::kPhase, SortKey::kTokS, SortKey::kMemory};

size_t phase_rank(const std::string& phase) {
  static constexpr std::array kOrder = {RunPhase::kStarting, RunPhase::kLoad, RunPhase::kPrefill,
                                        RunPhase::kDecode,   RunPhase::kTune, RunPhase::kOther};
  const auto* found = std::find_if(kOrder.begin(), kOrder.end(), [&](RunPhase p) { return phase == phase_name(p); });
  return static_cast<size_t>(found - kOrder.begin());
}

}  // namespace

Look read_processes() {
  std::vector<std::string> problems;
  const std::vector<PrivateDirectory> directories = open_read_directories(runtime_places(), problems);
  return read_open(directories, std::move(problems));
}

Look read_processes(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> problems;
  std::vector<PrivateDirectory> directories;
  for (const std::filesystem::path& path : paths) {
    std::string why;
    if (auto directory = PrivateDirectory::open(path, false, why)) directories.push_back(std::move(*directory));
    if (!why.empty()) problems.push_back(why);
  }
  return read_open(directories, std::move(problems));
}

SortKey parse_sort_key(std::string_view name) {
  std::vector<std::string> names;
  for (const SortKey key : kSortKeys) {
    if (name == sort_key_name(key)) return key;
    names.emplace_back(sort_key_name(key));
  }
  fail(ExitCode::kUsage, "--sort", "command line", cat("one of ", join(names, ", ")), name);
}

const char* sort_key_name(SortKey key) {
  switch (key) {
    case SortKey::kPid: return "pid";
    case SortKey::kModel: return "model";
    case SortKey::kPhase: return "phase";
    case SortKey::kTokS: return "tok_s";
    case SortKey::kMemory: return "memory";
  }
  return "";
}

SortKey next_sort_key(SortKey key) {
  return kSortKeys[(static_cast<size_t>(key) + 1) % kSortKeys.size()];
}

void sort_processes(std::vector<RunningProcess>& processes, SortKey key) {
  std::sort(processes.begin(), processes.end(), [key](const RunningProcess& a, const RunningProcess& b) {
    const RunRecord& x = a.record;
    const RunRecord& y = b.record;
    switch (key) {
      case SortKey::kPid: break;
      case SortKey::kModel: return std::tie(x.model, x.pid) < std::tie(y.model, y.pid);
      case SortKey::kPhase: return std::tuple(phase_rank(x.phase), x.pid) < std::tuple(phase_rank(y.phase), y.pid);
      case SortKey::kTokS: return std::tuple(-x.tok_s, x.pid) < std::tuple(-y.tok_s, y.pid);
      case SortKey::kMemory:
        return std::tuple(-(x.rss_mb + x.device_mb), x.pid) < std::tuple(-(y.rss_mb + y.device_mb), y.pid);
    }
    return x.pid < y.pid;
  });
}

std::string signal_process(const RunRecord& record, int signal) {
  if (!is_same_process(process_state(record.pid), record.start_id)) return "it has ended";
  if (::kill(static_cast<pid_t>(record.pid), signal) != 0) return std::strerror(errno);
  return "";
}

}  // namespace xlstm
