// The command line, parsed: which command, its own flags, and the configuration layers that the flags stand for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "xlstm/config/layers.h"

namespace xlstm {

struct BenchArgs {
  std::string shape;                   // synthetic model instead of a checkpoint; empty: none
  std::vector<int64_t> n_prompt{512};  // prompt lengths to prefill, 0 or more
  std::vector<int64_t> n_gen{128};     // tokens to decode, 0 or more
  std::vector<int64_t> batch{1};       // sequences side by side, 1 or more
  int64_t repeats = 5;
  bool cell = false;                   // measure the chunkwise kernel alone instead of whole prefills
  bool limits = false;                 // measure the machine's limits too
  std::optional<std::string> compare;  // a file with earlier results
  std::string output = "table";        // table, csv, json, jsonl, md
  // Values to go through, a row for each combination; empty: the run's setting.
  std::vector<std::string> chunkwise_backend;
  std::vector<std::string> dtype;
  std::vector<std::string> state_dtype;
  std::vector<int64_t> chunk_size;
  std::vector<int64_t> heads_per_band;
  std::vector<int64_t> workers;
  std::vector<int64_t> threads;
};

struct IntRange {
  int64_t min = 0;
  int64_t max = 0;  // min or more
};

// What is absent comes from the settings file's "optimizer" object, else from the tuner's defaults.
struct TuneArgs {
  std::string shape;                     // synthetic model instead of a checkpoint; empty: none
  std::optional<std::string> settings;   // a configuration file with an "optimizer" object
  std::optional<std::string> resume;     // folder of an interrupted run
  std::optional<std::string> mode;       // random, ga, grid
  std::optional<std::string> objective;  // prefill, decode, total
  std::optional<int64_t> trials;
  std::optional<int64_t> generations;
  std::optional<int64_t> population;
  std::optional<int64_t> repeats;
  std::optional<int64_t> prompt_tokens;  // of a made-up prompt
  std::optional<int64_t> new_tokens;     // decoded for the objectives decode and total
  std::optional<IntRange> heads;
  std::optional<IntRange> chunks;
  std::optional<IntRange> workers;
  std::optional<std::string> tag;
};

struct MonitorArgs {
  bool once = false;
  bool json_stream = false;
  double interval = 1;       // seconds
  int64_t count = 0;         // looks of a stream; 0: until stopped
  std::string sort = "pid";  // pid, model, phase, tok_s, memory
};

struct TokenizeArgs {
  bool decode = false;   // ids to text
  bool jsonl = false;    // one JSON object per line
  bool add_bos = false;  // only if --add-bos was given
};

struct PerplexityArgs {
  std::string file;
  std::optional<int64_t> max_ids;  // ids per document, 1 or more
};

// What is absent comes from the settings file's "quantize" object, else from the defaults for the bits.
struct QuantizeArgs {
  std::string output;                   // the directory to write
  std::optional<std::string> settings;  // a configuration file with a "quantize" object
  std::optional<int64_t> bits;          // 8 or 4
  std::optional<int64_t> group;         // 0 or more
  std::optional<std::string> scheme;    // symmetric, affine
  std::optional<bool> verify;
};

struct SelftestArgs {
  std::optional<std::string> speed;  // a shape, or none
};

struct Arguments {
  std::string command = "generate";       // or another of commands(), help, version
  std::string text;                       // for help and version: what to print on stdout
  std::vector<std::string> command_line;  // as it was given, the program's name first

  LayerRequest layers;  // configs_dir, profile, config_files and flags; the caller adds resolve_device and model

  std::optional<std::string> model;
  std::optional<std::string> prompt;               // at most one of these three
  std::optional<std::string> prompt_file;          // "-": stdin
  std::optional<std::vector<int64_t>> prompt_ids;  // one id or more, each 0 or more
  bool escapes = false;                            // interpret \n and the like in `prompt`
  bool print_effective_config = false;
  std::optional<std::string> state_save;
  std::optional<std::string> state_load;
  std::optional<std::string> dump_logits;
  bool echo = false;
  bool force = false;  // load although memory is estimated not to suffice
  bool json = false;   // one JSON object instead of text

  BenchArgs bench;
  SelftestArgs selftest;
  TokenizeArgs tokenize;
  PerplexityArgs perplexity;
  TuneArgs tune;
  MonitorArgs monitor;
  QuantizeArgs quantize;
};

// Error kUsage for anything it does not know, with the nearest known flag or command; configuration flags are checked
// as configuration files are. --help and --version come back as commands.
[[nodiscard]] Arguments parse_arguments(int argc, const char* const* argv);

}  // namespace xlstm
