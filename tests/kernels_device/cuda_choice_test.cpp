// The choice of tokens on the device, against the host's sampler.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/rows.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels_device/cuda_under_test.h"
#include "xlstm/text/sampler.h"

namespace xlstm {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// As a text has them: one sequence each, some way into it.
std::vector<Draw> draws_of(int64_t rows) {
  std::vector<Draw> draws;
  for (int64_t row = 0; row < rows; ++row) {
    const auto number = static_cast<uint64_t>(row);
    draws.push_back({.sequence = number, .position = 5 * number});
  }
  return draws;
}

class CudaChoiceTest : public testing::Test {
 protected:
  at::Tensor random(int64_t rows, int64_t vocab) {
    std::normal_distribution<float> normal(0, 3);
    at::Tensor logits = at::empty({rows, vocab});
    auto* value = logits.mutable_data_ptr<float>();
    for (int64_t i = 0; i < logits.numel(); ++i) value[i] = normal(engine_);
    return logits;
  }

  // Several choices of each row, in passes of one form, from other logits each time.
  void expect_those_of_sampler(const ChoiceRules& rules, const std::vector<at::Tensor>& logits) {
    const int64_t rows = logits.front().size(0);
    const SamplingOptions options{.temperature = rules.temperature,
                                  .top_k = rules.top_k,
                                  .top_p = rules.top_p,
                                  .min_p = rules.min_p,
                                  .seed = rules.seed};
    Sampler sampler(options, rules.usable_vocab, rules.banned);
    std::vector<Draw> draws = draws_of(rows);
    const auto chooser = ops_->make_chooser(rules, draws);
    const at::Tensor placed = device_->place(logits.front());
    for (const at::Tensor& these : logits) {
      placed.copy_(these);
      device_->begin_pass();
      const at::Tensor& ids = chooser->choose(placed);
      device_->end_pass();
      const std::span<const ChosenToken> chosen = chooser->wait();
      ASSERT_EQ(chosen.size(), static_cast<size_t>(rows));
      const at::Tensor on_host = ids.cpu();
      for (int64_t row = 0; row < rows; ++row) {
        const auto index = static_cast<size_t>(row);
        const at::Tensor own = these[row].contiguous();
        const std::span values(own.const_data_ptr<float>(), static_cast<size_t>(own.numel()));
        const int64_t expected = sampler.sample(values, {}, draws[index].sequence, draws[index].position++);
        ASSERT_EQ(chosen[index].id, expected) << "row " << row;
        ASSERT_EQ(on_host[row].item<int32_t>(), expected) << "row " << row;
        const auto greatest = std::max_element(values.begin(), values.begin() + rules.usable_vocab);
        EXPECT_EQ(chosen[index].greatest, *greatest);
        EXPECT_EQ(chosen[index].greatest_id, greatest - values.begin());
        at::Tensor allowed = own.narrow(0, 0, rules.usable_vocab).clone();
        for (const int64_t id : rules.banned) allowed[id] = -kInf;
        EXPECT_EQ(chosen[index].best, allowed.max().item<float>());
      }
    }
  }

  std::mt19937 engine_{11};
  std::unique_ptr<test::CudaUnderTest> device_ = test::make_cuda_under_test();
  std::unique_ptr<DeviceOps> ops_ = device_->ops(test::dims_of({1, 1, 1, 1, 1, 1}));
};

ChoiceRules rules_for(int64_t vocab) {
  ChoiceRules rules;
  rules.usable_vocab = vocab;
  rules.seed = 0x123456789abcdef0;
  return rules;
}

TEST_F(CudaChoiceTest, IsTheSamplersWithEveryFilter) {
  constexpr int64_t kVocab = 700;
  std::vector<at::Tensor> logits;
  for (int i = 0; i < 5; ++i) logits.push_back(random(9, kVocab + 3));
  for (const int64_t top_k : {1, 2, 40, 255, 256}) {
    for (const double top_p : {0.0, 0.6, 0.95, 1.0}) {
      for (const double min_p : {0.0, 0.05, 1.0}) {
        for (const double temperature : {0.05, 0.8, 4.0}) {
          SCOPED_TRACE("top_k " + std::to_string(top_k) + " top_p " + std::to_string(top_p) + " min_p " +
                       std::to_string(min_p) + " temperature " + std::to_string(temperature));
          ChoiceRules rules = rules_for(kVocab);
          rules.top_k = top_k;
          rules.top_p = top_p;
          rules.min_p = min_p;
          rules.temperature = temperature;
          expect_those_of_sampler(rules, logits);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(device_->gpu()->queue.graph_passes(), 0);
}

TEST_F(CudaChoiceTest, NeverTakesABannedId) {
  constexpr int64_t kVocab = 90;
  const at::Tensor logits = random(20, kVocab);
  const at::Tensor order = logits.sum(0).argsort(0, /*descending=*/true);
  for (const int64_t count : {1, 7, 80}) {
    ChoiceRules rules = rules_for(kVocab);
    for (int64_t i = 0; i < count; ++i) rules.banned.push_back(order[i].item<int64_t>());
    for (const int64_t top_k : {1, 5, 70}) {
      SCOPED_TRACE(std::to_string(count) + " banned, top_k " + std::to_string(top_k));
      rules.top_k = top_k;
      rules.top_p = 0.9;
      rules.min_p = 0.01;
      expect_those_of_sampler(rules, {logits, logits, logits});
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaChoiceTest, IsTheSamplersOfEqualFewAndImpossibleLogits) {
  constexpr int64_t kVocab = 300;
  const at::Tensor equal = at::zeros({12, kVocab});
  const at::Tensor two = at::full({12, kVocab}, -kInf);
  two.select(1, 17).fill_(1.0F);
  two.select(1, 5).fill_(0.5F);
  const at::Tensor steps = random(12, kVocab).floor();
  const at::Tensor far = random(12, kVocab) * 1e30;
  for (const int64_t top_k : {1, 30, 256}) {
    ChoiceRules rules = rules_for(kVocab);
    rules.top_k = top_k;
    rules.top_p = 0.8;
    expect_those_of_sampler(rules, {equal, two, steps, far, equal});
    rules.top_p = 1;
    rules.min_p = 1;  // of equal ones all
    expect_those_of_sampler(rules, {equal, two, steps, equal});
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaChoiceTest, OfImpossibleLogitsSaysWhatTheyAreAndStaysWithinTheVocabulary) {
  constexpr int64_t kVocab = 300;
  at::Tensor logits = random(4, kVocab);
  logits[0][77] = kNan;
  logits[1][78] = kInf;
  logits[2].fill_(-kInf);
  logits[3].fill_(-kInf);
  logits[3][9] = 2.0F;
  ChoiceRules rules = rules_for(kVocab);
  rules.banned = {9};
  for (const int64_t top_k : {1, 40}) {
    rules.top_k = top_k;
    rules.top_p = 0.9;
    rules.min_p = 0.05;
    const auto chooser = ops_->make_chooser(rules, draws_of(4));
    (void)chooser->choose(device_->place(logits));
    const std::span<const ChosenToken> chosen = chooser->wait();
    for (const ChosenToken& token : chosen) {
      EXPECT_GE(token.id, 0);
      EXPECT_LT(token.id, kVocab);
    }
    EXPECT_TRUE(std::isnan(chosen[0].greatest));
    EXPECT_EQ(chosen[0].greatest_id, 77);
    EXPECT_EQ(chosen[1].greatest, kInf);
    EXPECT_EQ(chosen[1].greatest_id, 78);
    EXPECT_EQ(chosen[2].best, -kInf);
    EXPECT_EQ(chosen[3].greatest, 2.0F);
    EXPECT_EQ(chosen[3].best, -kInf);
  }
}

TEST_F(CudaChoiceTest, AllIdsBannedLeavesNone) {
  ChoiceRules rules = rules_for(3);
  rules.banned = {0, 1, 2};
  const auto chooser = ops_->make_chooser(rules, draws_of(1));
  (void)chooser->choose(device_->place(at::zeros({1, 3})));
  EXPECT_EQ(chooser->wait().front().best, -kInf);
  EXPECT_EQ(chooser->wait().front().greatest, 0) << "asked for again";
}

// However long it is: the device is at the one before meanwhile.
TEST_F(CudaChoiceTest, BeginsAPassThatIsLaunchedAsAWhole) {
  const auto chooser = ops_->make_chooser(rules_for(40), draws_of(1));
  const at::Tensor logits = device_->place(random(1, 40));
  Weights weights;
  weights.embedding = device_->place(random(40, 1));
  Activations act;
  act.x = device_->place(at::zeros({1, 1}));
  for (int pass = 0; pass < 4; ++pass) {
    act.x.zero_();
    device_->begin_pass();
    const at::Tensor& ids = chooser->choose(logits);
    for (size_t i = 0; i < cuda::Queue::kPartEnds.back(); ++i) ops_->embed_chosen(weights, ids, act);
    EXPECT_EQ(act.x.item<float>(), 0) << "before it ends";
    device_->end_pass();
    const int64_t id = chooser->wait().front().id;
    EXPECT_EQ(act.x.item<float>(), weights.embedding[id].item<float>());
  }
  EXPECT_EQ(device_->gpu()->queue.graph_passes(), 3);
}

TEST_F(CudaChoiceTest, DoesNotDependOnTheOrderOfThreads) {
  const at::Tensor logits = random(3, 1100);
  const auto run = [&] {
    std::string ids;
    for (const int64_t top_k : {1, 50, 200}) {
      ChoiceRules rules = rules_for(1100);
      rules.top_k = top_k;
      rules.top_p = 0.9;
      const auto chooser = ops_->make_chooser(rules, draws_of(3));
      for (int i = 0; i < 2; ++i) {
        (void)chooser->choose(device_->place(logits));
        for (const ChosenToken& token : chooser->wait()) ids += std::to_string(token.id) + " ";
      }
    }
    return ids;
  };
  EXPECT_EQ(device_->order_dependence(run), "");
}

}  // namespace
}  // namespace xlstm
