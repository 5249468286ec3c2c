#include "xlstm/runtime/generator.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

int64_t choose(Sampler& sampler, const Sequence& sequence, int64_t usable_vocab) {
  const uint64_t position = sequence.ids().size();
  const std::span<const Candidate> greatest = sequence.greatest(usable_vocab, sampler.candidates_needed());
  if (!greatest.empty()) return sampler.sample(greatest, /*sequence=*/0, position);
  return sampler.sample(sequence.logits(), sequence.ids(), /*sequence=*/0, position);
}

void append(std::vector<float>& rows, std::span<const float> more) {
  rows.insert(rows.end(), more.begin(), more.end());
}

// The tokens of one generation, and the passes between them.
class Tokens {
 public:
  Tokens(Sequence& sequence, Engine& engine, Sampler& sampler, bool keep_logits)
      : sequence_(sequence), engine_(engine), sampler_(sampler), keep_logits_(keep_logits) {}

  // The next one. Behind the last one nothing is fed.
  int64_t next(bool is_last) {
    const bool on_device = !is_last && device_chooses();
    if (sequence_.has_pending()) sequence_.feed({}, {}, OnStop::kFinish);
    if (on_device) {
      const ChosenToken chosen = sequence_.feed_chosen(*chooser_);
      ++next_position_;
      Sampler::require_possible({chosen.greatest_id, chosen.greatest}, static_cast<double>(chosen.best));
      return chosen.id;
    }
    if (keep_logits_) append(logits_, sequence_.logits());
    const int64_t id = choose(sampler_, sequence_, engine_.usable_vocab());
    sequence_.append_pending(id);
    return id;
  }

  // Of each token, if they are kept.
  [[nodiscard]] std::vector<float>& logits() { return logits_; }

 private:
  // With a chooser for the next id's position. Not of logits that only the host has.
  bool device_chooses() {
    if (keep_logits_ || !may_choose_ || !(sequence_.has_pending() || sequence_.can_choose())) return false;
    const uint64_t position = sequence_.ids().size();
    if (chooser_ == nullptr || next_position_ != position) {
      const std::array<Draw, 1> draws = {Draw{.sequence = 0, .position = position}};
      chooser_ = engine_.make_chooser(sampler_, draws);
      next_position_ = position;
      may_choose_ = chooser_ != nullptr;
    }
    return may_choose_;
  }

  Sequence& sequence_;
  Engine& engine_;
  Sampler& sampler_;
  bool keep_logits_;
  std::vector<float> logits_;
  bool may_choose_ = true;                 // as far as is known
  std::unique_ptr<TokenChooser> chooser_;  // where the device chooses
  uint64_t next_position_ = 0;             // that it draws at
};

}  // namespace

SamplingOptions sampling_options(const RuntimeOpts& opts, uint64_t seed) {
  SamplingOptions sampling;
  sampling.temperature = opts.temperature;
  sampling.top_k = opts.top_k;
  sampling.top_p = opts.top_p;
  sampling.min_p = opts.min_p;
  sampling.repeat_penalty = opts.repeat_penalty;
  sampling.repeat_last_n = opts.repeat_last_n;
  sampling.seed = seed;
  return sampling;
}

std::vector<int64_t> end_of_text_ids(const Engine& engine, std::string* note) {
  const Tokenizer* tokenizer = engine.tokenizer();
  std::vector<int64_t> ids;
  std::vector<std::string> ordinary;
  for (const int64_t id : engine.eos_ids()) {
    const bool known = tokenizer != nullptr && tokenizer->has_id(id);
    if (tokenizer != nullptr ? tokenizer->is_special(id) : id == engine.bos_id()) {
      ids.push_back(id);
    } else {
      ordinary.push_back(known ? cat(id, " (\"", printable(tokenizer->token_bytes(id)), "\")") : std::to_string(id));
    }
  }
  if (ids.empty()) {
    // The family's texts begin and end with the same token.
    const std::optional<int64_t> named =
        tokenizer != nullptr ? tokenizer->id_of("<|endoftext|>") : std::optional<int64_t>();
    ids.push_back(named.value_or(engine.bos_id()));
  }
  if (note != nullptr && !ordinary.empty()) {
    *note = cat("eos_token_id ", join(ordinary, ", "), " in the checkpoint's configuration ends no text; id ",
                ids.front(), " does");
  }
  return ids;
}

GenerationResult generate(Sequence& sequence, Engine& engine, const RuntimeOpts& opts,
                          const GenerationRequest& request) {
  GenerationResult result;
  const std::vector<int64_t> end_of_text = end_of_text_ids(engine);
  Sampler sampler(sampling_options(opts, request.seed), engine.usable_vocab(), engine.unused_ids());

  if (sequence.has_pending()) result.prompt_ids.push_back(sequence.ids().back());
  result.prompt_ids.insert(result.prompt_ids.end(), request.prompt.begin(), request.prompt.end());
  if (result.prompt_ids.empty() && sequence.logits().empty()) {
    fail(ExitCode::kUsage, "prompt", "command line", "at least one token", "none");
  }

  const size_t before = sequence.ids().size();
  const Clock::time_point start = Clock::now();
  const LogitSink keep = [&](std::span<const float> rows) { append(result.prompt_logits, rows); };
  sequence.feed(request.prompt, request.keep_logits ? keep : LogitSink(), request.on_stop);
  sequence.wait();
  Clock::time_point previous = Clock::now();
  result.prefill_seconds = seconds_between(start, previous);

  if (sequence.has_pending()) {
    const size_t dropped = request.prompt.size() - (sequence.ids().size() - before);
    result.prompt_ids.resize(result.prompt_ids.size() - dropped - 1);
    result.finish = FinishReason::kInterrupted;
    return result;
  }

  const int64_t limit = opts.max_new_tokens < 0 ? std::numeric_limits<int64_t>::max() : opts.max_new_tokens;
  Tokens tokens(sequence, engine, sampler, request.keep_logits);
  begin_phase(RunPhase::kDecode, std::max<int64_t>(0, opts.max_new_tokens));
  for (int64_t step = 0; step < limit; ++step) {
    if (stop_requested()) {
      result.finish = FinishReason::kInterrupted;
      break;
    }
    const int64_t id = tokens.next(/*is_last=*/step + 1 == limit);
    result.ids.push_back(id);
    run_counters().done.store(step + 1, std::memory_order_relaxed);
    run_counters().decoded_tokens.fetch_add(1, std::memory_order_relaxed);
    const Clock::time_point now = Clock::now();
    if (step > 0) {
      result.decode_seconds += seconds_between(previous, now);
      if (request.on_step) request.on_step({step, seconds_between(previous, now)});
    }
    previous = now;
    const bool go_on = !request.on_token || request.on_token(id);
    if (!opts.ignore_eos && std::find(end_of_text.begin(), end_of_text.end(), id) != end_of_text.end()) {
      result.finish = FinishReason::kEndOfText;
      break;
    }
    if (!go_on) {
      result.finish = FinishReason::kStopString;
      break;
    }
  }
  result.logits = std::move(tokens.logits());
  return result;
}

}  // namespace xlstm
