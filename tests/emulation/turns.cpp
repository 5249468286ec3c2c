#include "turns.h"

#include <algorithm>
#include <numeric>

namespace xlstm::emulation {
namespace {

template <class Numbers>
void put_in_order(Numbers& numbers, Order order, std::minstd_rand& random) {
  std::iota(numbers.begin(), numbers.end(), typename Numbers::value_type{0});
  if (order == Order::kReversed) std::reverse(numbers.begin(), numbers.end());
  if (order == Order::kShuffled) std::shuffle(numbers.begin(), numbers.end(), random);
}

}  // namespace

std::vector<uint32_t> ordered_blocks(const Settings& settings, size_t count) {
  std::vector<uint32_t> blocks(count);
  std::minstd_rand random(static_cast<unsigned>(settings.seed));
  put_in_order(blocks, settings.order, random);
  return blocks;
}

void Turns::begin_launch(const Settings& settings, unsigned warps) {
  order_ = settings.order;
  seed_ = settings.seed;
  warps_.resize(warps);
  seed(0);
  lane_orders_used_ = order_ == Order::kShuffled ? kLaneOrders : 1;
  for (unsigned i = 0; i < lane_orders_used_; ++i) put_in_order(lane_orders_[i], order_, random_);
}

void Turns::seed(uint32_t number) {
  random_.seed(static_cast<unsigned>(seed_ * 2654435761U + number * 40503U + 1));
}

void Turns::order_warps() {
  put_in_order(warps_, order_, random_);
}

}  // namespace xlstm::emulation
