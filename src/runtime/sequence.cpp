#include "xlstm/runtime/sequence.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"

namespace xlstm {

Sequence::Sequence(Engine& engine) : engine_(engine), state_(engine.make_state(1)) {}

void Sequence::feed(std::span<const int64_t> ids, const LogitSink& every_row, OnStop on_stop) {
  engine_.require_ids(ids, "prompt");
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  if (!ids.empty()) forget_logits();  // they are those of an earlier last id
  const int64_t segment = engine_.segment_rows(static_cast<bool>(every_row));
  const auto total = static_cast<int64_t>(ids_.size());
  const int64_t to_feed = total - static_cast<int64_t>(fed_);
  const bool prefill = to_feed > 1;
  std::optional<Progress> progress;  // one token is a decode step
  if (prefill) progress.emplace(RunPhase::kPrefill, "prefill", to_feed, engine_.show_progress() && !every_row);
  while (has_pending()) {
    if (prefill && stop_requested()) {
      if (on_stop == OnStop::kAbandon) throw_if_stopped();
      ids_.resize(fed_ + 1);
      return;
    }
    const auto begin = static_cast<int64_t>(fed_);
    const int64_t rows = std::min(segment, total - begin);
    const bool last = begin + rows == total;
    plan_.clear();
    plan_.add(/*slot=*/0, rows, every_row ? LogitRows::kAll : last ? LogitRows::kLast : LogitRows::kNone);
    forget_logits();
    pass_ = engine_.forward(plan_, std::span(ids_).subspan(fed_, static_cast<size_t>(rows)), state_, on_stop);
    fed_ += static_cast<size_t>(rows);
    if (every_row) every_row(pass_->all());
    if (!last) pass_.reset();  // they are not those of the last id
    if (!prefill) continue;
    progress->advance(rows);
    run_counters().prompt_tokens.fetch_add(rows, std::memory_order_relaxed);
  }
}

void Sequence::append_pending(int64_t id) {
  XLSTM_ASSERT(!has_pending());
  ids_.push_back(id);
  forget_logits();
}

bool Sequence::can_choose() const {
  return pass_ && pass_->rows() > 0 && pass_->on_device().defined();
}

ChosenToken Sequence::feed_chosen(TokenChooser& chooser) {
  XLSTM_ASSERT(!has_pending() && can_choose());
  plan_.clear();
  plan_.add(/*slot=*/0, 1, LogitRows::kLast);
  pass_ = engine_.forward(plan_, chooser, std::move(pass_), state_, OnStop::kFinish);
  const ChosenToken chosen = chooser.wait().front();
  ids_.push_back(chosen.id);
  ++fed_;
  return chosen;
}

void Sequence::forget_logits() {
  pass_.reset();
  restored_logits_.clear();
}

std::span<const float> Sequence::logits() const {
  if (!pass_ || pass_->rows() == 0) return restored_logits_;
  return pass_->all().last(static_cast<size_t>(engine_.dims().vocab_size));
}

void Sequence::wait() const {
  if (pass_) pass_->wait();
}

std::span<const Candidate> Sequence::greatest(int64_t vocab, int64_t count) const {
  if (!pass_) return {};
  const std::span<const Candidate> of_rows = pass_->greatest(vocab, count);
  return of_rows.empty() ? of_rows : of_rows.last(static_cast<size_t>(count));
}

SavedState Sequence::save(uint64_t seed) const {
  SavedState saved;
  saved.dims = state_dims();
  saved.layers = state_.export_canonical(0);
  saved.ids = ids_;
  if (has_pending()) saved.pending_id = ids_.back();
  const std::span<const float> last_logits = logits();
  saved.logits.assign(last_logits.begin(), last_logits.end());
  saved.seed = seed;
  saved.position = ids_.size();
  saved.model_fingerprint = engine_.fingerprint();
  saved.dtype = engine_.resolution().weight_dtype;
  saved.state_dtype = engine_.state_dtype();
  return saved;
}

void Sequence::restore(const SavedState& saved) {
  XLSTM_ASSERT(saved.dims == state_dims());
  state_.import_canonical(0, saved.layers);
  ids_ = saved.ids;
  fed_ = ids_.size() - (saved.pending_id ? 1 : 0);
  forget_logits();
  restored_logits_ = saved.logits;
}

StateDims Sequence::state_dims() const {
  const ModelDims& dims = engine_.dims();
  return {engine_.model().num_blocks(), dims.num_heads, dims.head_dim_qk, dims.head_dim_v, dims.vocab_size};
}

}  // namespace xlstm
