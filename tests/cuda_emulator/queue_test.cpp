#include "kernels/cuda/queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "tests/cuda_emulator/emulator.h"
#include "tests/cuda_emulator/samples.h"

namespace xlstm::cuda_emulator {
namespace {

using namespace cuda::samples;

constexpr size_t kCount = 3;
using Values = std::array<int32_t, kCount>;
using Totals = std::array<float, kCount>;

class QueueTest : public testing::Test {
 protected:
  // Adds factor · values to the totals, and then the first value again.
  void pass(const Values& values, int64_t factor = 1) {
    queue_.begin_pass(true);
    collect(values, factor);
    queue_.end_pass();
  }
  void collect(const Values& values, int64_t factor = 1) {
    const int32_t* staged = queue_.stage(values);
    add_staged(queue_, {staged, totals_.data(), kCount, factor});
    add_staged(queue_, {staged, totals_.data(), 1, 1});
  }
  // What the totals are now, and from zero again.
  Totals take() {
    queue_.wait();
    return std::exchange(totals_, {});
  }

  cuda::Queue queue_{0};
  Totals totals_{};
};

TEST_F(QueueTest, APassThatComesAgainBecomesAGraph) {
  for (int32_t i = 0; i < 5; ++i) {
    pass({i, 2 * i, 7});
    EXPECT_EQ(take(), (Totals{static_cast<float>(2 * i), static_cast<float>(2 * i), 7})) << i;
    EXPECT_EQ(queue_.graph_passes(), i);
  }
}

TEST_F(QueueTest, OtherArgumentsAreAnotherPass) {
  for (int i = 0; i < 2; ++i) pass({1, 2, 3});
  EXPECT_EQ(queue_.graph_passes(), 1);
  take();
  pass({1, 2, 3}, 10);
  EXPECT_EQ(take(), (Totals{11, 20, 30}));
  EXPECT_EQ(queue_.graph_passes(), 1);
  pass({1, 2, 3});  // of which the graph is still there
  EXPECT_EQ(take(), (Totals{2, 2, 3}));
  EXPECT_EQ(queue_.graph_passes(), 2);
}

TEST_F(QueueTest, ManyFormsOfPassesKeepTheirOwnResults) {
  constexpr auto kForms = static_cast<int64_t>(cuda::Queue::kMaxGraphs) + 3;
  for (int round = 0; round < 2; ++round) {
    for (int64_t factor = 0; factor < kForms; ++factor) {
      for (int i = 0; i < 3; ++i) {
        pass({1, 2, 3}, factor);
        EXPECT_EQ(take(), (Totals{static_cast<float>(factor + 1), static_cast<float>(2 * factor),
                                  static_cast<float>(3 * factor)}));
      }
    }
  }
}

// A pass that is launched in parts, each as soon as it has been collected.
class LongPass : public QueueTest {
 protected:
  static constexpr size_t kFirstPart = cuda::Queue::kPartEnds.front();
  static constexpr size_t kCommands = cuda::Queue::kPartEnds.back() + 5;

  // Adds one to the first total by each of `commands` kernels, from number `other` on to the second.
  void add_ones(size_t commands, size_t other = kCommands) {
    const int32_t* const one = queue_.stage(std::array{1});
    for (size_t i = 1; i < commands; ++i) add_staged(queue_, {one, totals_.data() + (i < other ? 0 : 1), 1, 1});
  }
  void pass_of_ones(size_t commands, size_t other = kCommands) {
    queue_.begin_pass(true);
    add_ones(commands, other);
    queue_.end_pass();
  }
};

TEST_F(LongPass, RunsEachCommandOnceWhateverItsLength) {
  for (const size_t commands : {kFirstPart - 1, kFirstPart, kFirstPart + 1, kCommands - 5, kCommands}) {
    for (int i = 0; i < 4; ++i) {
      pass_of_ones(commands);
      EXPECT_EQ(take(), (Totals{static_cast<float>(commands - 1)})) << commands << " commands, pass " << i;
    }
  }
  EXPECT_EQ(queue_.graph_passes(), 5 * 3);
}

TEST_F(LongPass, BeginsWithThePartsOfAnother) {
  for (int i = 0; i < 2; ++i) pass_of_ones(kCommands);
  take();
  for (const size_t other : {kFirstPart - 1, kFirstPart, kFirstPart + 1, kCommands - 1}) {
    for (int i = 0; i < 4; ++i) {
      pass_of_ones(kCommands, other);
      EXPECT_EQ(take(), (Totals{static_cast<float>(other - 1), static_cast<float>(kCommands - other)})) << other;
    }
  }
}

// The same commands in parts and as a whole are two passes.
TEST_F(LongPass, KeptTogetherItIsOneGraph) {
  const auto pass = [&](bool together) {
    queue_.begin_pass(true);
    if (together) queue_.keep_together();
    add_ones(kCommands - 1);
    EXPECT_TRUE(!together || totals_[0] == 0) << "before it ends";
    const int32_t* const one = queue_.stage(std::array{1});
    add_staged(queue_, {one, totals_.data(), 1, 1});
    queue_.end_pass();
    EXPECT_EQ(take(), (Totals{static_cast<float>(kCommands - 1)}));
  };
  for (int i = 0; i < 3; ++i) pass(true);
  EXPECT_EQ(queue_.graph_passes(), 2);
  for (int i = 0; i < 3; ++i) pass(false);
  for (int i = 0; i < 4; ++i) pass(i % 2 == 0);
  EXPECT_EQ(queue_.graph_passes(), 2 + 3 + 4);
}

TEST_F(LongPass, GivenUpItLeavesWhatItHasLaunched) {
  for (int i = 0; i < 2; ++i) pass_of_ones(kCommands);
  take();
  queue_.begin_pass(true);
  add_ones(kFirstPart + 1);
  queue_.abandon_pass();
  EXPECT_EQ(take(), (Totals{static_cast<float>(kFirstPart - 1)}));
  pass_of_ones(kCommands);
  EXPECT_EQ(take(), (Totals{static_cast<float>(kCommands - 1)}));
}

TEST_F(LongPass, AFaultInAnyPartLeavesNothingBehind) {
  std::array<float, 3> values{};
  const auto pass_with = [&](int32_t flag, size_t fault_at) {
    queue_.begin_pass(true);
    const int32_t* const staged = queue_.stage(std::array{flag});
    for (size_t i = 0; i < kCommands; ++i) {
      if (i == fault_at) diverge(queue_, {staged});
      add_one(queue_, {values.data(), values.data(), values.size(), 0});
    }
    queue_.end_pass();
  };
  constexpr float kWhole = kCommands;
  for (const size_t fault_at : {size_t{2}, kFirstPart - 2, kFirstPart - 1, kFirstPart + 5, kCommands - 1}) {
    for (int i = 0; i < 3; ++i) pass_with(0, fault_at);
    EXPECT_THROW(pass_with(1, fault_at), Fault) << fault_at;
    queue_.abandon_pass();
    values = {};
    pass_with(0, fault_at);
    EXPECT_EQ(values, (std::array{kWhole, kWhole, kWhole})) << fault_at;
  }
}

TEST_F(LongPass, AGraphMayBeForgottenWhoseFirstPartHasBegun) {
  constexpr size_t kForms = cuda::Queue::kMaxGraphs + 4;
  for (int round = 0; round < 2; ++round) {
    for (size_t form = 0; form < kForms; ++form) {
      const size_t commands = kFirstPart - 2 + 2 * form;
      for (int i = 0; i < 3; ++i) {
        pass_of_ones(commands, commands);
        EXPECT_EQ(take(), (Totals{static_cast<float>(commands - 1)})) << commands;
      }
    }
  }
}

TEST_F(LongPass, TurnsGoOnFromPartToPart) {
  constexpr auto kTurns = static_cast<int32_t>(kCommands);
  constexpr unsigned kBlocks = 3;
  std::array<int32_t, kBlocks> counts{};
  const auto turns = [&](int32_t count) {
    for (int32_t i = 0; i < count; ++i) take_turn(queue_, kBlocks, counts.data(), true);
  };
  for (int i = 0; i < 6; ++i) {
    counts = {};
    queue_.begin_pass(true);
    turns(kTurns);
    if (i == 3) {
      queue_.flush();
      counts = {};
      turns(3);  // from the first on again
    }
    queue_.end_pass();
    queue_.wait();
    const int32_t all = i == 3 ? 3 : kTurns;
    EXPECT_EQ(counts, (std::array{all, all, all})) << i;
    queue_.begin_pass(true);
    turns(static_cast<int32_t>(kFirstPart) + 1);
    queue_.abandon_pass();
    counts = {};
    turns(2);  // outside of a pass, each a first one
    queue_.wait();
    EXPECT_EQ(counts, (std::array{1, 1, 1})) << i;
  }
}

TEST_F(LongPass, FlushedItRunsTheRest) {
  for (int i = 0; i < 2; ++i) pass_of_ones(kCommands);
  take();
  queue_.begin_pass(true);
  add_ones(kFirstPart + 3);
  queue_.flush();
  EXPECT_EQ(take(), (Totals{static_cast<float>(kFirstPart + 2)}));
  queue_.end_pass();
}

TEST_F(QueueTest, AFlushedPassRunsAtOnceAndIsNoGraph) {
  for (int i = 0; i < 4; ++i) {
    queue_.begin_pass(true);
    collect({1, 2, 3});
    EXPECT_EQ(totals_, Totals{}) << "before it ends";
    queue_.flush();
    EXPECT_EQ(totals_, (Totals{2, 2, 3}));
    collect({1, 2, 3});
    EXPECT_EQ(totals_, (Totals{4, 4, 6}));
    queue_.end_pass();
    EXPECT_EQ(take(), (Totals{4, 4, 6}));
  }
  EXPECT_EQ(queue_.graph_passes(), 0);
}

TEST_F(QueueTest, BranchesComeBetweenWhatIsBeforeAndBehindThem) {
  for (int i = 0; i < 3; ++i) {
    std::array<float, 3> values{};
    const auto add_ones_to = [&](int64_t count) {  // of the first `count`
      for (int64_t k = 0; k < count; ++k) add_one(queue_, {values.data() + k, values.data() + k, 1, 0});
    };
    queue_.begin_pass(true);
    add_ones_to(3);
    EXPECT_EQ(values[0], 0) << "collected";
    queue_.fork(3);
    EXPECT_EQ(values, (std::array{1.0F, 1.0F, 1.0F})) << "a pass with branches is not repeatable";
    for (int64_t branch = 0; branch < 3; ++branch) {
      queue_.use_branch(branch);
      add_ones_to(branch + 1);
    }
    queue_.join();
    add_ones_to(1);
    queue_.end_pass();
    queue_.wait();
    EXPECT_EQ(values, (std::array{5.0F, 3.0F, 2.0F}));
    queue_.begin_pass(true);
    queue_.fork(2);
    queue_.use_branch(1);
    queue_.abandon_pass();
    pass({1, 2, 3});
    EXPECT_EQ(take(), (Totals{2, 2, 3})) << "in the order of the calls again";
  }
}

TEST_F(QueueTest, APassThatIsNotRepeatableRunsAtOnce) {
  for (int i = 0; i < 3; ++i) {
    queue_.begin_pass(false);
    collect({1, 2, 3});
    EXPECT_EQ(totals_, (Totals{2, 2, 3}));
    queue_.end_pass();
    EXPECT_EQ(take(), (Totals{2, 2, 3}));
  }
  EXPECT_EQ(queue_.graph_passes(), 0);
}

TEST_F(QueueTest, AnAbandonedPassIsForgotten) {
  queue_.begin_pass(true);
  collect({1, 2, 3});
  queue_.abandon_pass();
  EXPECT_EQ(take(), Totals{});
  queue_.begin_pass(true);
  collect({1, 2, 3});
  pass({4, 5, 6});
  EXPECT_EQ(take(), (Totals{8, 5, 6}));
}

TEST_F(QueueTest, OutsideOfPassesValuesAreStagedEachTime) {
  for (int32_t i = 1; i < 4; ++i) {
    collect({i, i, i});
    EXPECT_EQ(take(), (Totals{static_cast<float>(2 * i), static_cast<float>(i), static_cast<float>(i)}));
  }
}

TEST_F(QueueTest, KernelsOfAPassTakeTurns) {
  for (const bool repeatable : {false, true}) {
    for (int i = 0; i < 4; ++i) {
      std::array<int32_t, 4> counts{};
      queue_.begin_pass(repeatable);
      for (const unsigned blocks : {3U, 4U, 2U, 4U}) take_turn(queue_, blocks, counts.data(), true);
      queue_.end_pass();
      queue_.wait();
      EXPECT_EQ(counts, (std::array{4, 4, 2, 0})) << i;
    }
  }
}

TEST_F(QueueTest, ATurnThatNeverComesIsAFault) {
  std::array<int32_t, 1> counts{};
  queue_.begin_pass(false);
  take_turn(queue_, 1, counts.data(), true);
  take_turn(queue_, 1, counts.data(), false);
  EXPECT_THROW(take_turn(queue_, 1, counts.data(), true), Fault);
}

// Four kernels, each adding one to what the one before has left.
TEST_F(QueueTest, KernelsOfAGraphThatReadTooEarlySeeOldValues) {
  constexpr size_t kWidth = 70;
  constexpr size_t kKernels = 4;
  for (const int64_t early : {0, 1}) {
    std::array<std::array<float, kWidth>, kKernels + 1> rows{};
    bool right = true;
    for (int pass = 0; pass < 4; ++pass) {
      rows[0].fill(static_cast<float>(10 * pass));
      queue_.begin_pass(true);
      for (size_t i = 0; i < kKernels; ++i) {
        // The first of a pass follows nothing.
        add_one(queue_, {rows[i].data(), rows[i + 1].data(), kWidth, i == 0 ? 0 : early});
      }
      queue_.end_pass();
      for (const float value : rows[kKernels]) right = right && value == static_cast<float>(10 * pass) + kKernels;
    }
    EXPECT_EQ(right, early == 0);
  }
  EXPECT_EQ(queue_.graph_passes(), 6);
}

TEST_F(QueueTest, AFaultInAGraphLeavesNothingBehind) {
  std::array<float, 3> values{};
  const auto pass_with = [&](int32_t flag) {
    queue_.begin_pass(true);
    const int32_t* staged = queue_.stage(std::array{flag});
    add_one(queue_, {values.data(), values.data(), 3, 0});
    diverge(queue_, {staged});
    for (int i = 0; i < 3; ++i) add_one(queue_, {values.data(), values.data(), 3, 0});
    queue_.end_pass();
  };
  for (int i = 0; i < 2; ++i) pass_with(0);
  EXPECT_THROW(pass_with(1), Fault);
  values = {};
  pass_with(0);
  EXPECT_EQ(values, (std::array{4.0F, 4.0F, 4.0F}));
  EXPECT_EQ(queue_.graph_passes(), 2) << "the one that failed is not counted";
}

TEST_F(QueueTest, APassStagesAnyNumberOfValues) {
  const std::vector<int32_t> many(900'000, 1);
  std::vector<int32_t> more(1'300'000, 2);
  for (int i = 0; i < 2; ++i) {
    more.back() = i;
    queue_.begin_pass(false);
    const int32_t* const first = queue_.stage(many);
    const int32_t* const second = queue_.stage(more);
    const int32_t* const third = queue_.stage(Values{1, 2, 3});
    queue_.wait();
    EXPECT_TRUE(std::equal(many.begin(), many.end(), first));
    EXPECT_TRUE(std::equal(more.begin(), more.end(), second));
    EXPECT_EQ(third[2], 3);
    queue_.end_pass();
  }
}

// So the host may be a pass ahead of the device.
TEST_F(QueueTest, OnlyValuesThatChangeFromPassToPassAreWaitedFor) {
  for (const bool repeatable : {true, false}) {
    const auto run = [&](const Values& first, const Values& second) {
      const int64_t before = synchronizations();
      queue_.begin_pass(repeatable);
      collect(first);
      collect(second);
      queue_.end_pass();
      return synchronizations() - before;
    };
    run({1, 2, 3}, {4, 5, 6});
    EXPECT_EQ(run({1, 2, 3}, {4, 5, 6}), 0);
    EXPECT_EQ(run({1, 2, 3}, {4, 5, 6}), 0);
    EXPECT_EQ(run({1, 2, 3}, {4, 5, 7}), 1);
    EXPECT_EQ(run({1, 2, 4}, {4, 5, 6}), 1) << "once for all of them";
    EXPECT_EQ(run({1, 2, 4}, {4, 5, 6}), 0);
    queue_.begin_pass(repeatable);
    queue_.end_pass();  // stages nothing
    EXPECT_EQ(run({1, 2, 5}, {4, 5, 6}), 1) << "the device may still be at the pass before that one";
    EXPECT_EQ(run({1, 2, 4}, {4, 5, 6}), 1);
    // The first again where the second stood.
    EXPECT_EQ(run({1, 2, 4}, {1, 2, 4}), 0);
    EXPECT_EQ(run({1, 2, 4}, {4, 5, 6}), 0) << "what stands there is still the same";
  }
}

TEST_F(QueueTest, ABranchThatIsNotJoinedIsAFault) {
  queue_.begin_pass(false);
  queue_.fork(2);
  queue_.use_branch(1);
  add_one(queue_, {totals_.data(), totals_.data(), 1, 0});
  EXPECT_THROW(queue_.wait(), Fault);
  queue_.join();
  queue_.end_pass();
  queue_.wait();
}

TEST_F(QueueTest, AValueThatNoKernelWritesIsAFault) {
  uint64_t word = 4;
  queue_.wait_for(&word, 4);
  EXPECT_THROW(queue_.wait_for(&word, 5), Fault);
}

TEST_F(QueueTest, EqualValuesOfAPassAreStagedOnce) {
  queue_.begin_pass(false);
  const int32_t* first = queue_.stage(Values{1, 2, 3});
  const int32_t* other = queue_.stage(Values{1, 2, 4});
  EXPECT_EQ(queue_.stage(Values{1, 2, 3}), first);
  EXPECT_NE(first, other);
  EXPECT_EQ(first[2], 3);
  EXPECT_EQ(other[2], 4);
  queue_.end_pass();
}

}  // namespace
}  // namespace xlstm::cuda_emulator
