#include "xlstm/memory/memory_guard.h"

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "src/memory/mem_log.h"
#include "xlstm/core/cache_request.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// Longer intervals than a run will last would overflow the clock's type.
std::chrono::steady_clock::duration interval_of(int64_t milliseconds) {
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24);
  return std::min(std::chrono::milliseconds(milliseconds), kLongest);
}

bool names(const std::string& actions, const std::string& action) {
  return ("," + actions + ",").find("," + action + ",") != std::string::npos;
}

// A log file that cannot be written is reported by the run's own messages; here it must not end the process.
template <class Write>
void try_log(const Write& write) noexcept {
  try {
    write();
  } catch (const std::exception&) {
  }
}

}  // namespace

MemoryGuard::MemoryGuard(const RuntimeOpts& opts, MemorySources sources)
    : limits_(guard_limits(opts)),
      watch_(opts.mem_watchdog),
      warns_(names(opts.mem_action, "warn")),
      empties_cache_(names(opts.mem_action, "empty_cache")),
      poll_interval_(interval_of(opts.mem_poll_ms)),
      row_interval_(interval_of(opts.mem_every)),
      sources_(std::move(sources)) {
  if (!opts.mem_log.empty()) log_ = std::make_unique<MemLog>(opts.mem_log);
  if (!watch_ && !log_) return;
  if (!sources_.host) sources_.host = make_system_reader();
  next_poll_ = next_row_ = Clock::now();
  // The first look comes before anything the caller does next.
  look(next_poll_);
  start();
}

MemoryGuard::~MemoryGuard() {
  try {
    finish();
  } catch (const std::exception& error) {
    try_log([&] { log::warn(error.what()); });
  }
}

void MemoryGuard::start() {
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (const std::system_error& error) {
    fail(ExitCode::kMemory, "threads", "memory guard", "room for one more", error.what());
  }
}

void MemoryGuard::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    const Clock::time_point next = !log_ ? next_poll_ : !watch_ ? next_row_ : std::min(next_poll_, next_row_);
    if (wake_.wait_until(lock, next, [this] { return stopping_; })) return;
    lock.unlock();
    try {
      look(Clock::now());
    } catch (const std::bad_alloc&) {
      // No memory left for the texts of this look; the next one tries again.
    }
    lock.lock();
  }
}

void MemoryGuard::look(Clock::time_point now) {
  const bool poll = watch_ && now >= next_poll_;
  const bool row = log_ && now >= next_row_;
  // From now, not from the appointed time: a process that was suspended does not catch up.
  if (poll) next_poll_ = now + poll_interval_;
  if (row) next_row_ = now + row_interval_;
  if (!read()) return;
  if (poll) {
    judge(judge_host(limits_, sample_.host), false, host_above_);
    judge(judge_device(limits_, sample_.device), true, device_above_);
  }
  if (!row) return;
  try {
    log_->add(std::chrono::system_clock::now(), sample_);
  } catch (...) {
    log_failure_ = std::current_exception();
  }
}

bool MemoryGuard::read() {
  const auto report = [](bool& failed, const char* what, const char* why) {
    if (!std::exchange(failed, true))
      try_log([&] { log::warn(cat("memory of the ", what, " cannot be read: ", why)); });
  };
  try {
    sample_.host = sources_.host->read();
  } catch (const std::exception& error) {
    report(host_failed_, "process", error.what());
    return false;
  }
  try {
    if (sources_.device) sample_.device = sources_.device();
  } catch (const std::exception& error) {
    report(device_failed_, "device", error.what());
    sample_.device = {};
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  latest_ = sample_;
  return true;
}

void MemoryGuard::judge(const MemoryVerdict& verdict, bool on_device, bool& above) {
  const bool was_above = std::exchange(above, verdict.level != MemoryLevel::kNone);
  if (verdict.level == MemoryLevel::kNone || stopped_run_) return;
  const char* what = on_device ? "device memory" : "memory";
  const std::string used = megabytes_text(verdict.used);
  const std::string line = cat(megabytes_text(verdict.line), " (", verdict.origin, ")");
  if (verdict.level == MemoryLevel::kSoft) {
    if (was_above) return;
    if (warns_) try_log([&] { log::warn(cat(what, ": ", used, " used, the soft limit is ", line)); });
    if (empties_cache_) request_empty_cache();
    return;
  }
  // First of all: what follows needs memory, which may be gone.
  stopped_run_ = true;
  request_stop(StopReason::kMemory);
  std::string message = format_error(what, phase_name(run_counters().phase.load()),
                                     cat("less than the hard limit of ", line), cat(used, " used"));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_message_ = std::move(message);
  }
  try_log([&] { log::warn(cat(what, ": ", used, " used, the hard limit is ", line, ": the run stops")); });
}

void MemoryGuard::stop_thread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MemoryGuard::finish() {
  stop_thread();
  if (log_failure_) std::rethrow_exception(std::exchange(log_failure_, nullptr));
  if (log_) log_->commit();
}

std::optional<MemorySample> MemoryGuard::latest() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return latest_;
}

GuardLines MemoryGuard::lines() const {
  const std::optional<MemorySample> sample = latest();
  return watch_ && sample ? host_lines(limits_, sample->host) : GuardLines{};
}

std::optional<std::string> MemoryGuard::stop_message() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stop_message_;
}

}  // namespace xlstm
