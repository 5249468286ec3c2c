// The order of one head's tiles that run beside each other: each waits for what the one before it hands on.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/tile.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm::cpu {

// A head's stabiliser m depends on the gates alone, so it runs ahead of C and n. Positions are tokens of the span:
// what was passed at token t holds all tokens before t. Any number of threads; each tile passes both, in token order.
class alignas(64) HeadChain {
 public:
  // The state before token 0; not beside other calls.
  void reset(float m) {
    m_ = m;
    m_at_.store(0, std::memory_order_relaxed);
    state_at_.store(0, std::memory_order_relaxed);
  }

  // m before `token`, once it is known. Until pass_m() nobody else gets it.
  [[nodiscard]] float wait_for_m(int64_t token) {
    wait_for(m_at_, token);
    return m_;
  }
  void pass_m(int64_t token, float m) {
    m_ = m;
    pass(m_at_, token);
  }

  // True if C and n in memory are those before `token`, and so belong to the tile that begins there.
  [[nodiscard]] bool has_state(int64_t token) const { return state_at_.load(std::memory_order_acquire) == token; }
  void wait_for_state(int64_t token) { wait_for(state_at_, token); }
  void pass_state(int64_t token) { pass(state_at_, token); }

  // True if the tile that begins at `token` has begun, and will soon wait for the state.
  [[nodiscard]] bool is_followed(int64_t token) const { return m_at_.load(std::memory_order_relaxed) > token; }

  // A tile failed: who waits, or comes later, gets EarlierTileFailed.
  void give_up() {
    for (std::atomic<int64_t>* position : {&m_at_, &state_at_}) {
      position->store(kGivenUp);
      position->notify_all();
    }
  }

 private:
  static constexpr int64_t kGivenUp = -1;
  static constexpr int kSpins = 1000;  // some ten microseconds: what a tile of a few dozen tokens takes

  static void wait_for(std::atomic<int64_t>& position, int64_t token) {
    for (int spin = 0; spin < kSpins && position.load(std::memory_order_acquire) != token; ++spin) cpu_relax();
    for (int64_t at = position.load(); at != token; at = position.load()) {
      if (at == kGivenUp) throw EarlierTileFailed{};
      position.wait(at);
    }
  }
  static void pass(std::atomic<int64_t>& position, int64_t token) {
    int64_t at = position.load();
    if (at != kGivenUp && position.compare_exchange_strong(at, token)) position.notify_all();
  }

  std::atomic<int64_t> m_at_{0};
  std::atomic<int64_t> state_at_{0};
  float m_ = 0;  // before token m_at_
};

}  // namespace xlstm::cpu
