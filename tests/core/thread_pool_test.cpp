#include "xlstm/core/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using test::expect_error;

struct Range {
  int64_t begin;
  int64_t end;
  int member;
};

std::vector<Range> split(ThreadPool& pool, int64_t count, int64_t grain) {
  std::vector<std::vector<Range>> by_member(static_cast<size_t>(pool.size()));
  pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int member) {
    by_member[static_cast<size_t>(member)].push_back({begin, end, member});
  });
  std::vector<Range> all;
  for (const auto& ranges : by_member) all.insert(all.end(), ranges.begin(), ranges.end());
  return all;
}

TEST(ThreadPool, EveryMembersPartRunsOnceAndMembersRunBesideEachOther) {
  for (const int size : {1, 2, 3, 8}) {
    SCOPED_TRACE(size);
    ThreadPool pool(size);
    EXPECT_EQ(pool.size(), size);
    std::vector<int> calls(static_cast<size_t>(size), 0);
    std::vector<std::thread::id> threads(static_cast<size_t>(size));
    std::atomic<int> begun{0};
    pool.run([&](int member) {
      ++calls[static_cast<size_t>(member)];
      threads[static_cast<size_t>(member)] = std::this_thread::get_id();
      // Nobody ends before all have begun, so the caller cannot do a worker's part.
      ++begun;
      while (begun < size) std::this_thread::yield();
    });
    EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(size), 1));
    EXPECT_EQ(threads[0], std::this_thread::get_id()) << "member 0 is the caller";
    EXPECT_EQ(std::set<std::thread::id>(threads.begin(), threads.end()).size(), static_cast<size_t>(size));
  }
}

TEST(ThreadPool, TheCallerDoesThePartsOfWorkersThatAreStuck) {
  std::atomic<bool> release{false};
  std::atomic<int> stuck{0};
  const auto caller = std::this_thread::get_id();
  std::vector<std::thread::id> threads(3);
  {
    // Both workers are held up before they can look for work.
    ThreadPool pool(3, [&] {
      ++stuck;
      while (!release) std::this_thread::yield();
    });
    pool.run([&](int member) { threads[static_cast<size_t>(member)] = std::this_thread::get_id(); });
    release = true;
  }
  EXPECT_EQ(threads, (std::vector<std::thread::id>{caller, caller, caller}));
}

TEST(ThreadPool, ASizeBelowOneIsTheCallerAlone) {
  for (const int size : {0, -3}) {
    ThreadPool pool(size);
    EXPECT_EQ(pool.size(), 1);
    int calls = 0;
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, 1);
  }
}

TEST(ThreadPool, OnStartRunsOncePerWorkerAndNotOnTheCaller) {
  std::atomic<int> starts{0};
  std::atomic<bool> on_caller{false};
  const auto caller = std::this_thread::get_id();
  {
    ThreadPool pool(4, [&] {
      ++starts;
      if (std::this_thread::get_id() == caller) on_caller = true;
    });
    pool.run([](int) {});
    pool.run([](int) {});
  }
  EXPECT_EQ(starts, 3);
  EXPECT_FALSE(on_caller);
}

TEST(ThreadPool, RunReturnsOnlyWhenAllMembersAreDone) {
  ThreadPool pool(3);
  for (int slow = 0; slow < 3; ++slow) {
    std::atomic<int> done{0};
    pool.run([&](int member) {
      if (member == slow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ++done;
    });
    EXPECT_EQ(done, 3) << "slow member " << slow;
  }
}

TEST(ThreadPool, WhatOneJobWroteTheNextOneSeesOnEveryMember) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 0);
  for (int round = 0; round < 2000; ++round) {
    // Each round every element is written by a different member than before.
    pool.run([&](int member) {
      for (size_t i = 0; i < values.size(); ++i) {
        if ((static_cast<int>(i) + round) % 4 == member) ++values[i];
      }
    });
  }
  EXPECT_EQ(values, std::vector<int64_t>(64, 2000));
}

TEST(ThreadPool, ManyRapidJobsWithPausesLoseNoWakeUp) {
  ThreadPool pool(2);
  std::atomic<int64_t> calls{0};
  for (int job = 0; job < 20'000; ++job) {
    pool.run([&](int) { calls.fetch_add(1, std::memory_order_relaxed); });
    if (job % 4000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers fall asleep
  }
  EXPECT_EQ(calls, 40'000);
}

TEST(ThreadPool, MoreThreadsThanCoresFinish) {
  ThreadPool pool(available_cores() * 8);
  std::atomic<int64_t> calls{0};
  for (int job = 0; job < 200; ++job) pool.run([&](int) { ++calls; });
  EXPECT_EQ(calls, int64_t{200} * pool.size());
}

TEST(ThreadPool, AnExceptionOfAnyMemberReachesTheCallerAfterAllAreDone) {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    SCOPED_TRACE(thrower);
    std::atomic<int> done{0};
    try {
      pool.run([&](int member) {
        if (member == thrower) throw std::runtime_error("member " + std::to_string(member));
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ++done;
      });
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "member " + std::to_string(thrower));
    }
    EXPECT_EQ(done, 2);
  }
}

TEST(ThreadPool, WorksOnAfterAnException) {
  for (const int size : {1, 3}) {
    ThreadPool pool(size);
    EXPECT_THROW(pool.run([](int) { throw std::logic_error("all throw"); }), std::logic_error);
    std::atomic<int> calls{0};
    EXPECT_NO_THROW(pool.run([&](int) { ++calls; }));
    EXPECT_EQ(calls, size);
  }
}

TEST(ThreadPool, AJobInsideAJobIsAnInternalErrorAndNotADeadlock) {
  ThreadPool pool(2);
  expect_error([&] { pool.run([&](int) { pool.run([](int) {}); }); }, ExitCode::kInternal, {"thread_pool.cpp"});
  std::atomic<int> calls{0};
  pool.run([&](int) { ++calls; });
  EXPECT_EQ(calls, 2);
}

TEST(ThreadPoolStart, JobsAreInOrderOnEveryMember) {
  for (const int size : {1, 2, 4}) {
    SCOPED_TRACE(size);
    ThreadPool pool(size);
    std::vector<int64_t> values(64, 0);
    bool as_left = true;
    std::atomic<bool> in_order{true};
    for (int round = 0; round < 6000; ++round) {
      // Each round a member reads what all wrote in the one before, and writes what another one wrote.
      pool.start([&values, &in_order, round, size](int member) {
        for (size_t i = 0; i < values.size(); ++i) {
          if ((static_cast<int>(i) + round) % size != member) continue;
          if (values[i] != round) in_order = false;
          ++values[i];
        }
      });
      if (round % 1500 == 7) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers fall asleep
      if (round % 100 != 99) continue;
      pool.join();
      as_left = as_left && values == std::vector<int64_t>(64, round + 1);
    }
    EXPECT_TRUE(in_order);
    EXPECT_TRUE(as_left) << "join() returned early";
  }
}

TEST(ThreadPoolStart, TheCallerGoesOnBesideAWorkersPart) {
  ThreadPool pool(2);
  std::atomic<bool> begun{false};
  std::atomic<bool> release{false};
  std::atomic<int> done{0};
  pool.start([&begun, &release, &done](int member) {
    if (member == 1) begun = true;
    while (!begun) std::this_thread::yield();
    while (member == 1 && !release) std::this_thread::yield();
    ++done;
  });
  EXPECT_EQ(done, 1);
  release = true;
  pool.join();
  EXPECT_EQ(done, 2);
}

TEST(ThreadPoolStart, RunAndOtherTeamsOnTheSameThreadsComeAfterAStartedJob) {
  ThreadPool host(3);
  ThreadPool larger(host, 5);
  ThreadPool alone(host, 1);
  for (ThreadPool* next : {&host, &larger, &alone}) {
    SCOPED_TRACE(next->size());
    for (int round = 0; round < 300; ++round) {
      std::atomic<int> done{0};
      std::atomic<int> seen{0};
      host.start([&done](int member) {
        for (int i = 0; i < 100 * member; ++i) cpu_relax();
        ++done;
      });
      next->run([&](int) { seen += done == 3 ? 1 : 0; });
      ASSERT_EQ(seen, next->size());
    }
  }
}

TEST(ThreadPoolStart, TheCallerDoesThePartsOfWorkersThatAreStuck) {
  std::atomic<bool> release{false};
  std::atomic<int> calls{0};
  {
    ThreadPool pool(3, [&] {
      while (!release) std::this_thread::yield();
    });
    for (int job = 0; job < 5; ++job) pool.start([&calls](int) { ++calls; });
    pool.join();
    EXPECT_EQ(calls, 15);
    release = true;
  }
  EXPECT_EQ(calls, 15);
}

TEST(ThreadPoolStart, JoinThrowsTheFirstExceptionAndWhatFollowedItIsNotDone) {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    SCOPED_TRACE(thrower);
    std::atomic<int> calls{0};
    pool.start([thrower](int member) {
      if (member == thrower) throw std::runtime_error("first");
    });
    pool.start([&calls](int) { ++calls; });
    pool.start([](int) { throw std::logic_error("second"); });
    try {
      pool.join();
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "first");
    }
    EXPECT_EQ(calls, 0);
    EXPECT_NO_THROW(pool.join()) << "thrown once";
    pool.run([&calls](int) { ++calls; });
    EXPECT_EQ(calls, 3);
  }
}

TEST(ThreadPoolStart, AnotherThreadsJobBeforeJoinIsAnInternalError) {
  ThreadPool pool(2);
  pool.start([](int) {});
  std::thread([&pool] {
    expect_error([&] { pool.run([](int) {}); }, ExitCode::kInternal, {"thread_pool.cpp"});
  }).join();
  pool.join();
  std::thread([&pool] { EXPECT_NO_THROW(pool.run([](int) {})); }).join();
}

TEST(ThreadPool, ParallelForCoversEveryIndexOnceInOrder) {
  for (const int size : {1, 2, 3, 7}) {
    ThreadPool pool(size);
    for (const int64_t count : {1, 2, 3, 5, 6, 7, 31, 64, 1000, 1001}) {
      for (const int64_t grain : {1, 2, 8, 64, 5000}) {
        SCOPED_TRACE(testing::Message() << size << " members, count " << count << ", grain " << grain);
        int64_t next = 0;
        int last_member = -1;
        for (const Range& range : split(pool, count, grain)) {
          EXPECT_EQ(range.begin, next);
          EXPECT_LT(range.begin, range.end);
          EXPECT_GT(range.member, last_member) << "one range per member";
          EXPECT_TRUE(range.end == count || range.end % grain == 0);
          next = range.end;
          last_member = range.member;
        }
        EXPECT_EQ(next, count);
      }
    }
  }
}

TEST(ThreadPool, ParallelForSharesEvenly) {
  ThreadPool pool(4);
  for (const Range& range : split(pool, 1001, 1)) {
    EXPECT_GE(range.end - range.begin, 250);
    EXPECT_LE(range.end - range.begin, 251);
  }
}

TEST(ThreadPool, ParallelForOfNothingCallsNothing) {
  ThreadPool pool(3);
  EXPECT_TRUE(split(pool, 0, 1).empty());
  EXPECT_TRUE(split(pool, -5, 1).empty());
}

TEST(ThreadPool, AGrainBelowOneCountsAsOne) {
  ThreadPool pool(2);
  EXPECT_EQ(split(pool, 10, 0).size(), 2u);
  EXPECT_EQ(split(pool, 10, -1).size(), 2u);
}

TEST(ThreadPool, ParallelForPassesExceptionsOn) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(10, 1,
                                 [](int64_t, int64_t end, int) {
                                   if (end == 10) throw std::out_of_range("last");
                                 }),
               std::out_of_range);
}

TEST(ThreadPool, CanBeDestroyedUnusedIdleAndAsleep) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool unused(3);
  }
  {
    ThreadPool idle(3);
    idle.run([](int) {});
  }
  {
    ThreadPool asleep(3);
    asleep.run([](int) {});
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

TEST(ThreadPool, TwoPoolsWorkBesideEachOther) {
  ThreadPool outer(2);
  std::atomic<int> calls{0};
  outer.run([&](int) {
    ThreadPool inner(2);
    for (int i = 0; i < 100; ++i) inner.run([&](int) { ++calls; });
  });
  EXPECT_EQ(calls, 400);
}

std::set<std::thread::id> threads_of(ThreadPool& pool) {
  std::vector<std::thread::id> threads(static_cast<size_t>(pool.size()));
  std::atomic<int> begun{0};
  pool.run([&](int member) {
    threads[static_cast<size_t>(member)] = std::this_thread::get_id();
    ++begun;
    while (begun < pool.size()) std::this_thread::yield();
  });
  return {threads.begin(), threads.end()};
}

TEST(ThreadPoolTeams, SmallerAndLargerTeamsUseTheSameThreads) {
  std::atomic<int> starts{0};
  ThreadPool host(3, [&] { ++starts; });
  ThreadPool smaller(host, 2);
  ThreadPool larger(host, 5);
  ThreadPool alone(host, 0);
  EXPECT_EQ(host.size(), 3);
  EXPECT_EQ(smaller.size(), 2);
  EXPECT_EQ(larger.size(), 5);
  EXPECT_EQ(alone.size(), 1);
  const auto all = threads_of(larger);
  EXPECT_EQ(all.size(), 5U);
  for (ThreadPool* pool : {&host, &smaller, &alone}) {
    const auto some = threads_of(*pool);
    EXPECT_EQ(some.size(), static_cast<size_t>(pool->size()));
    EXPECT_TRUE(std::includes(all.begin(), all.end(), some.begin(), some.end()));
  }
  EXPECT_EQ(starts, 4) << "on_start runs on the added threads too, once";
}

TEST(ThreadPoolTeams, TurnsOfDifferentSizesLoseNoPartAndRunNoneTwice) {
  ThreadPool host(2);
  ThreadPool larger(host, 6);
  ThreadPool smaller(host, 3);
  const std::vector<ThreadPool*> pools = {&host, &larger, &smaller, &larger, &host, &host};
  std::vector<int> calls(6, 0);
  std::vector<int> expected(6, 0);
  for (size_t job = 0; job < 6000; ++job) {
    ThreadPool& pool = *pools[job % pools.size()];
    pool.run([&](int member) { ++calls[static_cast<size_t>(member)]; });
    for (int member = 0; member < pool.size(); ++member) ++expected[static_cast<size_t>(member)];
    if (job % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers fall asleep
  }
  EXPECT_EQ(calls, expected);
}

TEST(ThreadPoolTeams, PoolsThatShareThreadsMayGoInAnyOrder) {
  auto host = std::make_unique<ThreadPool>(2);
  ThreadPool team(*host, 4);
  { const ThreadPool unused(*host, 3); }
  host.reset();
  EXPECT_EQ(threads_of(team).size(), 4U);
}

TEST(ThreadPoolTeams, UsingBothAtTheSameTimeIsAnInternalError) {
  ThreadPool host(2);
  ThreadPool team(host, 3);
  expect_error([&] { host.run([&](int) { team.run([](int) {}); }); }, ExitCode::kInternal, {"thread_pool.cpp"});
  expect_error([&] { host.run([&](int) { const ThreadPool third(host, 2); }); }, ExitCode::kInternal,
               {"thread_pool.cpp"});
  EXPECT_EQ(threads_of(team).size(), 3U);
}

TEST(ThreadPool, AvailableCoresIsAtLeastOne) {
  EXPECT_GE(available_cores(), 1);
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(ThreadPoolDeathTest, ASystemOutOfThreadsIsAMemoryErrorAndNotATermination) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto ask_for_too_many = [] {
    // Thread stacks take address space; with little of it left, thread creation fails.
    const rlimit limit{300u << 20, 300u << 20};
    ::setrlimit(RLIMIT_AS, &limit);
    try {
      ThreadPool pool(1000);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(static_cast<int>(error.code()));
    }
    ::_exit(0);
  };
  EXPECT_EXIT(ask_for_too_many(), testing::ExitedWithCode(5),
              "threads \\(thread pool\\): expected room for 1000 threads");
}
#endif

}  // namespace
}  // namespace xlstm
