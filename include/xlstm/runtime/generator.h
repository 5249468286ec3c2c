// Prompt in, tokens out: sampling, stopping and timing of one generation.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/runtime/engine.h"
#include "xlstm/runtime/sequence.h"
#include "xlstm/text/sampler.h"

namespace xlstm {

enum class FinishReason { kLength, kEndOfText, kStopString, kInterrupted };

// One decode step: one token fed and the next one chosen. The first token of a generation comes out of the prefill and
// is no step.
struct StepTiming {
  int64_t step = 0;    // from 1
  double seconds = 0;  // from the previous token to this one
};

struct GenerationRequest {
  std::vector<int64_t> prompt;  // fed as given; may be empty when the sequence has logits or a pending id
  uint64_t seed = 0;
  // Called with each new id, an end-of-text id included; false ends the generation after this id.
  std::function<bool(int64_t id)> on_token;
  std::function<void(const StepTiming&)> on_step;
  // Keep the logits for --dump-logits.
  bool keep_logits = false;
  // What a requested stop does to the prefill: kFinish if the sequence is to be saved afterwards.
  OnStop on_stop = OnStop::kAbandon;
};

struct GenerationResult {
  std::vector<int64_t> prompt_ids;   // what was fed, a pending id of an earlier run included
  std::vector<int64_t> ids;          // what was generated
  std::vector<float> prompt_logits;  // [prompt_ids, V], if kept
  std::vector<float> logits;         // [ids, V]: row j is what ids[j] was chosen from, if kept
  FinishReason finish = FinishReason::kLength;
  double prefill_seconds = 0;  // to the logits behind the prompt
  double decode_seconds = 0;   // of all steps: ids.size() - 1 of them
};

[[nodiscard]] SamplingOptions sampling_options(const RuntimeOpts& opts, uint64_t seed);

// The ids that end a text for this engine's model and tokenizer. A configured id that the tokenizer has as an ordinary
// token (2, "!", in the xLSTM-7b configuration) is not believed; `note`, if given, then says so.
[[nodiscard]] std::vector<int64_t> end_of_text_ids(const Engine& engine, std::string* note = nullptr);

// Continues `sequence`. The last generated id stays pending, or, where the device chose it and went on at once, is fed:
// a saved state continues exactly in either case. Random numbers depend on (seed, position in the sequence) only.
//
// A requested stop (xlstm/core/stop.h) ends decoding after the current token with kInterrupted. In the prefill it
// throws Stopped or, with kFinish, returns kInterrupted and the ids that were fed.
GenerationResult generate(Sequence& sequence, Engine& engine, const RuntimeOpts& opts,
                          const GenerationRequest& request);

}  // namespace xlstm
