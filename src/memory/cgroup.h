// The memory limits of the control groups that this process is in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace xlstm {

// Where control groups keep a number; the file names differ between versions 1 and 2.
struct CgroupLevel {
  std::filesystem::path folder;
  bool version2 = true;
};

// The groups with a memory controller above and around this process, its own first, found through /proc/self/cgroup
// and /proc/self/mountinfo below `root`. In a container that sees its own group as the mount's root, or whose group's
// path lies outside the mount, that is the mount point alone.
[[nodiscard]] std::vector<CgroupLevel> find_cgroups(const std::filesystem::path& root);

struct CgroupRoom {
  uint64_t limit = 0;
  uint64_t available = 0;  // the limit less what the group's processes use and the kernel cannot take back
};
// The least of each over the groups; nothing if none has a limit.
[[nodiscard]] std::optional<CgroupRoom> cgroup_room(const std::vector<CgroupLevel>& levels);

}  // namespace xlstm
