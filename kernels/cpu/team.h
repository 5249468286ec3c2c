// Ways of spreading work over the thread pool that allocate nothing per call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "xlstm/core/thread_pool.h"

namespace xlstm::cpu {

// job(member) on every member. The function object is passed by reference: std::function would copy larger ones to the
// heap.
template <class Job>
void run_on_team(ThreadPool& pool, const Job& job) {
  pool.run(std::cref(job));
}

struct Share {
  int64_t begin = 0;
  int64_t end = 0;
};

// The member's share of `count` equal units; consecutive members get consecutive units.
[[nodiscard]] inline Share share_of(int64_t count, int member, int team) {
  return {count * member / team, count * (member + 1) / team};
}

// unit(index) for every index in [0, count), the same indices on the same member in every call, so that what they touch
// stays in that member's caches.
template <class Unit>
void for_each_static(ThreadPool& pool, int64_t count, const Unit& unit) {
  if (count == 1) return unit(0);
  run_on_team(pool, [&](int member) {
    const Share share = share_of(count, member, pool.size());
    for (int64_t index = share.begin; index < share.end; ++index) unit(index);
  });
}

// unit(index) for every index in [0, count), begun in order, by whichever member is free: for units of unequal cost.
template <class Unit>
void for_each_dynamic(ThreadPool& pool, int64_t count, const Unit& unit) {
  if (count == 1) return unit(0);
  std::atomic<int64_t> next{0};
  run_on_team(pool, [&](int) {
    for (int64_t index = next.fetch_add(1); index < count; index = next.fetch_add(1)) unit(index);
  });
}

}  // namespace xlstm::cpu
