#include "src/memory/mem_log.h"

#include <cstdint>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

std::string megabytes(uint64_t bytes) {
  return fixed(static_cast<double>(bytes) / 1e6, 3);
}

}  // namespace

MemLog::MemLog(const std::string& path) {
  file_.emplace(path);
  or_drop([&] { file_->write("ts,rss_mb,rss_anon_mb,avail_mb,total_mb,device_alloc_mb,device_driver_mb\n"); });
}

void MemLog::add(std::chrono::system_clock::time_point time, const MemorySample& sample) {
  if (!file_) return;
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const HostMemory& host = sample.host;
  const std::string row = cat(fixed(static_cast<double>(ms) / 1e3, 3), ",", megabytes(host.resident), ",",
                              megabytes(host.used), ",", megabytes(host.available), ",", megabytes(host.limit), ",",
                              megabytes(sample.device.allocated), ",", megabytes(sample.device.driver), "\n");
  or_drop([&] { file_->write(row); });
}

void MemLog::commit() {
  if (!file_) return;
  or_drop([&] { file_->commit(); });
  file_.reset();
}

}  // namespace xlstm
