// Watches memory from before the weights are loaded until the run ends, and keeps the file that --mem-log names.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/memory/memory_limits.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {

class MemLog;

struct MemorySources {
  std::unique_ptr<MemoryReader> host;              // nullptr: the system's
  std::function<DeviceSample()> device = nullptr;  // called on the guard's thread; empty: no device memory
};

// A thread looks every mem_poll_ms, the first time in the constructor:
//   soft line reached  the actions of mem_action: "warn" writes a line to the log, "empty_cache" calls
//                      request_empty_cache() (xlstm/core/cache_request.h). Once per crossing: again only after use was
//                      seen below the line.
//   hard line reached  a line in the log and request_stop(StopReason::kMemory) (xlstm/core/stop.h), once.
// With mem_watchdog false it watches nothing, with an empty mem_log it writes nothing; with both there is no thread.
//
// mem_log is a CSV file with the columns ts,rss_mb,rss_anon_mb,avail_mb,total_mb,device_alloc_mb,device_driver_mb:
// seconds since 1970, then megabytes (1e6 bytes); rss_anon_mb is HostMemory::used, total_mb the limit. A row at once,
// then every mem_every ms. The file appears at finish(), or at destruction when a run ends otherwise; after a row that
// could not be written it does not appear at all.
//
// Reads that fail are reported once and change nothing. All members may be called from any thread, but construction,
// finish() and destruction by one.
class MemoryGuard {
 public:
  // Error kOutput if mem_log cannot be created, kMemory if no thread can be started.
  explicit MemoryGuard(const RuntimeOpts& opts, MemorySources sources = {});
  ~MemoryGuard();
  MemoryGuard(const MemoryGuard&) = delete;
  MemoryGuard& operator=(const MemoryGuard&) = delete;

  // Ends the thread and puts mem_log in place. Error kOutput, also for a row that could not be written earlier.
  void finish();

  // The newest sample; nothing if there is no thread or every read failed.
  [[nodiscard]] std::optional<MemorySample> latest() const;

  // The process's lines in the newest sample, as far as they are watched.
  [[nodiscard]] GuardLines lines() const;

  // Why the hard line stopped the run, as the text of an Error: "memory (decode): expected below …, got …". Nothing if
  // it did not.
  [[nodiscard]] std::optional<std::string> stop_message() const;

 private:
  using Clock = std::chrono::steady_clock;

  void start();
  void loop();
  void look(Clock::time_point now);
  [[nodiscard]] bool read();
  void judge(const MemoryVerdict& verdict, bool on_device, bool& above);
  void stop_thread();

  GuardLimits limits_;
  bool watch_;
  bool warns_;
  bool empties_cache_;
  Clock::duration poll_interval_;
  Clock::duration row_interval_;
  MemorySources sources_;
  std::unique_ptr<MemLog> log_;

  // Of the constructor, then of the thread.
  Clock::time_point next_poll_;
  Clock::time_point next_row_;
  MemorySample sample_;
  bool host_above_ = false;
  bool device_above_ = false;
  bool host_failed_ = false;
  bool device_failed_ = false;
  bool stopped_run_ = false;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // guarded by mutex_, like the two below
  std::optional<MemorySample> latest_;
  std::optional<std::string> stop_message_;
  std::exception_ptr log_failure_;  // of the thread, read after it ended
  std::thread thread_;
};

}  // namespace xlstm
