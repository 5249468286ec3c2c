// Files that must not stay behind when a signal ends the process at once, without destructors.
#pragma once

#include <filesystem>

namespace xlstm {

// More than these at a time, in the whole process, are not covered.
inline constexpr int kMaxEmergencyFiles = 64;

// As long as it lives, remove_emergency_files() deletes `path`, a file or an empty directory; those registered later go
// first, so a directory is registered before the files in it. A path of more than 1023 bytes is not covered.
// Thread-safe.
class EmergencyFile {
 public:
  explicit EmergencyFile(const std::filesystem::path& path) noexcept;
  ~EmergencyFile();
  EmergencyFile(const EmergencyFile&) = delete;
  EmergencyFile& operator=(const EmergencyFile&) = delete;

 private:
  int slot_;
};

// Deletes them all. May be called from a signal handler, just before the process ends.
void remove_emergency_files() noexcept;

}  // namespace xlstm
