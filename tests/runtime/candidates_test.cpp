// Generation on a device that finds the greatest logits itself, and on one that chooses the tokens, too: libtorch's
// operations on the CPU stand in for both.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "kernels/native/native_ops.h"
#include "src/registry/device_backend.h"
#include "tests/support/engines.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/cache_request.h"
#include "xlstm/runtime/generator.h"

namespace xlstm {
namespace {

constexpr int64_t kVocab = 160;
constexpr int64_t kMaxCandidates = 50;
int64_t searches = 0;
int64_t choices = 0;
bool device_chooses = false;
ChoiceRules last_rules;
std::vector<Draw> last_draws;

// With the host's sampler, behind the device's back.
class StandInChooser : public TokenChooser {
 public:
  StandInChooser(const ChoiceRules& rules, std::span<const Draw> draws) : draws_(draws.begin(), draws.end()) {
    const SamplingOptions options{.temperature = rules.temperature,
                                  .top_k = rules.top_k,
                                  .top_p = rules.top_p,
                                  .min_p = rules.min_p,
                                  .seed = rules.seed};
    sampler_.emplace(options, rules.usable_vocab, rules.banned);
  }

  const at::Tensor& choose(const at::Tensor& logits) override {
    EXPECT_TRUE(is_waited_for_) << "wait() comes between two calls";
    EXPECT_EQ(logits.size(0), static_cast<int64_t>(draws_.size()));
    ids_ = at::empty({logits.size(0)}, at::kInt);
    tokens_.clear();
    for (size_t row = 0; row < draws_.size(); ++row) {
      const at::Tensor own = logits[static_cast<int64_t>(row)].contiguous();
      const std::span values(own.const_data_ptr<float>(), static_cast<size_t>(own.numel()));
      const auto greatest = std::max_element(values.begin(), values.begin() + sampler_->usable_vocab());
      Draw& draw = draws_[row];
      const bool possible = std::isfinite(*greatest);
      const int64_t id = possible ? sampler_->sample(values, {}, draw.sequence, draw.position) : 0;
      ++draw.position;
      tokens_.push_back(
          {static_cast<int32_t>(id), static_cast<int32_t>(greatest - values.begin()), *greatest, *greatest});
      ids_[static_cast<int64_t>(row)] = id;
    }
    ++choices;
    is_waited_for_ = false;
    return ids_;
  }
  std::span<const ChosenToken> wait() override {
    is_waited_for_ = true;
    return tokens_;
  }

 private:
  std::optional<Sampler> sampler_;
  std::vector<Draw> draws_;
  std::vector<ChosenToken> tokens_;
  at::Tensor ids_;
  bool is_waited_for_ = true;
};

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
  void embed_chosen(const Weights& weights, const at::Tensor& ids, Activations& act) override {
    const at::Tensor wide = ids.to(at::kLong);
    ops_->embed(weights, {wide.const_data_ptr<int64_t>(), static_cast<size_t>(wide.numel())}, act);
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

  std::unique_ptr<TokenChooser> make_chooser(const ChoiceRules& rules, std::span<const Draw> draws) override {
    EXPECT_LE(rules.candidates(), kMaxCandidates);
    if (!device_chooses) return nullptr;
    last_rules = rules;
    last_draws.assign(draws.begin(), draws.end());
    return std::make_unique<StandInChooser>(rules, draws);
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
    choices = 0;
    device_chooses = false;
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

class ChosenTokensTest : public CandidatesTest {
 protected:
  ChosenTokensTest() { device_chooses = true; }
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

TEST_F(ChosenTokensTest, AreThoseOfTheHostSampler) {
  RuntimeOpts opts = options();
  for (const double temperature : {0.0, 0.8, 3.0}) {
    opts.temperature = temperature;
    searches = 0;
    choices = 0;
    const std::vector<int64_t> ids = run(finding_, opts).ids;
    EXPECT_EQ(ids, run(looking_, opts).ids) << temperature;
    EXPECT_EQ(choices, 23) << "but the last, behind which nothing is fed";
    EXPECT_EQ(searches, 1 + 1) << "one for the last, and one that waits for the prompt";
  }
}

TEST_F(ChosenTokensTest, TheHostChoosesWhereTheyDoNotDecideOrLogitsAreKept) {
  RuntimeOpts opts = options();
  opts.repeat_penalty = 1.3;
  EXPECT_EQ(run(finding_, opts).ids, run(looking_, opts).ids);
  opts = options();
  const GenerationResult kept = run(finding_, opts, /*keep_logits=*/true);
  EXPECT_EQ(kept.logits, run(looking_, opts, /*keep_logits=*/true).logits);
  EXPECT_EQ(kept.logits.size(), 24U * kVocab);
  EXPECT_EQ(choices, 0);
}

// Whatever ends a text, what has been fed and what has not is known.
TEST_F(ChosenTokensTest, ATextContinuesTheSameWhereverItEnded) {
  RuntimeOpts opts = options();
  const std::vector<int64_t> whole = run(looking_, opts).ids;
  for (const bool by_limit : {true, false}) {
    for (const size_t end : {1U, 2U, 7U}) {
      Sequence sequence(finding_);
      GenerationRequest request;
      request.prompt = {0, 100, 20, 30};
      request.seed = 3;
      std::vector<int64_t> ids;
      request.on_token = [&](int64_t id) {
        ids.push_back(id);
        return by_limit || ids.size() < end;
      };
      opts.max_new_tokens = by_limit ? static_cast<int64_t>(end) : 24;
      const GenerationResult first = generate(sequence, finding_, opts, request);
      EXPECT_EQ(first.finish, by_limit ? FinishReason::kLength : FinishReason::kStopString);
      EXPECT_EQ(sequence.has_pending(), by_limit);
      EXPECT_EQ(sequence.ids().size(), 4 + end);
      const SavedState saved = sequence.save(3);
      EXPECT_EQ(saved.pending_id.has_value(), by_limit);
      EXPECT_EQ(saved.position, 4 + end);
      Sequence resumed(finding_);
      resumed.restore(saved);
      opts.max_new_tokens = 24 - static_cast<int64_t>(end);
      choices = 0;
      request.prompt.clear();
      request.on_token = [&](int64_t id) {
        ids.push_back(id);
        return true;
      };
      (void)generate(resumed, finding_, opts, request);
      EXPECT_EQ(ids, whole) << end;
      // But the last, and the first of saved logits.
      EXPECT_EQ(choices, opts.max_new_tokens - (by_limit ? 1 : 2));
    }
  }
}

TEST_F(ChosenTokensTest, PassesOfOthersBetweenThemChangeNothing) {
  const RuntimeOpts opts = options();
  const std::vector<int64_t> whole = run(looking_, opts).ids;
  Sequence sequence(finding_);
  Sequence other(finding_);
  GenerationRequest request;
  request.prompt = {0, 100, 20, 30};
  request.seed = 3;
  int64_t tokens = 0;
  request.on_token = [&](int64_t /*id*/) {
    if (++tokens % 5 == 0) other.feed(std::vector<int64_t>{7, 8});
    return true;
  };
  choices = 0;
  EXPECT_EQ(generate(sequence, finding_, opts, request).ids, whole);
  EXPECT_EQ(choices, 23 - 4) << "not where other logits lie on the device";
}

TEST_F(ChosenTokensTest, HaveTheSamplersRules) {
  const SamplingOptions options{.temperature = 0.7, .top_k = 30, .top_p = 0.9, .min_p = 0.1, .seed = 77};
  const std::vector<Draw> draws = {{.sequence = 1, .position = 2}, {.sequence = 3, .position = 4}};
  EXPECT_NE(finding_.make_chooser(Sampler(options, 150, {3, 9}), draws), nullptr);
  EXPECT_EQ(last_rules.usable_vocab, 150);
  EXPECT_EQ(last_rules.banned, (std::vector<int64_t>{3, 9}));
  EXPECT_EQ(last_rules.top_k, 30);
  EXPECT_EQ(last_rules.top_p, 0.9);
  EXPECT_EQ(last_rules.min_p, 0.1);
  EXPECT_EQ(last_rules.temperature, 0.7);
  EXPECT_EQ(last_rules.seed, 77);
  ASSERT_EQ(last_draws.size(), 2U);
  EXPECT_EQ(last_draws[1].sequence, 3);
  EXPECT_EQ(last_draws[1].position, 4);
  SamplingOptions greedy = options;
  greedy.temperature = 0;
  EXPECT_NE(finding_.make_chooser(Sampler(greedy, 150), draws), nullptr);
  EXPECT_EQ(last_rules.top_k, 1);
  EXPECT_EQ(last_rules.candidates(), 1);
  SamplingOptions many = options;
  many.top_k = kMaxCandidates - 1;
  EXPECT_EQ(finding_.make_chooser(Sampler(many, 150, {3, 9}), draws), nullptr) << "more than the device finds";
}

TEST_F(ChosenTokensTest, AreOfTheLastRowWherePassesHaveSeveral) {
  const auto feed = [](Sequence& sequence) {
    sequence.feed(std::vector<int64_t>{0, 7, 9}, [](std::span<const float> /*logits*/) {});
  };
  Sampler greedy({.temperature = 0}, kVocab);
  Sequence looked(looking_);
  feed(looked);
  const int64_t expected = greedy.sample(looked.logits(), {}, 0, 3);
  Sequence chosen(finding_);
  feed(chosen);
  const auto chooser = finding_.make_chooser(greedy, std::vector<Draw>{{.sequence = 0, .position = 3}});
  EXPECT_EQ(chosen.feed_chosen(*chooser).id, expected);
}

TEST_F(ChosenTokensTest, AnEmptiedCacheChangesNothing) {
  const RuntimeOpts opts = options();
  const std::vector<int64_t> whole = run(looking_, opts).ids;
  Sequence sequence(finding_);
  GenerationRequest request;
  request.prompt = {0, 100, 20, 30};
  request.seed = 3;
  request.on_token = [](int64_t /*id*/) {
    request_empty_cache();
    return true;
  };
  EXPECT_EQ(generate(sequence, finding_, opts, request).ids, whole);
}

TEST_F(ChosenTokensTest, ImpossibleLogitsAreTheCheckpointsFault) {
  Sequence sequence(finding_);
  GenerationRequest request;
  request.prompt = {0, 100};
  request.on_token = [&](int64_t /*id*/) {
    finding_.model().weights().out_norm.weight.fill_(std::numeric_limits<float>::quiet_NaN());
    return true;
  };
  test::expect_error([&] { (void)generate(sequence, finding_, options(), request); }, ExitCode::kCheckpoint,
                     {"logits", "NaN"});
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
