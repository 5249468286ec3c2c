#include "src/cli/command_flags.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using Values = std::vector<std::string>;

constexpr std::array kCommands = {
    Command{"generate", "[flags]", "continue a prompt; this is what runs without a command"},
    Command{"info", "[flags]", "devices, kernels and where they run, thread budget, model facts"},
    Command{"bench", "[flags]", "speed of prefill and decode"},
    Command{"selftest", "[flags]", "every kernel against the reference, the bundled model against stored results"},
    Command{"tune", "[flags]", "search the scheduling settings that are fastest here"},
    Command{"perplexity", "-f FILE [flags]", "negative log-likelihood and perplexity of a text"},
    Command{"tokenize", "[flags]", "text to token ids, or ids to text"},
    Command{"quantize", "-o DIR [flags]", "write an int8 or int4 checkpoint made of a float one"},
    Command{"check", "[DIR] [flags]", "list a checkpoint's tensors and what is missing, without loading weights"},
    Command{"monitor", "[flags]", "watch the running xlstm_generate processes of this user"},
};

// Aliases of configuration flags.
struct Alias {
  std::string_view key;
  std::string_view name;
};
constexpr std::array kAliases = {Alias{"max_new_tokens", "-n"}, Alias{"seed", "-s"}, Alias{"threads", "-t"},
                                 Alias{"temperature", "--temp"}};

// --version and --help end parsing before anything is stored.
void store_nothing(Arguments&, const Values&, const ValueSource&) {}

constexpr std::string_view kInput = "Model and prompt";
constexpr std::string_view kOutput = "Output and state";
constexpr std::string_view kConfiguration = "Configuration";
constexpr std::string_view kCommand = "Flags of this command";
constexpr std::string_view kGeneral = "General";

std::vector<std::string> split_at(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

const std::string& non_empty(const Values& values, const ValueSource& source) {
  if (values.back().empty()) fail(ExitCode::kUsage, source.what, source.where, "a non-empty value", "\"\"");
  return values.back();
}

bool is_on(const Values& values, const ValueSource& source) {
  const std::string& value = values.back();
  if (value != "true" && value != "false") {
    fail(ExitCode::kUsage, source.what, source.where, "true or false", cat('"', printable(value), '"'));
  }
  return value == "true";
}

struct Bounds {
  int64_t min;
  int64_t max;
};
constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max();
// Far beyond any measurement, and small enough that their products with sizes do not overflow.
constexpr int64_t kMaxBenchTokens = 100'000'000;
constexpr int64_t kMaxBenchBatch = 65'536;
constexpr int64_t kMaxBenchRepeats = 10'000;
constexpr int64_t kMaxTuneHeads = 65'536;
constexpr int64_t kMaxTuneTrials = 100'000;

int64_t integer_from(std::string_view text, const Bounds& bounds, const ValueSource& source) {
  const std::string expected = bounds.max == kNoBound ? cat("an integer, at least ", bounds.min)
                                                      : cat("an integer from ", bounds.min, " to ", bounds.max);
  const int64_t value = parse_integer(text, source, expected);
  if (value < bounds.min || value > bounds.max)
    fail(ExitCode::kUsage, source.what, source.where, expected, std::to_string(value));
  return value;
}

// Comma-separated integers of every time the flag was given.
std::vector<int64_t> integers(const Values& values, const Bounds& bounds, const ValueSource& source) {
  std::vector<int64_t> numbers;
  for (const std::string& value : values) {
    for (const std::string& text : split_commas(value)) numbers.push_back(integer_from(text, bounds, source));
  }
  return numbers;
}

// The last value, which must be one of the blank-separated `choices`.
std::string one_of(std::string_view choices, const Values& values, const ValueSource& source) {
  const std::vector<std::string> known = split_at(choices, ' ');
  if (std::find(known.begin(), known.end(), values.back()) == known.end()) {
    fail(ExitCode::kUsage, source.what, source.where, cat("one of ", join(known, ", ")),
         cat('"', printable(values.back()), '"'));
  }
  return values.back();
}

// "1-8", or "4" for 4-4.
IntRange range(const Values& values, const Bounds& bounds, const ValueSource& source) {
  const std::vector<std::string> ends = split_at(values.back(), '-');
  const std::string expected = cat("a range like 1-8, from ", bounds.min, " to ", bounds.max);
  const std::string got = cat('"', printable(values.back()), '"');
  const bool numbers = std::all_of(ends.begin(), ends.end(), [](const std::string& end) {
    return !end.empty() && end.find_first_not_of("0123456789") == std::string::npos;
  });
  if (ends.size() > 2 || !numbers) fail(ExitCode::kUsage, source.what, source.where, expected, got);
  const IntRange parsed{parse_integer(ends.front(), source, expected), parse_integer(ends.back(), source, expected)};
  if (parsed.min < bounds.min || parsed.max > bounds.max || parsed.min > parsed.max) {
    fail(ExitCode::kUsage, source.what, source.where, expected, got);
  }
  return parsed;
}

// Values of a configuration option, separated by commas, each checked as the option's own.
Values option_texts(std::string_view key, const Values& values, const ValueSource& source) {
  Values texts;
  for (const std::string& value : values) {
    for (std::string& text : split_commas(value)) {
      (void)option_from_text(*find_option(key), {text}, source);
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

std::vector<int64_t> option_integers(std::string_view key, const Values& values, const ValueSource& source) {
  std::vector<int64_t> numbers;
  for (const std::string& text : option_texts(key, values, source)) {
    numbers.push_back(parse_integer(text, source, "an integer"));
  }
  return numbers;
}

// Seconds between two looks.
double seconds(const Values& values, const ValueSource& source) {
  const char* expected = "seconds from 0.05 to 3600";
  const double value = parse_number(values.back(), source, expected);
  if (!(value >= 0.05 && value <= 3600)) fail(ExitCode::kUsage, source.what, source.where, expected, values.back());
  return value;
}

constexpr std::array kFlags = {
    CommandFlag{"-m,--model,--model-path", "DIR", "*", kInput,
                "checkpoint directory in Hugging Face layout (default: the bundled model)",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.model = non_empty(v, s); }},
    CommandFlag{"--force", "", "generate bench selftest perplexity tune", kInput,
                "load although memory is estimated not to suffice",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.force = is_on(v, s); }},
    CommandFlag{"-p,--prompt", "TEXT", "generate tokenize", kInput, "the text itself",
                [](Arguments& a, const Values& v, const ValueSource&) { a.prompt = v.back(); }},
    CommandFlag{"-f,--prompt-file", "FILE", "generate tokenize", kInput, "a file with the text; -: stdin",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.prompt_file = non_empty(v, s); }},
    CommandFlag{"--prompt-ids", "LIST", "generate", kInput, "token ids like 1,2,3, fed exactly as given",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.prompt_ids = integers({v.back()}, {0, kNoBound}, s);
                }},
    CommandFlag{"-e,--escapes", "", "generate tokenize", kInput, "interpret \\n, \\t, \\\\ and the like in -p",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.escapes = is_on(v, s); }},

    CommandFlag{"--echo", "", "generate", kOutput, "print the prompt before the continuation",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.echo = is_on(v, s); }},
    CommandFlag{"--state-save", "FILE", "generate", kOutput, "save the model's state at the end, to go on from later",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.state_save = non_empty(v, s); }},
    CommandFlag{"--state-load", "FILE", "generate", kOutput, "go on from a saved state",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.state_load = non_empty(v, s); }},
    CommandFlag{"--dump-logits", "FILE", "generate", kOutput, "write ids and logits as safetensors",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.dump_logits = non_empty(v, s); }},

    CommandFlag{
        "--shape", "SHAPE", "bench tune", kCommand,
        "a synthetic model: 7b, 406m, or E=1024,blocks=24,heads=4,vocab=50304",
        [](Arguments& a, const Values& v, const ValueSource& s) { a.bench.shape = a.tune.shape = non_empty(v, s); }},
    CommandFlag{"--speed", "SHAPE", "selftest", kCommand,
                "also time each operation of a decode step, on one block of this shape; none: not "
                "[default on a GPU: E=4096,heads=8,vocab=8192, on a CPU: none]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.selftest.speed = non_empty(v, s); }},
    CommandFlag{"-p,--n-prompt", "LIST", "bench", kCommand, "prompt lengths to prefill; 0: none [default 512]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.n_prompt = integers(v, {0, kMaxBenchTokens}, s);
                }},
    CommandFlag{"-n,--n-gen", "LIST", "bench", kCommand, "numbers of tokens to decode; 0: none [default 128]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.n_gen = integers(v, {0, kMaxBenchTokens}, s);
                }},
    CommandFlag{"-b,--batch", "LIST", "bench", kCommand, "numbers of sequences side by side [default 1]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.batch = integers(v, {1, kMaxBenchBatch}, s);
                }},
    CommandFlag{"-r,--repeats", "N", "bench", kCommand, "runs per row, of which the median counts [default 5]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.repeats = integer_from(v.back(), {1, kMaxBenchRepeats}, s);
                }},
    CommandFlag{"--cell", "", "bench", kCommand,
                "prefill rows measure the chunkwise kernel alone, on one block; nothing is decoded",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.bench.cell = is_on(v, s); }},
    CommandFlag{"--limits", "", "bench", kCommand,
                "measure what the machine can do at most, around every sample too, and each row's share of it",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.bench.limits = is_on(v, s); }},
    CommandFlag{"--compare", "FILE", "bench", kCommand,
                "earlier results (-o json or jsonl): each row's speed as a ratio to theirs",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.bench.compare = non_empty(v, s); }},
    CommandFlag{"--chunkwise-backend", "LIST", "bench", kCommand, "prefill kernels side by side, a row each",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.chunkwise_backend = option_texts("chunkwise_backend", v, s);
                }},
    CommandFlag{
        "--dtype", "LIST", "bench", kCommand, "weight types side by side",
        [](Arguments& a, const Values& v, const ValueSource& s) { a.bench.dtype = option_texts("dtype", v, s); }},
    CommandFlag{"--state-dtype", "LIST", "bench", kCommand, "types of the state C and n, side by side",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.state_dtype = option_texts("state_dtype", v, s);
                }},
    CommandFlag{"--chunk-size", "LIST", "bench", kCommand, "tokens per chunk, side by side",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.chunk_size = option_integers("chunk_size", v, s);
                }},
    CommandFlag{"--heads-per-band", "LIST", "bench", kCommand, "heads per scheduled task, side by side",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.heads_per_band = option_integers("heads_per_band", v, s);
                }},
    CommandFlag{"--workers", "LIST", "bench", kCommand, "scheduler threads, side by side",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.workers = option_integers("workers", v, s);
                }},
    CommandFlag{"-t,--threads", "LIST", "bench", kCommand, "threads inside operations, side by side",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.threads = option_integers("threads", v, s);
                }},
    CommandFlag{"-o,--output", "FORMAT", "bench", kCommand, "table, csv, json, jsonl or md [default table]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.bench.output = one_of("table csv json jsonl md", v, s);
                }},

    CommandFlag{"--decode", "", "tokenize", kCommand, "ids to text",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tokenize.decode = is_on(v, s); }},
    CommandFlag{"--jsonl", "", "tokenize", kCommand, "line by line: {\"text\": …} to {\"ids\": […]}, or the reverse",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tokenize.jsonl = is_on(v, s); }},

    CommandFlag{"--add-bos", "", "tokenize", kCommand, "put the begin-of-text token first",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tokenize.add_bos = is_on(v, s); }},

    CommandFlag{"-f,--file", "FILE", "perplexity", kCommand,
                "plain text, .jsonl with text or ids per line, or .json with an array of strings",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.perplexity.file = non_empty(v, s); }},
    CommandFlag{"--max-ids", "N", "perplexity", kCommand, "cut every document to N ids",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.perplexity.max_ids = integer_from(v.back(), {1, kNoBound}, s);
                }},

    CommandFlag{
        "--mode", "NAME", "tune", kCommand, "random, ga (genetic) or grid [default ga]",
        [](Arguments& a, const Values& v, const ValueSource& s) { a.tune.mode = one_of("random ga grid", v, s); }},
    CommandFlag{"--objective", "NAME", "tune", kCommand,
                "what shall be fast: prefill, decode or total [default prefill]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.objective = one_of("prefill decode total", v, s);
                }},
    CommandFlag{"--heads", "MIN-MAX", "tune", kCommand, "heads_per_band to try [default 1 to all]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.heads = range(v, {1, kMaxTuneHeads}, s);
                }},
    CommandFlag{"--chunks", "MIN-MAX", "tune", kCommand, "chunk_size to try [default 16-128]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.chunks = range(v, {1, 1024}, s);
                }},
    CommandFlag{"--workers", "MIN-MAX", "tune", kCommand, "workers to try [default: the run's setting]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.workers = range(v, {0, 256}, s);
                }},
    CommandFlag{"--trials", "N", "tune", kCommand, "candidates of the mode random [default 24]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.trials = integer_from(v.back(), {1, kMaxTuneTrials}, s);
                }},
    CommandFlag{"--generations", "N", "tune", kCommand, "generations of the mode ga [default 4]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.generations = integer_from(v.back(), {1, kMaxTuneTrials}, s);
                }},
    CommandFlag{"--population", "N", "tune", kCommand, "candidates of one generation [default 8]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.population = integer_from(v.back(), {2, kMaxTuneTrials}, s);
                }},
    CommandFlag{"-r,--repeats", "N", "tune", kCommand, "pairs of runs that a candidate gets at least [default 3]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.repeats = integer_from(v.back(), {1, kMaxBenchRepeats}, s);
                }},
    CommandFlag{"-f,--prompt-file", "FILE", "tune", kCommand, "a text to prefill [default: made-up tokens]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.prompt_file = non_empty(v, s); }},
    CommandFlag{"--prompt-tokens", "N", "tune", kCommand, "length of the made-up prompt [default 2048]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.prompt_tokens = integer_from(v.back(), {1, kMaxBenchTokens}, s);
                }},
    CommandFlag{"--new", "N", "tune", kCommand, "tokens to decode for the objectives decode and total [default 32]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.tune.new_tokens = integer_from(v.back(), {1, kMaxBenchTokens}, s);
                }},
    CommandFlag{"--settings", "FILE", "tune", kCommand,
                "a configuration file whose \"optimizer\" object sets the above",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tune.settings = non_empty(v, s); }},
    CommandFlag{"--tag", "TEXT", "tune", kCommand, "end of the run folder's name [default: the mode]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tune.tag = non_empty(v, s); }},
    CommandFlag{"--resume", "DIR", "tune", kCommand, "go on with an interrupted run in its folder",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.tune.resume = non_empty(v, s); }},

    CommandFlag{"-o,--output", "DIR", "quantize", kCommand, "the checkpoint directory to write: new or empty",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.quantize.output = non_empty(v, s); }},
    CommandFlag{"--bits", "N", "quantize", kCommand, "8 or 4 [default: of --dtype int8 or int4, else 8]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.quantize.bits = parse_integer(one_of("8 4", v, s), s, "8 or 4");
                }},
    CommandFlag{"--group", "N", "quantize", kCommand,
                "columns that share a scale, a multiple of 32 up to 65536; 0: a row [default 0 for 8 bits, 32 for 4]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.quantize.group = integer_from(v.back(), {0, kNoBound}, s);
                }},
    CommandFlag{"--scheme", "NAME", "quantize", kCommand, "symmetric, or affine for 4 bits [default affine there]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.quantize.scheme = one_of("symmetric affine", v, s);
                }},
    CommandFlag{"--verify", "", "quantize", kCommand, "read the result back and compare it [default on]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.quantize.verify = is_on(v, s); }},
    CommandFlag{"--settings", "FILE", "quantize", kCommand,
                "a configuration file whose \"quantize\" object sets the above",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.quantize.settings = non_empty(v, s); }},

    CommandFlag{"--once", "", "monitor", kCommand, "print one table and exit",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.monitor.once = is_on(v, s); }},
    CommandFlag{"--json-stream", "", "monitor", kCommand, "print a JSON object per look, one a line",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.monitor.json_stream = is_on(v, s); }},
    CommandFlag{"--interval", "SECONDS", "monitor", kCommand, "time between two looks [default 1]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.monitor.interval = seconds(v, s); }},
    CommandFlag{"--count", "N", "monitor", kCommand, "end a stream after N looks; 0: go on [default 0]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.monitor.count = integer_from(v.back(), {0, kNoBound}, s);
                }},
    CommandFlag{"--sort", "NAME", "monitor", kCommand, "pid, model, phase, tok_s or memory [default pid]",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  a.monitor.sort = one_of("pid model phase tok_s memory", v, s);
                }},

    CommandFlag{"--json", "", "info selftest perplexity check monitor quantize", kCommand, "print one JSON object",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.json = is_on(v, s); }},

    CommandFlag{"--profile", "NAME", "*", kConfiguration, "settings of NAME.json in the configs directory",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.layers.profile = non_empty(v, s); }},
    CommandFlag{"--config", "FILE", "*", kConfiguration, "settings of a JSON file (repeatable, the last one wins)",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  for (const std::string& path : v) a.layers.config_files.emplace_back(non_empty({path}, s));
                }},
    CommandFlag{"--configs-dir", "DIR", "*", kConfiguration,
                "where profiles are [default ./configs, else the shipped one]",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.layers.configs_dir = non_empty(v, s); }},
    CommandFlag{"--print-effective-config,--print-config", "", "generate", kConfiguration,
                "print the merged settings and where each comes from, and exit",
                [](Arguments& a, const Values& v, const ValueSource& s) { a.print_effective_config = is_on(v, s); }},

    CommandFlag{"-v,--verbose", "", "*", kGeneral, "the same as --log-level debug",
                [](Arguments& a, const Values& v, const ValueSource& s) {
                  if (is_on(v, s) && !a.layers.flags.contains("log_level")) a.layers.flags["log_level"] = "debug";
                }},
    CommandFlag{"--version", "", "*", kGeneral, "print the version and exit", store_nothing},
    CommandFlag{"-h,--help", "", "*", kGeneral, "print this and exit; also `xlstm_generate COMMAND --help`",
                store_nothing},
};

bool has_word(std::string_view words, std::string_view word, char separator) {
  while (true) {
    const size_t end = words.find(separator);
    if (words.substr(0, end) == word) return true;
    if (end == std::string_view::npos) return false;
    words.remove_prefix(end + 1);
  }
}

bool is_command_flag(std::string_view name, std::string_view command) {
  return std::any_of(kFlags.begin(), kFlags.end(), [&](const CommandFlag& flag) {
    return flag.applies_to(command) && has_word(flag.names, name, ',');
  });
}

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

std::span<const CommandFlag> command_flags() {
  return kFlags;
}

bool CommandFlag::applies_to(std::string_view command) const {
  return commands == "*" || has_word(commands, command, ' ');
}

std::vector<std::string> option_flag_names(const Option& option, std::string_view command) {
  std::string flag = cat("--", option.key);
  std::replace(flag.begin(), flag.end(), '_', '-');
  if (is_command_flag(flag, command)) return {};
  std::vector<std::string> names;
  for (const Alias& alias : kAliases) {
    if (alias.key == option.key && !is_command_flag(alias.name, command)) names.emplace_back(alias.name);
  }
  names.push_back(std::move(flag));
  return names;
}

std::vector<std::string> split_commas(std::string_view text) {
  return split_at(text, ',');
}

}  // namespace xlstm
