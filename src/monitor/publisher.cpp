#include "xlstm/monitor/publisher.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "src/monitor/rate_meter.h"
#include "src/monitor/status_file.h"
#include "xlstm/core/emergency_files.h"
#include "xlstm/core/log.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/str.h"
#include "xlstm/core/version.h"
#include "xlstm/monitor/process.h"
#include "xlstm/monitor/runtime_dir.h"

namespace xlstm {
namespace {

std::optional<PrivateDirectory> open_directory(const PublisherOptions& options, std::string& why) {
  if (options.directory.empty()) return open_publish_directory(runtime_places(), why);
  return PrivateDirectory::open(options.directory, true, why);
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void debug_quietly(const std::string& message) noexcept {
  try {
    log::debug(message);
  } catch (const std::exception&) {  // the log file is full: whoever logs something that matters will say so
  }
}

}  // namespace

class StatusPublisher::Impl {
 public:
  Impl(PublisherOptions options, PrivateDirectory directory)
      : options_(std::move(options)), directory_(std::move(directory)), pid_(::getpid()) {
    start_id_ = process_state(pid_).start_id;
    started_ = unix_time();
    cover_emergencies();
    // Signals are for the threads that wait for them, not for this one.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([this] { work(); });
    } catch (const std::exception&) {
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_one();
    thread_.join();
    remove_status_file(directory_, pid_);
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      lock.unlock();
      look();
      lock.lock();
      wake_.wait_for(lock, kLook, [this] { return ending_; });
    }
  }

  void look() noexcept {
    try {
      RunRecord record = describe();
      const auto now = std::chrono::steady_clock::now();
      const double phase_s = std::exchange(record.phase_s, 0);  // always another
      if (record == last_ && now - last_written_ < kSignOfLife) return;
      last_ = record;
      last_written_ = now;
      record.phase_s = phase_s;
      record.written = unix_time();
      publish(record);
    } catch (const std::exception& error) {
      complain(error.what());
    }
  }

  [[nodiscard]] RunRecord describe() {
    RunRecord record;
    record.pid = pid_;
    record.start_id = start_id_;
    record.started = started_;
    record.version = version();
    RunDescription text = run_description();
    record.command = std::move(text.command);
    record.model = std::move(text.model);
    record.device = std::move(text.device);
    record.dtype = std::move(text.dtype);
    record.kernel = std::move(text.kernel);
    record.profile = std::move(text.profile);
    record.soft_mb = text.soft_mb;
    record.hard_mb = text.hard_mb;
    const RunCounters& counters = run_counters();
    const RunPhase phase = counters.phase.load(std::memory_order_relaxed);
    record.phase = phase_name(phase);
    record.done = counters.done.load(std::memory_order_relaxed);
    record.total = counters.total.load(std::memory_order_relaxed);
    record.prompt_tokens = counters.prompt_tokens.load(std::memory_order_relaxed);
    record.decoded_tokens = counters.decoded_tokens.load(std::memory_order_relaxed);
    const double time = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    const RateMeter::Rates rates = rate_.add(time, phase, record.prompt_tokens + record.decoded_tokens);
    record.tok_s = rates.now;
    record.tok_s_phase = rates.phase;
    record.phase_s = rates.phase_s;
    if (options_.memory) {
      const MemoryStatus memory = options_.memory();
      record.rss_mb = memory.rss_mb;
      record.anon_mb = memory.anon_mb;
      record.device_mb = memory.device_mb;
      record.device_soft_mb = memory.device_soft_mb;
      record.device_hard_mb = memory.device_hard_mb;
    }
    return record;
  }

  void publish(const RunRecord& record) {
    if (write_status_file(directory_, record)) return;
    const std::string reason = std::strerror(errno);
    // The folder may have been cleaned away. If there is a new one, the next look uses it.
    std::string why;
    if (auto directory = open_directory(options_, why)) {
      directory_ = std::move(*directory);
      cover_emergencies();
    }
    complain(reason);
  }

  // A signal that ends the process at once takes the files along.
  void cover_emergencies() {
    file_.emplace(directory_.path() / status_file_name(pid_));
    temporary_.emplace(directory_.path() / temporary_file_name(pid_));
  }

  void complain(const std::string& reason) noexcept {
    if (std::exchange(complained_, true)) return;
    debug_quietly(cat("the status file could not be written (", directory_.path().string(), "): ", reason));
  }

  const PublisherOptions options_;
  PrivateDirectory directory_;
  const int64_t pid_;
  int64_t start_id_ = 0;
  double started_ = 0;
  std::optional<EmergencyFile> file_;
  std::optional<EmergencyFile> temporary_;
  RateMeter rate_;
  RunRecord last_;
  std::chrono::steady_clock::time_point last_written_{};
  bool complained_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses all of the above
};

StatusPublisher::StatusPublisher(PublisherOptions options) {
  try {
    std::string why;
    auto directory = open_directory(options, why);
    if (!directory) {
      debug_quietly(cat("this run is not shown by monitor: ", why));
      return;
    }
    impl_ = std::make_unique<Impl>(std::move(options), std::move(*directory));
  } catch (const std::exception& error) {
    debug_quietly(cat("this run is not shown by monitor: ", error.what()));
  }
}

StatusPublisher::~StatusPublisher() = default;

}  // namespace xlstm
