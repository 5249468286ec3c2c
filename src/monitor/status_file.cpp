#include "src/monitor/status_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr std::string_view kSuffix = ".json";
constexpr std::string_view kTemporarySuffix = ".tmp";

int64_t parse_pid(std::string_view digits) {
  int64_t pid = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, pid);
  const bool good = error == std::errc() && stop == end && pid > 0 && pid <= std::numeric_limits<pid_t>::max();
  // Leading zeros would let two names stand for one process.
  return good && digits.front() != '0' ? pid : 0;
}

int64_t pid_between(std::string_view name, std::string_view prefix, std::string_view suffix) {
  if (name.size() <= prefix.size() + suffix.size() || !name.starts_with(prefix) || !name.ends_with(suffix)) return 0;
  name.remove_prefix(prefix.size());
  name.remove_suffix(suffix.size());
  return parse_pid(name);
}

bool write_whole(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

std::string status_file_name(int64_t pid) {
  return cat(pid, kSuffix);
}
std::string temporary_file_name(int64_t pid) {
  return cat('.', pid, kTemporarySuffix);
}
int64_t pid_of_status_file(const std::string& name) {
  return pid_between(name, "", kSuffix);
}
int64_t pid_of_temporary_file(const std::string& name) {
  return pid_between(name, ".", kTemporarySuffix);
}

bool write_status_file(const PrivateDirectory& directory, const RunRecord& record) {
  // Paths need not be UTF-8; JSON must.
  const std::string text = to_json(record).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const std::string temporary = temporary_file_name(record.pid);
  const int folder = directory.descriptor();
  // O_TRUNC without O_EXCL: a temporary of a process that died and had our id is ours to use.
  const int fd = ::openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                          S_IRUSR | S_IWUSR);
  if (fd < 0) return false;
  const bool written = write_whole(fd, text);
  const bool closed = ::close(fd) == 0;
  if (written && closed && ::renameat(folder, temporary.c_str(), folder, status_file_name(record.pid).c_str()) == 0) {
    return true;
  }
  const int error = errno;
  ::unlinkat(folder, temporary.c_str(), 0);
  errno = error;
  return false;
}

void remove_status_file(const PrivateDirectory& directory, int64_t pid) {
  ::unlinkat(directory.descriptor(), temporary_file_name(pid).c_str(), 0);
  ::unlinkat(directory.descriptor(), status_file_name(pid).c_str(), 0);
}

}  // namespace xlstm
