// The list of options.
#include <array>
#include <cfloat>
#include <cstdint>
#include <vector>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using enum OptionGroup;
using Opts = RuntimeOpts;

constexpr int64_t kNoIntLimit = INT64_MAX;
constexpr double kNoLimit = DBL_MAX;

constexpr std::array kOptions = {
    Option{"device", TextOption{&Opts::device, "auto|cpu|cuda|cuda:N|mps"}, kDevice, "DEVICE",
           "where to run; auto: mps, then cuda, then cpu, among those present"},
    Option{"dtype", TextOption{&Opts::dtype, "auto|float32|bfloat16|float16|int8|int4"}, kDevice, "TYPE",
           "weights at run time; auto: a quantized checkpoint as it is, else bfloat16"},
    Option{"state_dtype", TextOption{&Opts::state_dtype, "float32|bfloat16"}, kDevice, "TYPE",
           "the states C and n; m and the gates are always float32"},
    Option{"ops_backend", TextOption{&Opts::ops_backend, "auto|native|cpu|cuda|metal"}, kDevice, "NAME",
           "embedding, projections, norms, feed-forward and head"},
    Option{"chunkwise_backend", TextOption{&Opts::chunkwise_backend}, kDevice, "NAME",
           "prefill kernel; `info` lists all kernels and where they run"},
    Option{"sequence_backend", TextOption{&Opts::sequence_backend}, kDevice, "NAME",
           "kernel for the tokens left over after full chunks"},
    Option{"step_backend", TextOption{&Opts::step_backend}, kDevice, "NAME", "kernel for one token"},

    Option{"chunk_size", IntOption{&Opts::chunk_size, 1, 1024}, kScheduling, "N", "tokens per chunk in prefill"},
    Option{"heads_per_band", IntOption{&Opts::heads_per_band, 1, kNoIntLimit}, kScheduling, "N",
           "heads per scheduled task, cut to the model's head count"},
    Option{"workers", IntOption{&Opts::workers, 0, 256}, kScheduling, "N",
           "scheduler threads for prefill on a CPU; 0: one per core"},
    Option{"streams", IntOption{&Opts::streams, 0, 32}, kScheduling, "N",
           "cuda: streams on which bands of fewer heads than the model has run beside each other; 0: one"},
    Option{"threads", IntOption{&Opts::threads, 0, 1024}, kScheduling, "N",
           "threads inside operations; 0: one per core"},
    Option{"prefill_segment", IntOption{&Opts::prefill_segment, 1, kNoIntLimit}, kScheduling, "N",
           "tokens that pass through all layers at once; bounds memory for long prompts"},

    Option{"ray_local_mode", IntOption{&Opts::ray_local_mode, 0, 1}, kRay, "0|1",
           "1: actors inside this process; 0: a Ray cluster"},
    Option{"ray_dashboard", IntOption{&Opts::ray_dashboard, 0, 1}, kRay, "0|1", "start the cluster's dashboard"},
    Option{"ray_dashboard_port", IntOption{&Opts::ray_dashboard_port, 1, 65535}, kRay, "PORT", "the dashboard's port"},
    Option{"ray_keep_alive", IntOption{&Opts::ray_keep_alive, 0, 1}, kRay, "0|1", "leave the cluster running at exit"},
    Option{"ray_address", TextOption{&Opts::ray_address}, kRay, "ADDRESS", "cluster to connect to"},

    Option{"use_best", SwitchOption{&Opts::use_best}, kTuned, "", "apply the newest matching tuned result"},
    Option{"runs_dir", TextOption{&Opts::runs_dir}, kTuned, "DIR", "where tuned results (*/best.json) are looked for"},

    Option{"mem_watchdog", SwitchOption{&Opts::mem_watchdog}, kMemory, "", "watch memory use during a run"},
    Option{"mem_poll_ms", IntOption{&Opts::mem_poll_ms, 1, kNoIntLimit}, kMemory, "MS", "time between two looks"},
    Option{"mem_soft_pct", NumberOption{&Opts::mem_soft_pct, 0, 1, true}, kMemory, "SHARE",
           "share of the limit at which mem_action is taken"},
    Option{"mem_hard_pct", NumberOption{&Opts::mem_hard_pct, 0, 1, true}, kMemory, "SHARE",
           "share of the limit at which the run stops"},
    Option{"mem_soft_mb", NumberOption{&Opts::mem_soft_mb, 0, kNoLimit}, kMemory, "MB",
           "the soft limit in megabytes; above 0 it wins over the share"},
    Option{"mem_hard_mb", NumberOption{&Opts::mem_hard_mb, 0, kNoLimit}, kMemory, "MB",
           "the hard limit in megabytes; above 0 it wins over the share"},
    Option{"mem_action", TextOption{&Opts::mem_action, "warn|empty_cache", true}, kMemory, "LIST",
           "what happens at the soft limit"},
    Option{"mem_log", TextOption{&Opts::mem_log}, kMemory, "FILE", "CSV file for memory use"},
    Option{"mem_every", IntOption{&Opts::mem_every, 1, kNoIntLimit}, kMemory, "MS", "time between two rows of mem_log"},

    Option{"stats_log", TextOption{&Opts::stats_log}, kLogging, "FILE", "CSV file for decode speed"},
    Option{"stats_every", IntOption{&Opts::stats_every, 1, kNoIntLimit}, kLogging, "N",
           "decode steps between two rows of stats_log"},

    Option{"max_new_tokens", IntOption{&Opts::max_new_tokens, -1, kNoIntLimit}, kGeneration, "N",
           "tokens to generate; -1: until end of text"},
    Option{"temperature", NumberOption{&Opts::temperature, 0, kNoLimit}, kGeneration, "X",
           "0: always the likeliest token, and top_k, top_p, min_p are ignored"},
    Option{"top_k", IntOption{&Opts::top_k, 0, kNoIntLimit}, kGeneration, "N", "keep the N likeliest tokens; 0: all"},
    Option{"top_p", NumberOption{&Opts::top_p, 0, 1, true}, kGeneration, "X",
           "keep the likeliest tokens that reach this probability together"},
    Option{"min_p", NumberOption{&Opts::min_p, 0, 1}, kGeneration, "X",
           "drop tokens below this share of the likeliest one's probability"},
    Option{"repeat_penalty", NumberOption{&Opts::repeat_penalty, 0, kNoLimit, true}, kGeneration, "X",
           "above 1: makes tokens of prompt and continuation less likely to come again"},
    Option{"repeat_last_n", IntOption{&Opts::repeat_last_n, -1, kNoIntLimit}, kGeneration, "N",
           "how many last tokens repeat_penalty looks at; -1: all"},
    Option{"seed", IntOption{&Opts::seed, -1, kNoIntLimit}, kGeneration, "N",
           "random seed; -1: a random one, which is logged"},
    Option{"stop", TextListOption{&Opts::stop}, kGeneration, "TEXT", "end generation before this text (repeatable)"},
    Option{"ignore_eos", SwitchOption{&Opts::ignore_eos}, kGeneration, "", "go on after end of text"},
    Option{"add_bos", SwitchOption{&Opts::add_bos}, kGeneration, "", "put the begin-of-text token before text prompts"},

    Option{"log_level", TextOption{&Opts::log_level, "trace|debug|info|warn|error|off"}, kLogging, "LEVEL",
           "the least severe messages to print on stderr"},
    Option{"log_file", TextOption{&Opts::log_file}, kLogging, "FILE", "append the log to this file as well"},
    Option{"progress", SwitchOption{&Opts::progress}, kLogging, "", "progress bars when stderr is a terminal"},
};

}  // namespace

std::string_view group_title(OptionGroup group) {
  switch (group) {
    case kGeneration: return "Generation";
    case kDevice: return "Device and kernels";
    case kScheduling: return "Scheduling";
    case kRay: return "Ray (this version runs actors inside the process: ray_local_mode 1)";
    case kTuned: return "Tuned results";
    case kMemory: return "Memory guard";
    case kLogging: return "Logs and statistics";
  }
  return {};
}

std::span<const Option> runtime_options() {
  return kOptions;
}

const Option* find_option(std::string_view key) {
  for (const Option& option : kOptions) {
    if (option.key == key) return &option;
  }
  return nullptr;
}

std::string nearest_option(std::string_view key) {
  std::vector<std::string> keys;
  for (const Option& option : kOptions) keys.emplace_back(option.key);
  return nearest(key, keys);
}

}  // namespace xlstm
