#include "xlstm/memory/memory_limits.h"

#include <algorithm>

#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr double kMegabyte = 1e6;

// Beyond 2^63 a conversion would not be defined; no memory is that large.
uint64_t to_bytes(double bytes) {
  return static_cast<uint64_t>(std::clamp(bytes, 0.0, 9e18));
}

uint64_t line_of(double megabytes, double share, uint64_t limit) {
  // A line of 0 bytes would read as none.
  if (megabytes > 0) return std::max<uint64_t>(1, to_bytes(megabytes * kMegabyte));
  return to_bytes(share * static_cast<double>(limit));
}

GuardLines ordered(GuardLines lines) {
  if (lines.hard > 0) lines.soft = std::min(lines.soft, lines.hard);
  return lines;
}

MemoryLevel level_of(const GuardLines& lines, uint64_t used) {
  if (lines.hard > 0 && used >= lines.hard) return MemoryLevel::kHard;
  if (lines.soft > 0 && used >= lines.soft) return MemoryLevel::kSoft;
  return MemoryLevel::kNone;
}

// Room below the hard line; unlimited if there is none.
uint64_t below(uint64_t line, uint64_t used) {
  return line == 0 ? UINT64_MAX : line - std::min(line, used);
}

// Where the two lines come from.
struct Origins {
  std::string soft;
  std::string hard;
};

std::string share_text(double share, const std::string& whole) {
  return cat(share * 100, "% of ", whole);
}

MemoryVerdict judge(const GuardLines& lines, uint64_t used, const Origins& origins) {
  const MemoryLevel level = level_of(lines, used);
  switch (level) {
    case MemoryLevel::kNone: return {level, used, 0, ""};
    case MemoryLevel::kSoft: return {level, used, lines.soft, origins.soft};
    case MemoryLevel::kHard: return {level, used, lines.hard, origins.hard};
  }
  return {};
}

}  // namespace

GuardLimits guard_limits(const RuntimeOpts& opts) {
  return {opts.mem_soft_pct, opts.mem_hard_pct, opts.mem_soft_mb, opts.mem_hard_mb};
}

GuardLines host_lines(const GuardLimits& limits, const HostMemory& host) {
  return ordered(
      {line_of(limits.soft_mb, limits.soft_share, host.limit), line_of(limits.hard_mb, limits.hard_share, host.limit)});
}

GuardLines device_lines(const GuardLimits& limits, const DeviceSample& device) {
  return ordered(
      {line_of(0, limits.soft_share, device.recommended), line_of(0, limits.hard_share, device.recommended)});
}

MemoryVerdict judge_host(const GuardLimits& limits, const HostMemory& host) {
  const std::string whole = cat(megabytes_text(host.limit), ", ", host.limit_name);
  return judge(host_lines(limits, host), host.used,
               {limits.soft_mb > 0 ? "mem_soft_mb" : share_text(limits.soft_share, whole),
                limits.hard_mb > 0 ? "mem_hard_mb" : share_text(limits.hard_share, whole)});
}

MemoryVerdict judge_device(const GuardLimits& limits, const DeviceSample& device) {
  const std::string whole = cat(megabytes_text(device.recommended), ", recommended by the device");
  return judge(device_lines(limits, device), device.driver,
               {share_text(limits.soft_share, whole), share_text(limits.hard_share, whole)});
}

MemoryRoom host_room(const HostMemory& host, const GuardLimits* limits) {
  const uint64_t guarded = limits == nullptr ? UINT64_MAX : below(host_lines(*limits, host).hard, host.used);
  if (guarded < host.available) return {guarded, "below the memory guard's hard limit"};
  const bool own_limit = !host.limit_name.empty() && host.limit_name != "machine";
  return {host.available, own_limit ? cat("available under the ", host.limit_name, " limit") : "available"};
}

MemoryRoom device_room(const DeviceSample& device, const GuardLimits* limits) {
  if (limits != nullptr) {
    return {below(device_lines(*limits, device).hard, device.driver), "below the memory guard's hard limit, device"};
  }
  return {below(device.recommended, device.driver), "recommended by the device"};
}

std::string megabytes_text(uint64_t bytes) {
  return cat(fixed(static_cast<double>(bytes) / kMegabyte, 1), " MB");
}

}  // namespace xlstm
