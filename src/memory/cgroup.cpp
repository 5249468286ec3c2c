#include "src/memory/cgroup.h"

#include <algorithm>
#include <string>

#include "src/memory/proc_text.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

// A mounted hierarchy that may hold a memory controller.
struct Mount {
  fs::path group;  // the group that the mount point shows
  fs::path point;
  bool version2 = true;
};

bool has_word(std::string_view list, std::string_view word) {
  while (true) {
    const size_t comma = list.find(',');
    if (list.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t k) { return i + k < text.size() && text[i + k] >= '0' && text[i + k] <= '7'; };
    if (text[i] == '\\' && digit(1) && digit(2) && digit(3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Lines are "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE SUPER_OPTIONS".
std::vector<Mount> find_mounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  for_each_line(mountinfo, [&](std::string_view line) {
    const std::vector<std::string_view> words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 4) return;
    const std::string_view type = dash[1];
    const bool version2 = type == "cgroup2";
    if (!version2 && !(type == "cgroup" && has_word(dash[3], "memory"))) return;
    mounts.push_back({unescape(words[3]), unescape(words[4]), version2});
  });
  return mounts;
}

// The process's group in a hierarchy; lines are "ID:CONTROLLERS:PATH", version 2 has the ID 0 and no controllers.
std::optional<fs::path> find_group(std::string_view cgroup, bool version2) {
  std::optional<fs::path> found;
  for_each_line(cgroup, [&](std::string_view line) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) return;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool right = version2 ? line.substr(0, first) == "0" && controllers.empty() : has_word(controllers, "memory");
    if (right) found = fs::path(line.substr(second + 1));
  });
  return found;
}

// From the group's folder up to the mount point.
void add_levels(const Mount& mount, const fs::path& group, const fs::path& root, std::vector<CgroupLevel>& levels) {
  const fs::path point = root / mount.point.relative_path();
  const fs::path relative = group.lexically_relative(mount.group);
  const bool inside = !relative.empty() && *relative.begin() != ".." && group.native().find("/..") == std::string::npos;
  for (fs::path below = inside ? relative : fs::path("."); !below.empty() && below != ".";
       below = below.parent_path()) {
    levels.push_back({point / below, mount.version2});
  }
  levels.push_back({point, mount.version2});
}

// Pages of files that were read, which the kernel takes back before it kills anything. Files in shared memory are
// among the anonymous pages here.
uint64_t reclaimable(const CgroupLevel& level) {
  const std::string stat = read_kernel_file(level.folder / "memory.stat").value_or("");
  const std::string prefix = level.version2 ? "" : "total_";
  uint64_t total = 0;
  for (const char* key : {"inactive_file", "active_file"}) total += find_bytes(stat, prefix + key).value_or(0);
  if (level.version2) total += find_bytes(stat, "slab_reclaimable").value_or(0);
  return total;
}

std::optional<uint64_t> read_count(const fs::path& path) {
  const std::optional<std::string> text = read_kernel_file(path);
  if (!text) return std::nullopt;
  const std::vector<std::string_view> words = words_of(*text);
  return words.size() == 1 ? parse_count(words[0]) : std::nullopt;
}

}  // namespace

std::vector<CgroupLevel> find_cgroups(const fs::path& root) {
  const std::string cgroup = read_kernel_file(root / "proc/self/cgroup").value_or("");
  const std::string mountinfo = read_kernel_file(root / "proc/self/mountinfo").value_or("");
  std::vector<CgroupLevel> levels;
  for (const Mount& mount : find_mounts(mountinfo)) {
    if (const auto group = find_group(cgroup, mount.version2)) add_levels(mount, *group, root, levels);
  }
  return levels;
}

std::optional<CgroupRoom> cgroup_room(const std::vector<CgroupLevel>& levels) {
  // Version 1 writes "none" as the largest number of whole pages.
  constexpr uint64_t kUnlimited = uint64_t{1} << 62;
  std::optional<CgroupRoom> room;
  for (const CgroupLevel& level : levels) {
    const auto limit = read_count(level.folder / (level.version2 ? "memory.max" : "memory.limit_in_bytes"));
    if (!limit || *limit >= kUnlimited) continue;
    const uint64_t current =
        read_count(level.folder / (level.version2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
    const uint64_t unreclaimable = current - std::min(current, reclaimable(level));
    const uint64_t available = *limit - std::min(*limit, unreclaimable);
    if (!room) room = CgroupRoom{*limit, available};
    room->limit = std::min(room->limit, *limit);
    room->available = std::min(room->available, available);
  }
  return room;
}

}  // namespace xlstm
