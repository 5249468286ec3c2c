// The option list: complete, with checked types and ranges.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "tests/support/expect_error.h"
#include "xlstm/config/runtime_opts.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;

// Converts to any member type, so that aggregate initialisation tells how many members a struct has.
struct Anything {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};
template <class T, size_t... I>
constexpr bool takes_members(std::index_sequence<I...>) {
  return requires {
    T{((void)I, Anything{})...};
  };
}
template <class T, size_t N = 1>
constexpr size_t count_members() {
  if constexpr (takes_members<T>(std::make_index_sequence<N + 1>())) {
    return count_members<T, N + 1>();
  } else {
    return N;
  }
}

void set(const std::string& key, const json& value) {
  RuntimeOpts opts;
  const Option* option = find_option(key);
  ASSERT_NE(option, nullptr) << key;
  set_option(opts, *option, value, {key, "test.json"});
  EXPECT_EQ(get_option(opts, *option), value) << key;
}

json from_text(const std::string& key, const std::string& text) {
  return option_from_text(*find_option(key), {text}, {"--" + key, "command line"});
}

TEST(Options, ListEveryMemberOfRuntimeOptsOnce) {
  std::set<std::string_view> keys;
  for (const Option& option : runtime_options()) keys.insert(option.key);
  EXPECT_EQ(keys.size(), runtime_options().size());
  EXPECT_EQ(runtime_options().size(), count_members<RuntimeOpts>());

  // Writing to each option in turn changes a different member each time.
  RuntimeOpts opts;
  for (const Option& option : runtime_options()) {
    const RuntimeOpts before = opts;
    std::visit(
        [&](const auto& kind) {
          auto& member = opts.*kind.member;
          using T = std::decay_t<decltype(member)>;
          if constexpr (std::is_same_v<T, bool>) {
            member = !member;
          } else if constexpr (std::is_same_v<T, std::string>) {
            member += "x";
          } else if constexpr (std::is_arithmetic_v<T>) {
            member += 1;
          } else {
            member.emplace_back("x");
          }
        },
        option.kind);
    EXPECT_NE(opts, before) << option.key;
  }
  for (const Option& option : runtime_options()) EXPECT_NE(get_option(opts, option), get_option({}, option));
}

TEST(Options, DefaultsAreAllowedValues) {
  for (const Option& option : runtime_options()) {
    RuntimeOpts opts;
    EXPECT_NO_THROW(set_option(opts, option, get_option({}, option), {std::string(option.key), "defaults"}));
  }
}

TEST(Options, LogLevelsAreTheLogsOwn) {
  const auto& kind = std::get<TextOption>(find_option("log_level")->kind);
  EXPECT_EQ(kind.choices, join(log::level_names(), "|"));
}

TEST(Options, AcceptValuesAtTheirBounds) {
  const std::vector<std::pair<std::string, json>> values = {{"chunk_size", 1},
                                                            {"chunk_size", 1024},
                                                            {"heads_per_band", 1},
                                                            {"workers", 0},
                                                            {"workers", 256},
                                                            {"streams", 32},
                                                            {"threads", 1024},
                                                            {"ray_local_mode", 0},
                                                            {"ray_dashboard_port", 65535},
                                                            {"seed", -1},
                                                            {"seed", INT64_MAX},
                                                            {"max_new_tokens", -1},
                                                            {"top_k", 0},
                                                            {"top_p", 1.0},
                                                            {"top_p", 1e-9},
                                                            {"min_p", 0.0},
                                                            {"min_p", 1.0},
                                                            {"temperature", 0.0},
                                                            {"temperature", 1e300},
                                                            {"repeat_last_n", -1},
                                                            {"mem_soft_pct", 1.0},
                                                            {"mem_hard_mb", 123.5},
                                                            {"device", "cuda"},
                                                            {"device", "cuda:0"},
                                                            {"device", "cuda:12"},
                                                            {"mem_action", ""},
                                                            {"mem_action", "empty_cache"},
                                                            {"stop", json::array()},
                                                            {"stop", {"a", "[INST]"}},
                                                            {"log_file", "a b/ü.log"},
                                                            {"use_best", false},
                                                            {"prefill_segment", 1 << 20}};
  for (const auto& [key, value] : values) {
    SCOPED_TRACE(key + " " + value.dump());
    set(key, value);
  }
}

TEST(Options, NumberTakesAnInteger) {
  RuntimeOpts opts;
  set_option(opts, *find_option("temperature"), 1, {"temperature", "test.json"});
  EXPECT_EQ(opts.temperature, 1.0);
}

TEST(Options, RefuseWrongTypesAndValuesOutOfRange) {
  const std::vector<std::tuple<std::string, json, std::string>> cases = {
      {"chunk_size", 0, "an integer from 1 to 1024, got 0"},
      {"chunk_size", 1025, "an integer from 1 to 1024, got 1025"},
      {"chunk_size", 64.0, "an integer from 1 to 1024, got 64.0"},
      {"chunk_size", "64", "an integer from 1 to 1024, got \"64\""},
      {"chunk_size", true, "an integer"},
      {"chunk_size", nullptr, "an integer"},
      {"chunk_size", json::array({64}), "got [64]"},
      {"seed", 1e30, "an integer, at least -1, got 1e+30"},
      {"seed", 9223372036854775808ULL, "got 9223372036854775808"},
      {"seed", -2, "at least -1"},
      {"workers", -1, "from 0 to 256"},
      {"workers", 257, "from 0 to 256"},
      {"streams", 33, "from 0 to 32"},
      {"threads", 1025, "from 0 to 1024"},
      {"heads_per_band", 0, "at least 1"},
      {"prefill_segment", 0, "at least 1"},
      {"ray_local_mode", 2, "from 0 to 1"},
      {"ray_local_mode", true, "from 0 to 1, got true"},
      {"ray_dashboard_port", 0, "from 1 to 65535"},
      {"ray_dashboard_port", 65536, "from 1 to 65535"},
      {"mem_poll_ms", 0, "at least 1"},
      {"stats_every", 0, "at least 1"},
      {"max_new_tokens", -2, "at least -1"},
      {"repeat_last_n", -2, "at least -1"},
      {"top_k", -1, "at least 0"},
      {"temperature", -0.1, "a number, at least 0, got -0.1"},
      {"temperature", "warm", "a number"},
      {"top_p", 0, "a number above 0 and at most 1, got 0"},
      {"top_p", 1.01, "at most 1"},
      {"min_p", 1.5, "a number from 0 to 1"},
      {"repeat_penalty", 0.0, "a number above 0"},
      {"mem_soft_pct", 0, "above 0 and at most 1"},
      {"mem_hard_pct", 92, "above 0 and at most 1, got 92"},
      {"mem_soft_mb", -1, "at least 0"},
      {"use_best", 1, "true or false, got 1"},
      {"use_best", "true", "true or false"},
      {"device", "gpu", "one of auto, cpu, cuda, cuda:N, mps, got \"gpu\""},
      {"device", "cuda:", "one of auto"},
      {"device", "cuda:x", "one of auto"},
      {"device", "cuda:-1", "one of auto"},
      {"device", "cuda:99999", "one of auto"},
      {"device", "", "one of auto"},
      {"dtype", "fp32", "one of auto, float32, bfloat16, float16, int8, int4"},
      {"state_dtype", "float16", "one of float32, bfloat16"},
      {"ops_backend", "fast", "one of auto, native, cpu, cuda, metal"},
      {"mem_action", "warn,stop", "a comma-separated list of warn, empty_cache"},
      {"mem_action", "warn,", "a comma-separated list"},
      {"log_level", "loud", "one of trace, debug, info, warn, error, off"},
      {"log_file", std::string("a\0b", 3), "text"},
      {"log_file", 3, "text, got 3"},
      {"stop", "a", "a list of non-empty texts"},
      {"stop", {"a", ""}, "a list of non-empty texts"},
      {"stop", {"a", 1}, "a list of non-empty texts"}};
  for (const auto& [key, value, expected] : cases) {
    SCOPED_TRACE(key + " " + value.dump());
    expect_error([&, k = key, v = value] { set(k, v); }, ExitCode::kUsage, {key + " (test.json): expected ", expected});
  }
}

TEST(Options, RefuseNumbersThatAreNotFinite) {
  for (const double value : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    expect_error([&] { set("temperature", value); }, ExitCode::kUsage, {"temperature (test.json)"});
  }
}

TEST(Options, TextsBecomeTypedValues) {
  EXPECT_EQ(from_text("chunk_size", "32"), json(32));
  EXPECT_EQ(from_text("seed", "-1"), json(-1));
  EXPECT_EQ(from_text("temperature", ".7"), json(0.7));
  EXPECT_EQ(from_text("temperature", "1"), json(1.0));
  EXPECT_EQ(from_text("min_p", "5e-2"), json(0.05));
  EXPECT_EQ(from_text("use_best", "false"), json(false));
  EXPECT_EQ(from_text("device", "cuda:1"), json("cuda:1"));
  EXPECT_EQ(from_text("runs_dir", ""), json(""));
}

TEST(Options, LastTextWinsExceptForLists) {
  const ValueSource source{"flag", "command line"};
  EXPECT_EQ(option_from_text(*find_option("chunk_size"), {"8", "16"}, source), json(16));
  EXPECT_EQ(option_from_text(*find_option("stop"), {"a", "b"}, source), json({"a", "b"}));
}

TEST(Options, RefuseTextsThatAreNoValue) {
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"chunk_size", "", "an integer from 1 to 1024, got \"\""},
      {"chunk_size", "64.0", "got \"64.0\""},
      {"chunk_size", " 64", "got \" 64\""},
      {"chunk_size", "64x", "got \"64x\""},
      {"chunk_size", "0x40", "got \"0x40\""},
      {"chunk_size", "+64", "got \"+64\""},
      {"chunk_size", "4096", "got 4096"},
      {"seed", "9223372036854775808", "got \"9223372036854775808\""},
      {"temperature", "nan", "got \"nan\""},
      {"temperature", "inf", "got \"inf\""},
      {"temperature", "1e999", "got \"1e999\""},
      {"temperature", "1,5", "got \"1,5\""},
      {"temperature", "0x1p3", "got \"0x1p3\""},
      {"temperature", "1-2", "got \"1-2\""},
      {"temperature", "", "got \"\""},
      {"temperature", "-1", "a number, at least 0"},
      {"use_best", "yes", "true or false, got \"yes\""},
      {"use_best", "", "true or false, got \"\""},
      {"stop", "", "a list of non-empty texts"},
      {"log_file", "\xff", "UTF-8 text, got \"\\xff\""}};
  for (const auto& [key, text, expected] : cases) {
    SCOPED_TRACE(key + " " + text);
    expect_error([&, k = key, t = text] { (void)from_text(k, t); }, ExitCode::kUsage,
                 {"--" + key + " (command line): expected ", expected});
  }
}

TEST(Options, SuggestTheNearestKey) {
  EXPECT_EQ(nearest_option("chunk_sise"), "chunk_size");
  EXPECT_EQ(nearest_option("chunk-size"), "chunk_size");
  EXPECT_EQ(nearest_option("temprature"), "temperature");
  EXPECT_EQ(nearest_option("qqqqqqqq"), "");
}

}  // namespace
}  // namespace xlstm
