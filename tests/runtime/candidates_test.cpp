// Generation on a device that finds the greatest logits itself: libtorch's operations on the CPU stand in for one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/native/native_ops.h"
#include "src/registry/device_backend.h"
#include "tests/support/engines.h"
#include "xlstm/runtime/generator.h"

namespace xlstm {
namespace {

constexpr int64_t kVocab = 160;
constexpr int64_t kMaxCandidates = 50;
int64_t searches = 0;

class FindingOps : public DeviceOps {
 public:
  explicit FindingOps(std::unique_ptr<DeviceOps> ops) : ops_(std::move(ops)) {}
  [[nodiscard]] Linear pack(Linear canonical, RowOrder order) const override {
    return ops_->pack(std::move(canonical), order);
  }
  void begin_pass(const RowPlan& plan) override { ops_->begin_pass(plan); }
  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    ops_->embed(weights, ids, act);
  }
  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    ops_->mixer_in(block, rows, act);
  }
  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    ops_->mixer_out(block, rows, act);
  }
  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    ops_->feed_forward(block, rows, act);
  }
  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    ops_->head(weights, plan, act, logits);
  }
  void end_pass() override { ops_->end_pass(); }

  [[nodiscard]] int64_t max_candidates() const override { return kMaxCandidates; }
  void find_candidates(const at::Tensor& logits, int64_t vocab, at::Tensor& candidates) override {
    ++searches;
    for (int64_t row = 0; row < candidates.size(0); ++row) {
      const auto [values, ids] = logits[row].narrow(0, 0, vocab).sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
      for (int64_t i = 0; i < candidates.size(1); ++i) {
        candidates[row][i][0] = ids[i];
        const auto logit = values[i].item<float>();
        std::memcpy(candidates[row][i][1].mutable_data_ptr(), &logit, sizeof(logit));
      }
    }
  }

 private:
  std::unique_ptr<DeviceOps> ops_;
};

const bool device_is_replaced = [] {
  DeviceBackend backend{{{{"mps", "mps", true, "a stand-in"}, at::kCPU}}};
  backend.entries = {{{KernelFamily::kOps, "metal", "mps", "with candidates"}, {}, [](const KernelRequest& r) {
                        return std::make_unique<FindingOps>(make_native_ops(r.dims, r.device));
                      }}};
  replace_device_backend(std::move(backend));
  return true;
}();

std::filesystem::path tiny_model() {
  return test::goldens() / "zoo/single_f32";
}

Engine finding_engine(const std::filesystem::path& model) {
  RuntimeOpts opts = test::native_opts();
  opts.device = "mps";
  opts.ops_backend = "metal";
  return test::load_engine(model, opts);
}

class CandidatesTest : public testing::Test {
 protected:
  CandidatesTest()
      : finding_(finding_engine(tiny_model())), looking_(test::load_engine(tiny_model(), test::native_opts())) {
    searches = 0;
  }

  static GenerationResult run(Engine& engine, const RuntimeOpts& opts, bool keep_logits = false) {
    Sequence sequence(engine);
    GenerationRequest request;
    request.prompt = {0, 100, 20, 30};
    request.seed = 3;
    request.keep_logits = keep_logits;
    return generate(sequence, engine, opts, request);
  }

  static RuntimeOpts options() {
    RuntimeOpts opts = test::quiet_opts();
    opts.ignore_eos = true;
    opts.max_new_tokens = 24;
    return opts;
  }

  Engine finding_;
  Engine looking_;
};

std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

TEST_F(CandidatesTest, GenerationChoosesTheIdsOfTheHostSamplerFromThem) {
  RuntimeOpts opts = options();
  for (const double temperature : {0.0, 0.8, 3.0}) {
    opts.temperature = temperature;
    searches = 0;
    const std::vector<int64_t> ids = run(finding_, opts).ids;
    EXPECT_EQ(ids, run(looking_, opts).ids) << temperature;
    EXPECT_EQ(ids.size(), 24U);
    EXPECT_EQ(searches, 1 + 24) << "one for each token, and one that waits for the prompt";
  }
}

TEST_F(CandidatesTest, AllLogitsAreReadWhereTheyDoNotDecide) {
  std::vector<RuntimeOpts> all(3, options());
  all[0].top_k = 0;
  all[1].repeat_penalty = 1.3;
  all[2].top_k = kMaxCandidates + 1;
  for (const RuntimeOpts& opts : all) {
    searches = 0;
    EXPECT_EQ(run(finding_, opts).ids, run(looking_, opts).ids);
    EXPECT_EQ(searches, 1) << "for the prompt";
  }
}

TEST_F(CandidatesTest, KeptLogitsAreThoseOfEveryStep) {
  const RuntimeOpts opts = options();
  searches = 0;
  const GenerationResult found = run(finding_, opts, /*keep_logits=*/true);
  const GenerationResult looked = run(looking_, opts, /*keep_logits=*/true);
  EXPECT_EQ(found.ids, looked.ids);
  EXPECT_EQ(found.logits, looked.logits);
  EXPECT_EQ(found.prompt_logits, looked.prompt_logits);
  EXPECT_EQ(searches, 0);
}

TEST_F(CandidatesTest, AStateWithoutAPendingIdHasAllLogitsAndContinuesTheSame) {
  RuntimeOpts opts = options();
  const std::vector<int64_t> whole = run(finding_, opts).ids;
  Sequence fed(finding_);
  fed.feed(std::vector<int64_t>{0, 100, 20, 30});
  const SavedState saved = fed.save(3);
  EXPECT_EQ(saved.logits.size(), kVocab);
  Sequence resumed(finding_);
  resumed.restore(saved);
  EXPECT_TRUE(resumed.greatest(kVocab, 5).empty()) << "they are not on the device";
  GenerationRequest request;
  request.seed = 3;
  EXPECT_EQ(generate(resumed, finding_, opts, request).ids, whole);
}

TEST_F(CandidatesTest, AreOfTheLogitsThatCanBeReadAfterwards) {
  Sequence sequence(finding_);
  sequence.feed(std::vector<int64_t>{0, 7, 9});
  const std::span<const Candidate> greatest = sequence.greatest(kVocab - 7, 3);
  ASSERT_EQ(greatest.size(), 3U);
  const std::vector<Candidate> three(greatest.begin(), greatest.end());
  const std::vector<float> logits = copy(sequence.logits());
  for (const Candidate& candidate : three) EXPECT_EQ(logits[static_cast<size_t>(candidate.id)], candidate.logit);
  EXPECT_EQ(three[0].id, std::max_element(logits.begin(), logits.begin() + kVocab - 7) - logits.begin());
  EXPECT_TRUE(sequence.greatest(kVocab - 7, 3).empty()) << "all logits are here already";
}

TEST_F(CandidatesTest, LogitsOfOneSequenceOutliveThePassesOfAnother) {
  for (Engine* engine : {&finding_, &looking_}) {
    Sequence one(*engine);
    one.feed(std::vector<int64_t>{0, 7, 9});
    Sequence other(*engine);
    other.feed(std::vector<int64_t>{0, 8});
    EXPECT_TRUE(one.greatest(kVocab, 1).empty()) << "overwritten on the device";
    const std::vector<float> kept = copy(one.logits());
    Sequence again(*engine);
    again.feed(std::vector<int64_t>{0, 7, 9});
    EXPECT_EQ(copy(again.logits()), kept);
    EXPECT_NE(copy(other.logits()), kept);
    EXPECT_EQ(copy(one.logits()), kept);
  }
}

TEST_F(CandidatesTest, APassOfSeveralRowsHasThoseOfEachRow) {
  RowPlan plan;
  plan.add(0, 2, LogitRows::kLast);
  plan.add(1, 3, LogitRows::kLast);
  State state = finding_.make_state(2);
  const std::vector<int64_t> ids = {0, 7, 0, 8, 9};
  const std::shared_ptr<PassLogits> pass = finding_.forward(plan, ids, state);
  EXPECT_EQ(pass->rows(), 2);
  EXPECT_TRUE(pass->greatest(kVocab, 0).empty());
  EXPECT_TRUE(pass->greatest(kVocab, kMaxCandidates + 1).empty());
  const std::span<const Candidate> greatest = pass->greatest(kVocab, 2);
  ASSERT_EQ(greatest.size(), 4U);
  const std::vector<Candidate> found(greatest.begin(), greatest.end());
  const std::span<const float> all = pass->all();
  ASSERT_EQ(all.size(), 2 * kVocab);
  for (size_t row = 0; row < 2; ++row) {
    const auto logits = all.begin() + static_cast<std::ptrdiff_t>(row * kVocab);
    EXPECT_EQ(found[2 * row].id, std::max_element(logits, logits + kVocab) - logits);
    EXPECT_EQ(found[2 * row].logit, logits[found[2 * row].id]);
    EXPECT_GE(found[2 * row].logit, found[2 * row + 1].logit);
  }
}

TEST_F(CandidatesTest, APassWithoutLogitsHasNone) {
  RowPlan plan;
  plan.add(0, 2, LogitRows::kNone);
  State state = finding_.make_state(1);
  const std::shared_ptr<PassLogits> pass = finding_.forward(plan, std::vector<int64_t>{0, 7}, state);
  EXPECT_EQ(pass->rows(), 0);
  EXPECT_TRUE(pass->all().empty());
  EXPECT_TRUE(pass->greatest(kVocab, 1).empty());
  pass->wait();
  EXPECT_EQ(searches, 0);
}

}  // namespace
}  // namespace xlstm
