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
  std::string output = "table";  // table, csv, json, jsonl, md
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

struct Arguments {
  std::string command = "generate";  // or info, bench, selftest, perplexity, tokenize, check, help, version
  std::string text;                  // for help and version: what to print on stdout

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
  bool json = false;  // info, selftest, perplexity, check: one JSON object instead of text

  BenchArgs bench;
  TokenizeArgs tokenize;
  PerplexityArgs perplexity;
};

// Error kUsage for anything it does not know, with the nearest known flag or command; configuration flags are checked
// as configuration files are. --help and --version come back as commands.
[[nodiscard]] Arguments parse_arguments(int argc, const char* const* argv);

}  // namespace xlstm
