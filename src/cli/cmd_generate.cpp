#include <cstring>
#include <filesystem>
#include <random>
#include <span>

#include "src/cli/commands.h"
#include "src/cli/output_files.h"
#include "src/cli/setup.h"
#include "src/cli/watched_run.h"
#include "xlstm/core/files.h"
#include "xlstm/core/log.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/io/safetensors.h"
#include "xlstm/runtime/generator.h"
#include "xlstm/runtime/stats_log.h"
#include "xlstm/text/stop_strings.h"
#include "xlstm/text/stream_decoder.h"

namespace xlstm {
namespace {

// Streams the continuation: text through the decoder and the stop strings, or ids where there is no tokenizer.
class Output {
 public:
  Output(const Tokenizer* tokenizer, const std::vector<std::string>& stops) : stops_(stops) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  }

  void echo(std::string_view text) { print(text); }

  // False once a stop string has been generated.
  bool push(int64_t id) {
    if (!decoder_) {
      print(cat(first_ ? "" : " ", id));
      first_ = false;
      return true;
    }
    print(stops_.push(decoder_->push(id)));
    return !stops_.stopped();
  }

  void finish() {
    if (decoder_ && !stops_.stopped()) {
      print(stops_.push(decoder_->finish()));
      print(stops_.finish());
    }
    if (last_ != '\n' && (stdout_is_terminal() || !decoder_)) print("\n");
  }

 private:
  void print(std::string_view text) {
    if (text.empty()) return;
    print_out(text);
    last_ = text.back();
  }

  std::optional<StreamDecoder> decoder_;
  StopStrings stops_;
  bool first_ = true;
  char last_ = '\n';
};

// What was asked for, read before the model is loaded.
struct Prompt {
  std::string text;
  std::vector<int64_t> ids;  // given as ids: fed exactly so
};

Prompt read_request(const Arguments& args) {
  if (args.prompt_ids) return {"", *args.prompt_ids};
  return {read_prompt(args).value_or(""), {}};
}

// The ids to feed. A loaded state goes on where it stopped; only a fresh text begins with BOS.
std::vector<int64_t> prompt_ids(const Prompt& prompt, const Engine& engine, bool begin_of_text) {
  if (!prompt.ids.empty()) return prompt.ids;
  std::vector<int64_t> ids;
  if (begin_of_text) ids.push_back(engine.bos_id());
  if (prompt.text.empty()) return ids;
  if (engine.tokenizer() == nullptr) {
    fail(ExitCode::kCheckpoint, "tokenizer.json", "checkpoint", "one, to encode a text prompt (or use --prompt-ids)",
         "none");
  }
  const std::vector<int64_t> text_ids = engine.tokenizer()->encode(prompt.text);
  ids.insert(ids.end(), text_ids.begin(), text_ids.end());
  return ids;
}

// A state's seed makes the continued run draw as one run would have; a seed that was asked for wins.
uint64_t choose_seed(const RuntimeOpts& opts, const std::optional<SavedState>& loaded) {
  if (opts.seed >= 0) return static_cast<uint64_t>(opts.seed);
  if (loaded) return loaded->seed;
  // 53 bits: a number that survives JSON and fits the option.
  std::random_device device;
  return ((static_cast<uint64_t>(device()) << 32) | device()) >> 11;
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span<const T>(values));
}

void dump_logits(const std::string& path, const GenerationResult& result, int64_t vocab) {
  const auto prompt_rows = static_cast<int64_t>(result.prompt_ids.size());
  const auto rows = static_cast<int64_t>(result.ids.size());
  SafetensorsWriter writer;
  writer.add("prompt_ids", DType::I64, {prompt_rows}, bytes_of(result.prompt_ids));
  writer.add("prompt_logits", DType::F32, {prompt_rows, vocab}, bytes_of(result.prompt_logits));
  writer.add("ids", DType::I64, {rows}, bytes_of(result.ids));
  writer.add("logits", DType::F32, {rows, vocab}, bytes_of(result.logits));
  writer.write(path);
}

// `steps` of the tokens took the seconds: the first generated token comes out of the prefill.
std::string rate(size_t tokens, size_t steps, double seconds) {
  const std::string count = cat(tokens, tokens == 1 ? " token" : " tokens");
  if (steps == 0 || seconds <= 0) return count;
  return cat(count, " in ", fixed(seconds, 3), " s (", fixed(static_cast<double>(steps) / seconds, 1), " tok/s)");
}

void log_summary(const GenerationResult& result) {
  const char* why = result.finish == FinishReason::kLength       ? "length reached"
                    : result.finish == FinishReason::kEndOfText  ? "end of text"
                    : result.finish == FinishReason::kStopString ? "stop string"
                                                                 : "interrupted";
  const size_t generated = result.ids.size();
  log::info(cat("prompt: ", rate(result.prompt_ids.size(), result.prompt_ids.size(), result.prefill_seconds),
                "; decode: ", rate(generated, generated > 0 ? generated - 1 : 0, result.decode_seconds), "; ", why));
}

void log_resolution(const Resolution& r, const EffectiveConfig& config) {
  log::info(cat("device ", r.device, ", weights ", r.weight_dtype, ", operations ", r.ops, ", kernels ", r.chunkwise,
                ", ", r.sequence, ", step ", r.step, ", threads ", r.threads, ", chunk_size ", config.opts.chunk_size,
                " (", config.origin.at("chunk_size"), ")"));
}

// What goes wrong with files is found out before the work rather than after it.
void require_files(const Arguments& args, const RuntimeOpts& opts, const ModelChoice& model) {
  check_outputs({{"--state-save", args.state_save.value_or("")},
                 {"--dump-logits", args.dump_logits.value_or("")},
                 {"--stats-log", opts.stats_log},
                 {"--mem-log", opts.mem_log},
                 {"--log-file", opts.log_file}},
                model.directory);
  for (const std::string& path :
       {args.state_save.value_or(""), args.dump_logits.value_or(""), opts.stats_log, opts.mem_log}) {
    if (!path.empty()) const AtomicFile probe(path);
  }
  if (args.state_load) const SafetensorsFile probe(*args.state_load);
}

// Loads a state into the sequence; nothing without --state-load.
std::optional<SavedState> restore(const Arguments& args, const RuntimeOpts& opts, const Engine& engine,
                                  Sequence& sequence) {
  if (!args.state_load) return std::nullopt;
  SavedState saved = load_state(*args.state_load, engine.fingerprint(), sequence.state_dims());
  const std::string& dtype = engine.resolution().weight_dtype;
  if (saved.dtype != dtype || saved.state_dtype != opts.state_dtype) {
    log::warn(cat("the state was computed with ", saved.dtype, " weights and a ", saved.state_dtype,
                  " state, this run uses ", dtype, " and ", opts.state_dtype,
                  ": the continuation may differ from that of one run"));
  }
  sequence.restore(saved);
  return saved;
}

ExitCode generate_text(const Arguments& args, const RuntimeOpts& opts, Engine engine, const Prompt& prompt) {
  std::string eos_note;
  (void)end_of_text_ids(engine, &eos_note);
  if (!eos_note.empty()) log::info(eos_note);

  Sequence sequence(engine);
  const std::optional<SavedState> loaded = restore(args, opts, engine, sequence);
  const std::vector<int64_t> ids = prompt_ids(prompt, engine, opts.add_bos && !loaded);
  const uint64_t seed = choose_seed(opts, loaded);
  if (opts.temperature > 0) log::info(cat("seed ", seed));

  Output output(engine.tokenizer(), opts.stop);
  if (args.echo) {
    const bool decode = prompt.text.empty() && engine.tokenizer() != nullptr;
    output.echo(decode ? engine.tokenizer()->decode(ids, true) : prompt.text);
  }
  StatsLog stats(opts.stats_log, opts.stats_every);
  GenerationRequest request;
  request.prompt = ids;
  request.seed = seed;
  request.keep_logits = args.dump_logits.has_value();
  if (args.state_save || args.dump_logits) request.on_stop = OnStop::kFinish;
  request.on_token = [&](int64_t id) { return output.push(id); };
  request.on_step = [&](const StepTiming& timing) { stats.add(timing); };
  const GenerationResult result = generate(sequence, engine, opts, request);
  output.finish();

  // The state first: it cannot be had again if another file does not fit on the disk.
  if (args.state_save) save_state(*args.state_save, sequence.save(seed));
  stats.finish();
  if (args.dump_logits) dump_logits(*args.dump_logits, result, engine.dims().vocab_size);
  log_summary(result);
  if (result.finish == FinishReason::kInterrupted) throw_if_stopped();
  return ExitCode::kOk;
}

}  // namespace

ExitCode run_generate(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  const Resolution resolution = resolve_run(args, config.opts);
  const ModelChoice model = require_model(args);
  require_files(args, config.opts, model);
  const Prompt prompt = read_request(args);
  if (model.bundled) log::info(cat("no model given (-m): using the bundled ", model.directory.string()));
  log_resolution(resolution, config);
  EngineSettings settings;
  settings.force = args.force;
  // A text has no more tokens than bytes, and BOS.
  settings.longest_prompt = static_cast<int64_t>(prompt.ids.empty() ? prompt.text.size() + 1 : prompt.ids.size());
  settings.all_logits = args.dump_logits.has_value();
  if (settings.all_logits) settings.kept_logit_rows = settings.longest_prompt;
  return watch_run({args, config, resolution, model.directory}, [&] {
    return generate_text(args, config.opts, Engine::load(config.opts, resolution, model.directory, settings), prompt);
  });
}

}  // namespace xlstm
