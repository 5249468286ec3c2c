// Tells `monitor` what this process is doing: a thread that writes core/run_status.h, speeds and memory to a status
// file, and removes it at the end. A run never fails because of it: what goes wrong is a debug message, and the run
// goes on unseen.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>

namespace xlstm {

// MB = 10^6 bytes; 0: not known, or no such line. The lines for the host are in RunDescription.
struct MemoryStatus {
  double rss_mb = 0;
  double anon_mb = 0;    // what the memory guard judges
  double device_mb = 0;  // allocated by the device's driver
  double device_soft_mb = 0;
  double device_hard_mb = 0;
};

struct PublisherOptions {
  std::function<MemoryStatus()> memory;  // called on the publisher's thread; none: zeros are shown
  std::filesystem::path directory{};     // to write into; empty: the user's runtime folder
};

// At most one at a time in a process. A look costs some ten microseconds, four times a second; the file is written if
// something has changed, and every two seconds as a sign of life.
class StatusPublisher {
 public:
  explicit StatusPublisher(PublisherOptions options = {});
  ~StatusPublisher();  // removes the file; so does remove_emergency_files()
  StatusPublisher(const StatusPublisher&) = delete;
  StatusPublisher& operator=(const StatusPublisher&) = delete;

  static constexpr std::chrono::milliseconds kLook{250};
  static constexpr std::chrono::milliseconds kSignOfLife{2000};

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;  // null: nothing is published
};

}  // namespace xlstm
