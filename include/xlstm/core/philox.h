// Philox4x32-10, a counter-based random number generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC11): each draw is a pure function of a counter and a key, so any draw can be repeated anywhere without a state.
#pragma once

#include <array>
#include <cstdint>

namespace xlstm {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Four uniform 32-bit words.
[[nodiscard]] constexpr PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
  constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// A uniform number in [0, 1), a multiple of 2^-53, for one position of one sequence under a seed.
[[nodiscard]] constexpr double philox_uniform(uint64_t seed, uint64_t sequence, uint64_t position) {
  const auto low = [](uint64_t word) { return static_cast<uint32_t>(word); };
  const auto high = [](uint64_t word) { return static_cast<uint32_t>(word >> 32); };
  const PhiloxCounter words =
      philox4x32({low(position), high(position), low(sequence), high(sequence)}, {low(seed), high(seed)});
  const uint64_t bits = static_cast<uint64_t>(words[1]) << 32 | words[0];
  constexpr double kScale = 0x1.0p-53;
  return static_cast<double>(bits >> 11) * kScale;
}

}  // namespace xlstm
