// In which order the blocks of a launch, the warps of a block and the lanes of a warp run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "settings.h"

namespace xlstm::emulation {

constexpr unsigned kLanes = 32;

// The numbers of `count` blocks.
[[nodiscard]] std::vector<uint32_t> ordered_blocks(const Settings& settings, size_t count);

// Of the warps and lanes.
class Turns {
 public:
  // For blocks of `warps` warps.
  void begin_launch(const Settings& settings, unsigned warps);
  // Lets what is random below depend on the settings and `number` only.
  void seed(uint32_t number);

  void order_warps();
  void order_lanes() { lane_order_ = lane_orders_used_ == 1 ? 0 : random_() % kLaneOrders; }
  // A number below that of the warps: 0 unless the order is random.
  [[nodiscard]] size_t skipped_warps() { return order_ == Order::kShuffled ? random_() % warps_.size() : 0; }

  // Whose turn number `turn` is.
  [[nodiscard]] unsigned warp(size_t turn) const { return warps_[turn]; }
  [[nodiscard]] unsigned lane(size_t turn) const { return lane_orders_[lane_order_][turn]; }

 private:
  static constexpr unsigned kLaneOrders = 16;

  Order order_ = Order::kForward;
  uint64_t seed_ = 0;
  std::minstd_rand random_;
  std::vector<uint16_t> warps_;
  std::array<std::array<uint8_t, kLanes>, kLaneOrders> lane_orders_{};
  unsigned lane_orders_used_ = 1;
  size_t lane_order_ = 0;
};

}  // namespace xlstm::emulation
