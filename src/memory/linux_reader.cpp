// make_system_reader() for Linux.
#if defined(__linux__)

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/memory/cgroup.h"
#include "src/memory/proc_text.h"
#include "xlstm/core/errors.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

std::string require_text(const fs::path& path) {
  std::optional<std::string> text = read_kernel_file(path);
  if (!text) fail(ExitCode::kMemory, "memory use", path.string(), "a readable file", "none");
  return std::move(*text);
}

// The soft limit in a line of /proc/self/limits: "Max data size   SOFT   HARD   bytes"; nothing for "unlimited".
std::optional<uint64_t> find_rlimit(std::string_view limits, std::string_view name) {
  std::optional<uint64_t> found;
  for_each_line(limits, [&](std::string_view line) {
    if (!line.starts_with(name)) return;
    const std::vector<std::string_view> words = words_of(line.substr(name.size()));
    if (!words.empty()) found = parse_count(words[0]);
  });
  return found;
}

class LinuxReader : public MemoryReader {
 public:
  explicit LinuxReader(const fs::path& root) : self_(root / "proc/self"), meminfo_(root / "proc/meminfo") {
    cgroups_ = find_cgroups(root);
  }

  HostMemory read() override {
    const std::string status = require_text(self_ / "status");
    const std::string meminfo = require_text(meminfo_);
    HostMemory memory;
    memory.resident = require_bytes(status, "VmRSS:", self_ / "status");
    const uint64_t in_memory = find_bytes(status, "RssAnon:").value_or(memory.resident);
    memory.used = in_memory + find_bytes(status, "RssShmem:").value_or(0) + find_bytes(status, "VmSwap:").value_or(0);
    memory.limit = require_bytes(meminfo, "MemTotal:", meminfo_);
    memory.limit_name = "machine";
    const auto free = find_bytes(meminfo, "MemFree:");
    memory.available = find_bytes(meminfo, "MemAvailable:").value_or(free.value_or(0));
    if (const auto room = cgroup_room(cgroups_)) restrict(memory, room->limit, room->available, "cgroup");
    restrict_virtual(memory, status);
    return memory;
  }

 private:
  static uint64_t require_bytes(std::string_view text, std::string_view key, const fs::path& path) {
    const auto bytes = find_bytes(text, key);
    if (!bytes) fail(ExitCode::kMemory, "memory use", path.string(), key, "no such line");
    return *bytes;
  }

  static void restrict(HostMemory& memory, uint64_t limit, uint64_t available, const char* name) {
    memory.available = std::min(memory.available, available);
    if (limit >= memory.limit) return;
    memory.limit = limit;
    memory.limit_name = name;
  }

  // RLIMIT_AS counts the whole address space (VmSize), RLIMIT_DATA private writable memory, touched or not (VmData).
  void restrict_virtual(HostMemory& memory, std::string_view status) const {
    const std::string limits = read_kernel_file(self_ / "limits").value_or("");
    const auto apply = [&](std::string_view line, std::string_view size_key, const char* name) {
      const auto limit = find_rlimit(limits, line);
      const auto size = find_bytes(status, size_key);
      if (!limit || !size) return;
      const uint64_t left = *limit - std::min(*limit, *size);
      if (left < memory.limit) restrict(memory, memory.used + left, left, name);
    };
    apply("Max address space", "VmSize:", "RLIMIT_AS");
    apply("Max data size", "VmData:", "RLIMIT_DATA");
  }

  fs::path self_;
  fs::path meminfo_;
  std::vector<CgroupLevel> cgroups_;
};

}  // namespace

std::unique_ptr<MemoryReader> make_system_reader(const fs::path& root) {
  return std::make_unique<LinuxReader>(root);
}

}  // namespace xlstm

#endif
