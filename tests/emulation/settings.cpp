#include "settings.h"

#include <algorithm>

namespace xlstm::emulation {

std::string order_name(const Settings& settings) {
  switch (settings.order) {
    case Order::kForward: return "forward";
    case Order::kReversed: return "reversed";
    case Order::kShuffled: return "shuffled by seed " + std::to_string(settings.seed);
  }
  return "?";
}

std::string order_dependence(Settings& settings, const std::function<std::string()>& run) {
  const ScopedSettings saved(settings);
  settings.order = Order::kForward;
  const std::string expected = run();
  const auto compare = [&](const std::string& name) {
    const std::string got = run();
    const auto [a, b] = std::mismatch(expected.begin(), expected.end(), got.begin(), got.end());
    if (a == expected.end() && b == got.end()) return std::string();
    return name + " order differs from the forward one at byte " + std::to_string(a - expected.begin());
  };
  settings.order = Order::kReversed;
  std::string difference = compare("reversed");
  settings.order = Order::kShuffled;
  for (settings.seed = 1; difference.empty() && settings.seed <= 4; ++settings.seed) {
    difference = compare("shuffled (seed " + std::to_string(settings.seed) + ")");
  }
  return difference;
}

}  // namespace xlstm::emulation
