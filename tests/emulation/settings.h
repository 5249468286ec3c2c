#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace xlstm::emulation {

// Of blocks, of warps between barriers, of lanes between functions of a warp. Metal calls them threadgroups and
// simdgroups.
enum class Order { kForward, kReversed, kShuffled };

struct Settings {
  Order order = Order::kShuffled;
  uint64_t seed = 1;  // of kShuffled
  int os_threads = 2;
};

// "forward", "reversed" or "shuffled by seed 1".
[[nodiscard]] std::string order_name(const Settings& settings);

// Puts settings back at the end of a scope.
template <class Settings>
class ScopedSettings {
 public:
  explicit ScopedSettings(Settings& settings) : settings_(settings), saved_(settings) {}
  ~ScopedSettings() { settings_ = saved_; }
  ScopedSettings(const ScopedSettings&) = delete;
  ScopedSettings& operator=(const ScopedSettings&) = delete;

 private:
  Settings& settings_;
  Settings saved_;
};

// Calls `run` in forward, reversed and some shuffled orders, which `settings` are set to, and returns what differs from
// the first result, bit by bit, or an empty string. `run` returns the bytes that it computed.
[[nodiscard]] std::string order_dependence(Settings& settings, const std::function<std::string()>& run);

}  // namespace xlstm::emulation
