// One text being processed: the ids fed so far, the state behind them, and the logits of the last one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "xlstm/io/state_file.h"
#include "xlstm/runtime/engine.h"

namespace xlstm {

// Called with the logits [rows, V] of consecutive rows as they are computed; valid during the call.
using LogitSink = std::function<void(std::span<const float> logits)>;

// Used by the engine's thread while the engine lives.
class Sequence {
 public:
  explicit Sequence(Engine& engine);

  // Feeds ids behind those fed so far, in segments. With `every_row` set it receives all rows' logits, in order.
  // Error kUsage for an id outside the vocabulary; nothing is fed then.
  //
  // A requested stop throws Stopped with kAbandon, and the sequence is of no use any more; with kFinish feeding ends
  // after the current segment (before the first one, if the stop came earlier): the next id is then pending and the
  // rest is dropped.
  void feed(std::span<const int64_t> ids, const LogitSink& every_row = {}, OnStop on_stop = OnStop::kAbandon);

  // Appends an id without feeding it: it is pending until the next feed(), of no further ids maybe.
  void append_pending(int64_t id);
  [[nodiscard]] bool has_pending() const { return fed_ < ids_.size(); }

  // Whether feed_chosen() can: the logits after the last id are on the device.
  [[nodiscard]] bool can_choose() const;
  // Appends and feeds the token that `chooser`, of this engine and one row, chooses from these logits. The device is
  // still at that when this returns.
  ChosenToken feed_chosen(TokenChooser& chooser);

  // Every id seen, a pending one included.
  [[nodiscard]] const std::vector<int64_t>& ids() const { return ids_; }

  // Logits [V] after the last id; empty before the first one and while an id is pending. Valid until the engine's next
  // pass; another call after it gives them again.
  [[nodiscard]] std::span<const float> logits() const;

  // Returns when these logits have been computed: a device may still be at it when feed() returns.
  void wait() const;

  // The `count` greatest of the first `vocab` of these logits, for a Sampler. Empty where logits() is the way: on a
  // device that does not find so many, for logits of a state file, and if logits() was called before.
  [[nodiscard]] std::span<const Candidate> greatest(int64_t vocab, int64_t count) const;

  // Back and forth to a state file. `seed` goes along for the sampler of the next run.
  [[nodiscard]] SavedState save(uint64_t seed) const;
  void restore(const SavedState& saved);
  [[nodiscard]] StateDims state_dims() const;

 private:
  void forget_logits();

  Engine& engine_;
  State state_;
  std::vector<int64_t> ids_;
  size_t fed_ = 0;
  std::shared_ptr<PassLogits> pass_;    // whose last row has the logits, if it was a pass of this object
  std::vector<float> restored_logits_;  // those of a state file otherwise
  RowPlan plan_;
};

}  // namespace xlstm
