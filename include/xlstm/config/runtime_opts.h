// Every setting of a run: its name, type, default, allowed values and meaning. The table behind runtime_options() is
// the only list of them; defaults, JSON parsing, range checks, command-line flags, help and printing all follow it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace xlstm {

// The merged settings. The initialisers here are the compiled defaults, layer 1 of the configuration.
struct RuntimeOpts {
  std::string device = "auto";
  std::string dtype = "auto";
  std::string state_dtype = "float32";
  std::string ops_backend = "auto";
  std::string chunkwise_backend = "ray_compiled_steps";
  std::string sequence_backend = "auto";
  std::string step_backend = "auto";

  int64_t chunk_size = 64;
  int64_t heads_per_band = 4;
  int64_t workers = 0;
  int64_t streams = 0;
  int64_t threads = 0;
  int64_t prefill_segment = 2048;

  int64_t ray_local_mode = 1;
  int64_t ray_dashboard = 0;
  int64_t ray_dashboard_port = 8265;
  int64_t ray_keep_alive = 0;
  std::string ray_address;

  bool use_best = true;
  std::string runs_dir = "runs/mps_opt";

  bool mem_watchdog = true;
  int64_t mem_poll_ms = 200;
  double mem_soft_pct = 0.85;  // share of the limit, 0 to 1
  double mem_hard_pct = 0.92;
  double mem_soft_mb = 0;  // above 0: wins over the share
  double mem_hard_mb = 0;
  std::string mem_action = "warn,empty_cache";
  std::string mem_log;
  int64_t mem_every = 200;  // milliseconds

  std::string stats_log;
  int64_t stats_every = 1;  // decode steps

  int64_t max_new_tokens = 128;
  double temperature = 0.8;
  int64_t top_k = 40;
  double top_p = 0.95;
  double min_p = 0.05;
  double repeat_penalty = 1.0;
  int64_t repeat_last_n = 64;
  int64_t seed = -1;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool add_bos = true;

  std::string log_level = "info";
  std::string log_file;
  bool progress = true;

  bool operator==(const RuntimeOpts&) const = default;
};

// The kind of a device option: "cuda:1" → "cuda".
[[nodiscard]] std::string device_kind(std::string_view device);

// Help sections, in the order in which help prints them.
enum class OptionGroup { kGeneration, kDevice, kScheduling, kRay, kTuned, kMemory, kLogging };
[[nodiscard]] std::string_view group_title(OptionGroup group);

// What kind of value an option holds and which values it takes. Bounds are included unless said otherwise.
struct SwitchOption {
  bool RuntimeOpts::*member;
};
struct IntOption {
  int64_t RuntimeOpts::*member;
  int64_t min;
  int64_t max;  // INT64_MAX: no upper bound
};
struct NumberOption {
  double RuntimeOpts::*member;
  double min;
  double max;              // DBL_MAX: no upper bound
  bool above_min = false;  // min itself is excluded
};
struct TextOption {
  std::string RuntimeOpts::*member;
  std::string_view choices = {};  // "a|b|c"; an entry "x:N" stands for x and a decimal number; empty: any text
  bool several = false;           // a comma-separated list of choices, possibly empty
};
struct TextListOption {
  std::vector<std::string> RuntimeOpts::*member;
};

struct Option {
  std::string_view key;  // JSON key; the flag has '-' for '_'
  std::variant<SwitchOption, IntOption, NumberOption, TextOption, TextListOption> kind;
  OptionGroup group;
  std::string_view value_name;  // placeholder in help; empty for switches
  std::string_view help;
};

// All options in declaration order.
[[nodiscard]] std::span<const Option> runtime_options();

// nullptr for an unknown key.
[[nodiscard]] const Option* find_option(std::string_view key);

// The known key most like `key`, or "".
[[nodiscard]] std::string nearest_option(std::string_view key);

// What an option accepts, for error messages and help: "an integer from 1 to 1024".
[[nodiscard]] std::string expected_values(const Option& option);

// A value and where it came from, for error messages: what is "chunk_size" or "--chunk-size", where is a file or
// "command line".
struct ValueSource {
  std::string what;
  std::string where;
};

// Sets one member after checking type and range; nothing is converted (64.0 is no integer, 1 is no bool), except that
// a number option takes a JSON integer. Error kUsage.
void set_option(RuntimeOpts& opts, const Option& option, const nlohmann::json& value, const ValueSource& source);

[[nodiscard]] nlohmann::json get_option(const RuntimeOpts& opts, const Option& option);

// The value that command-line texts stand for, with the type that set_option() expects and checked by it. A list
// option takes every text; other options take the last one. Error kUsage.
[[nodiscard]] nlohmann::json option_from_text(const Option& option, const std::vector<std::string>& texts,
                                              const ValueSource& source);

// Decimal integer or number that fills the whole text. Error kUsage, with `expected` in the message.
[[nodiscard]] int64_t parse_integer(std::string_view text, const ValueSource& source, std::string_view expected);
[[nodiscard]] double parse_number(std::string_view text, const ValueSource& source, std::string_view expected);

}  // namespace xlstm
