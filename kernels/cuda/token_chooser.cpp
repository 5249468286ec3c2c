#include "kernels/cuda/token_chooser.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cuda/choice.h"
#include "kernels/cuda/rows.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

template <class T>
T* mutable_data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

class Chooser : public TokenChooser {
 public:
  Chooser(std::shared_ptr<Gpu> gpu, const ChoiceRules& rules, std::span<const Draw> draws)
      : gpu_(std::move(gpu)), rows_(static_cast<int64_t>(draws.size())), vocab_(rules.usable_vocab) {
    const int64_t count = rules.candidates();
    XLSTM_ASSERT(rows_ >= 1 && rules.top_k >= 1 && rules.temperature > 0 && count >= 1 && count <= kMaxCandidates);
    const auto empty = [&](at::IntArrayRef shape, at::ScalarType type) {
      return at::empty(shape, at::TensorOptions().device(gpu_->tensors).dtype(type));
    };
    candidates_ = empty({rows_, count, 2}, at::kInt);
    keys_ = empty({candidate_scratch(rows_, vocab_, count)}, at::kLong);
    ids_ = empty({rows_}, at::kInt);
    banned_ = at::tensor(rules.banned, at::kInt).to(gpu_->tensors);
    at::Tensor numbers = at::empty({rows_, 2}, at::kLong);
    auto* number = mutable_data<uint64_t>(numbers);
    for (const Draw& draw : draws) {
      *number++ = draw.sequence;
      *number++ = draw.position;
      next_positions_.push_back(draw.position);
    }
    draws_ = numbers.to(gpu_->tensors);
    tokens_.resize(draws.size());
    choice_ = {.candidates = mutable_data<int32_t>(candidates_),
               .rows = rows_,
               .count = count,
               .banned = mutable_data<int32_t>(banned_),
               .banned_count = static_cast<int64_t>(rules.banned.size()),
               .top_k = rules.top_k,
               .top_p = rules.top_p,
               .log_min_p = std::log(rules.min_p),
               .temperature = rules.temperature,
               .seed = rules.seed,
               .draws = mutable_data<uint64_t>(draws_),
               .ids = mutable_data<int32_t>(ids_),
               .chosen = static_cast<ChosenRow*>(allocate_pinned(draws.size() * sizeof(ChosenRow)))};
    for (size_t row = 0; row < draws.size(); ++row) choice_.chosen[row] = {{}, draws[row].position - 1};
  }
  ~Chooser() override {
    try {
      gpu_->queue.wait();     // it may still write there
    } catch (const Error&) {  // whoever uses the device next is told
    }
    free_pinned(choice_.chosen);
  }
  Chooser(const Chooser&) = delete;
  Chooser& operator=(const Chooser&) = delete;

  const at::Tensor& choose(const at::Tensor& logits) override {
    XLSTM_ASSERT(is_waited_for_);
    XLSTM_ASSERT(logits.size(0) == rows_ && logits.size(1) >= vocab_ && logits.stride(1) == 1);
    gpu_->queue.keep_together();
    find_candidates(gpu_->queue, {.logits = static_cast<const float*>(logits.const_data_ptr()),
                                  .stride = logits.stride(0),
                                  .rows = rows_,
                                  .vocab = vocab_,
                                  .count = choice_.count,
                                  .out = mutable_data<int32_t>(candidates_),
                                  .scratch = mutable_data<uint64_t>(keys_)});
    choose_tokens(gpu_->queue, choice_);
    is_waited_for_ = false;
    return ids_;
  }

  std::span<const ChosenToken> wait() override {
    if (is_waited_for_) return tokens_;
    for (size_t row = 0; row < tokens_.size(); ++row) {
      gpu_->queue.wait_for(&choice_.chosen[row].position, next_positions_[row]++);
      tokens_[row] = choice_.chosen[row].token;
    }
    is_waited_for_ = true;
    return tokens_;
  }

 private:
  std::shared_ptr<Gpu> gpu_;
  int64_t rows_;
  int64_t vocab_;
  at::Tensor candidates_, keys_, ids_, draws_, banned_;
  Choice choice_{};  // of every pass
  std::vector<uint64_t> next_positions_;
  std::vector<ChosenToken> tokens_;
  bool is_waited_for_ = true;
};

}  // namespace

std::unique_ptr<TokenChooser> make_token_chooser(std::shared_ptr<Gpu> gpu, const ChoiceRules& rules,
                                                 std::span<const Draw> draws) {
  return std::make_unique<Chooser>(std::move(gpu), rules, draws);
}

}  // namespace xlstm::cuda
