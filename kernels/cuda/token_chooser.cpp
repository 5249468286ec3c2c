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
      : gpu_(std::move(gpu)), rules_(rules), rows_(static_cast<int64_t>(draws.size())), count_(rules.candidates()) {
    XLSTM_ASSERT(rows_ >= 1 && rules.top_k >= 1 && rules.temperature > 0 && count_ >= 1 && count_ <= kMaxCandidates);
    const auto empty = [&](at::IntArrayRef shape, at::ScalarType type) {
      return at::empty(shape, at::TensorOptions().device(gpu_->tensors).dtype(type));
    };
    candidates_ = empty({rows_, count_, 2}, at::kInt);
    keys_ = empty({candidate_scratch(rows_, rules.usable_vocab, count_)}, at::kLong);
    ids_ = empty({rows_}, at::kInt);
    at::Tensor numbers = at::empty({rows_, 2}, at::kLong);
    auto* number = mutable_data<uint64_t>(numbers);
    for (const Draw& draw : draws) {
      *number++ = draw.sequence;
      *number++ = draw.position;
      next_positions_.push_back(draw.position);
    }
    draws_ = numbers.to(gpu_->tensors);
    banned_ = at::tensor(rules.banned, at::kInt).to(gpu_->tensors);
    tokens_.resize(draws.size());
    chosen_ = static_cast<ChosenRow*>(allocate_pinned(draws.size() * sizeof(ChosenRow)));
    for (const Draw& draw : draws) chosen_[&draw - draws.data()] = {{}, draw.position - 1};
  }
  ~Chooser() override {
    try {
      gpu_->queue.wait();     // it may still write there
    } catch (const Error&) {  // whoever uses the device next is told
    }
    free_pinned(chosen_);
  }
  Chooser(const Chooser&) = delete;
  Chooser& operator=(const Chooser&) = delete;

  const at::Tensor& choose(const at::Tensor& logits) override {
    XLSTM_ASSERT(logits.size(0) == rows_ && logits.size(1) >= rules_.usable_vocab && logits.stride(1) == 1);
    gpu_->queue.keep_together();
    find_candidates(gpu_->queue, {.logits = static_cast<const float*>(logits.const_data_ptr()),
                                  .stride = logits.stride(0),
                                  .rows = rows_,
                                  .vocab = rules_.usable_vocab,
                                  .count = count_,
                                  .out = mutable_data<int32_t>(candidates_),
                                  .scratch = mutable_data<uint64_t>(keys_)});
    choose_tokens(gpu_->queue, {.candidates = mutable_data<int32_t>(candidates_),
                                .rows = rows_,
                                .count = count_,
                                .banned = mutable_data<int32_t>(banned_),
                                .banned_count = static_cast<int64_t>(rules_.banned.size()),
                                .top_k = rules_.top_k,
                                .top_p = rules_.top_p,
                                .log_min_p = std::log(rules_.min_p),
                                .temperature = rules_.temperature,
                                .seed = rules_.seed,
                                .draws = mutable_data<uint64_t>(draws_),
                                .ids = mutable_data<int32_t>(ids_),
                                .chosen = chosen_});
    is_waited_for_ = false;
    return ids_;
  }

  std::span<const ChosenToken> wait() override {
    if (is_waited_for_) return tokens_;
    for (size_t row = 0; row < tokens_.size(); ++row) {
      gpu_->queue.wait_for(&chosen_[row].position, next_positions_[row]++);
      tokens_[row] = chosen_[row].token;
    }
    is_waited_for_ = true;
    return tokens_;
  }

 private:
  std::shared_ptr<Gpu> gpu_;
  ChoiceRules rules_;
  int64_t rows_;
  int64_t count_;
  at::Tensor candidates_, keys_, ids_, draws_, banned_;
  ChosenRow* chosen_ = nullptr;
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
