// The command line: what is understood, what is refused and how that is said, and what help prints.
#include "src/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "src/cli/command_flags.h"
#include "tests/support/expect_error.h"
#include "xlstm/core/str.h"
#include "xlstm/core/version.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Optional;
using Words = std::vector<std::string>;

Arguments parse(const Words& words) {
  std::vector<const char*> argv = {"xlstm_generate"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return parse_arguments(static_cast<int>(argv.size()), argv.data());
}

json flags(const Words& words) {
  return parse(words).layers.flags;
}

// Each case: words, and what the message must contain.
void expect_refused(const std::vector<std::pair<Words, Words>>& cases) {
  for (const auto& [words, parts] : cases) {
    SCOPED_TRACE(join(words, " "));
    expect_error([&, w = words] { (void)parse(w); }, ExitCode::kUsage, parts);
  }
}

TEST(Arguments, WithoutAnyGenerate) {
  const Arguments arguments = parse({});
  EXPECT_EQ(arguments.command, "generate");
  EXPECT_EQ(arguments.layers.flags, json::object());
  EXPECT_FALSE(arguments.model || arguments.prompt || arguments.prompt_file || arguments.prompt_ids);
  EXPECT_FALSE(arguments.layers.profile || arguments.layers.configs_dir);
  EXPECT_TRUE(arguments.layers.config_files.empty());
  EXPECT_EQ(parse_arguments(0, nullptr).command, "generate");
}

TEST(Arguments, OfGenerate) {
  const Arguments a = parse({"-m",
                             "dir",
                             "-p",
                             "hi",
                             "-e",
                             "--echo",
                             "--state-save",
                             "s",
                             "--state-load",
                             "l",
                             "--dump-logits",
                             "d",
                             "--profile",
                             "golden",
                             "--config",
                             "a",
                             "--config=b",
                             "--configs-dir",
                             "c",
                             "--print-effective-config"});
  EXPECT_THAT(a.model, Optional(std::string("dir")));
  EXPECT_THAT(a.prompt, Optional(std::string("hi")));
  EXPECT_TRUE(a.escapes);
  EXPECT_TRUE(a.echo);
  EXPECT_THAT(a.state_save, Optional(std::string("s")));
  EXPECT_THAT(a.state_load, Optional(std::string("l")));
  EXPECT_THAT(a.dump_logits, Optional(std::string("d")));
  EXPECT_THAT(a.layers.profile, Optional(std::string("golden")));
  EXPECT_THAT(a.layers.config_files, ElementsAre("a", "b"));
  EXPECT_EQ(a.layers.configs_dir, std::filesystem::path("c"));
  EXPECT_TRUE(a.print_effective_config);
  EXPECT_TRUE(parse({"--print-config"}).print_effective_config);
  EXPECT_THAT(parse({"-f", "-"}).prompt_file, Optional(std::string("-")));
  EXPECT_THAT(*parse({"--prompt-ids", "1,20,0"}).prompt_ids, ElementsAre(1, 20, 0));
  for (const char* name : {"-m", "--model", "--model-path", "--model_path"}) {
    EXPECT_THAT(parse({name, "dir"}).model, Optional(std::string("dir"))) << name;
  }
}

TEST(Flags, EveryOptionHasOneInBothSpellings) {
  for (const Option& option : runtime_options()) {
    std::string hyphens = cat("--", option.key);
    std::replace(hyphens.begin(), hyphens.end(), '_', '-');
    const json value = get_option({}, option);
    const std::string text = value.is_string() ? value.get<std::string>() : value.is_array() ? "x" : value.dump();
    const json expected = {{std::string(option.key), value.is_array() ? json({"x"}) : value}};
    for (const std::string& name : {hyphens, cat("--", option.key)}) {
      SCOPED_TRACE(name);
      EXPECT_EQ(flags({name + "=" + text}), expected);
      if (value.is_boolean()) {
        EXPECT_EQ(flags({name}), json({{std::string(option.key), true}}));
        EXPECT_EQ(flags({"--no-" + name.substr(2)}), json({{std::string(option.key), false}}));
        EXPECT_EQ(flags({"--no_" + name.substr(2)}), json({{std::string(option.key), false}}));
        EXPECT_EQ(flags({name + "=false"}), json({{std::string(option.key), false}}));
      } else {
        EXPECT_EQ(flags({name, text}), expected);
      }
    }
  }
}

TEST(Flags, HaveTheShortNamesOfTheContract) {
  EXPECT_EQ(flags({"-n", "5", "-s", "-1", "-t4", "--temp", "0.5"}),
            json({{"max_new_tokens", 5}, {"seed", -1}, {"threads", 4}, {"temperature", 0.5}}));
  EXPECT_EQ(flags({"-n=5"}), json({{"max_new_tokens", 5}}));
  EXPECT_EQ(flags({"-v"}), json({{"log_level", "debug"}}));
  EXPECT_EQ(flags({"-v", "--log-level", "warn"}), json({{"log_level", "warn"}}));
  const Arguments together = parse({"-evn5"});
  EXPECT_TRUE(together.escapes);
  EXPECT_EQ(together.layers.flags, json({{"log_level", "debug"}, {"max_new_tokens", 5}}));
}

TEST(Flags, TheLastOneWinsButStopCollects) {
  EXPECT_EQ(flags({"--chunk-size", "8", "--chunk_size=16"}), json({{"chunk_size", 16}}));
  EXPECT_EQ(flags({"--use-best", "--no-use-best"}), json({{"use_best", false}}));
  EXPECT_EQ(flags({"--no-use-best", "--use-best"}), json({{"use_best", true}}));
  EXPECT_EQ(flags({"--stop", "a", "--stop", "[INST]", "--stop=--"}), json({{"stop", {"a", "[INST]", "--"}}}));
  EXPECT_THAT(parse({"-p", "a", "-p", "b"}).prompt, Optional(std::string("b")));
}

TEST(Values, AreTakenLiterally) {
  const std::vector<std::pair<Words, std::string>> cases = {{{"-p", ""}, ""},
                                                            {{"--prompt="}, ""},
                                                            {{"-p=-x"}, "-x"},
                                                            {{"-p==x"}, "=x"},
                                                            {{"-p", "=x"}, "=x"},
                                                            {{"-p", "-x"}, "-x"},
                                                            {{"-p", "-x=3"}, "-x=3"},
                                                            {{"-p", "--"}, "--"},
                                                            {{"--prompt=--seed"}, "--seed"},
                                                            {{"--prompt", "--unknown"}, "--unknown"},
                                                            {{"-phi"}, "hi"},
                                                            {{"-p", "bench"}, "bench"},
                                                            {{"-p", "[a,b]"}, "[a,b]"},
                                                            {{"-p", "\"a\" 'b' %%"}, "\"a\" 'b' %%"},
                                                            {{"-p", "{}"}, "{}"},
                                                            {{"-p", "a\nb\xff"}, "a\nb\xff"}};
  for (const auto& [words, prompt] : cases) {
    SCOPED_TRACE(join(words, " "));
    EXPECT_THAT(parse(words).prompt, Optional(prompt));
  }
  // An empty value is a value; it does not take the next argument.
  const Arguments arguments = parse({"--log-file=", "-p", "x"});
  EXPECT_EQ(arguments.layers.flags, json({{"log_file", ""}}));
  EXPECT_THAT(arguments.prompt, Optional(std::string("x")));
}

TEST(Values, AreCheckedLikeConfiguration) {
  expect_refused({{{"--chunk-size", "0"}, {"--chunk-size (command line): expected an integer from 1 to 1024, got 0"}},
                  {{"--chunk_size=4x"}, {"--chunk-size (command line)", "\"4x\""}},
                  {{"-n", "many"}, {"--max-new-tokens (command line)", "\"many\""}},
                  {{"--temp", "inf"}, {"--temperature (command line)", "\"inf\""}},
                  {{"--seed", "99999999999999999999"}, {"--seed (command line)"}},
                  {{"--device", "gpu"}, {"--device (command line): expected one of auto, cpu, cuda, cuda:N, mps"}},
                  {{"--stop", ""}, {"--stop (command line): expected a list of non-empty texts"}},
                  {{"--stop="}, {"--stop (command line)"}},
                  {{"--log-file", "\xff"}, {"--log-file (command line): expected UTF-8 text"}},
                  {{"--use-best=yes"}, {"--use-best (command line): expected true or false, got \"yes\""}},
                  {{"--use-best="}, {"--use-best (command line): expected true or false"}},
                  {{"--no-use-best=x"}, {"--use-best (command line): expected true or false"}},
                  {{"--echo=1"}, {"--echo (command line): expected true or false, got \"1\""}},
                  {{"-e=1"}, {"-e (command line): expected no value, got \"1\""}},
                  {{"-m", ""}, {"--model (command line): expected a non-empty value"}},
                  {{"--config", ""}, {"--config (command line): expected a non-empty value"}},
                  {{"--config", "a", "--config="}, {"--config (command line): expected a non-empty value"}},
                  {{"--prompt-ids", ""}, {"--prompt-ids (command line): expected an integer, at least 0, got \"\""}},
                  {{"--prompt-ids", "1,-2"}, {"--prompt-ids (command line)", "got -2"}},
                  {{"--prompt-ids", "1,,2"}, {"--prompt-ids (command line)", "got \"\""}},
                  {{"--prompt-ids", "1 2"}, {"--prompt-ids (command line)", "\"1 2\""}}});
}

TEST(Values, AreMissedAtTheEndAndBeforeAnotherFlag) {
  expect_refused({{{"-p"}, {"-p (command line): expected a value, got the end of the command line"}},
                  {{"bench", "--shape"}, {"--shape (command line): expected a value"}},
                  {{"-en"}, {"-n (command line): expected a value"}},
                  {{"-p", "--seed", "3"}, {"-p (command line): expected a value, got the flag --seed", "-p=--seed"}},
                  {{"-p", "--chunk_size=3"}, {"got the flag --chunk_size=3"}}});
}

TEST(Mistakes, InFlagsAreAnsweredWithTheNearestOne) {
  expect_refused({{{"--chunk-sise", "3"}, {"flag (command line)", "did you mean --chunk-size?", "\"--chunk-sise\""}},
                  {{"--chunk_sise=3"}, {"did you mean --chunk-size?", "\"--chunk_sise\""}},
                  {{"--no-use-bets"}, {"did you mean --no-use-best?"}},
                  {{"--tmep", "1"}, {"flag (command line)", "\"--tmep\""}},
                  {{"bench", "--n-promt", "3"}, {"did you mean --n-prompt?"}},
                  {{"--qqqqqqqqqqq"}, {"one that `xlstm_generate --help` lists", "\"--qqqqqqqqqqq\""}},
                  {{"bench", "-z"}, {"one that `xlstm_generate bench --help` lists", "\"-z\""}},
                  {{"--shape", "7b"}, {"a flag of xlstm_generate (--shape belongs to bench)"}},
                  {{"info", "--dump_logits", "x"}, {"(--dump-logits belongs to generate)", "\"--dump_logits\""}},
                  {{"-p", "x", "bench"}, {"--prompt (command line)", "xlstm_generate bench"}},
                  {{"--no-chunk-size"}, {"\"--no-chunk-size\""}}});
}

TEST(Mistakes, InCommandsAreAnsweredWithTheNearestOneOrAll) {
  expect_refused({{{"bensh"}, {"command (command line)", "did you mean bench?", "\"bensh\""}},
                  {{"tokenise", "-p", "x"}, {"did you mean tokenize?"}},
                  {{"Once", "upon"},
                   {"did you forget -p", "info, bench, selftest, tune, perplexity, tokenize, quantize, check, monitor",
                    "\"Once\""}},
                  {{"--", "x"}, {"did you forget -p", "\"x\""}},
                  {{"--use-best", "false"}, {"\"false\""}},
                  {{"-"}, {"\"-\""}},
                  {{""}, {"argument (command line)", "\"\""}},
                  {{"bench", "info"}, {"no further argument", "\"info\""}},
                  {{"check", "a", "b"}, {"no further argument", "\"b\""}},
                  {{"generate"}, {"\"generate\""}},
                  {{"a\nb"}, {"\"a\\nb\""}}});
}

TEST(Mistakes, InWhatGoesTogetherAreNamed) {
  expect_refused({{{"-p", "a", "-f", "b"}, {"prompt (command line): expected one of -p, -f and --prompt-ids"}},
                  {{"-p", "a", "--prompt-ids", "1"}, {"prompt (command line)"}},
                  {{"tokenize", "-p", "a", "-f", "b"}, {"prompt (command line): expected one of -p and -f"}},
                  {{"bench", "-m", "a", "--shape", "7b"}, {"model (command line): expected one of -m and --shape"}},
                  {{"check", "-m", "a", "b"}, {"checkpoint (command line): expected one of -m and DIR"}},
                  {{"perplexity"}, {"-f (command line): expected a file to score"}}});
}

TEST(Commands, TakeConfigurationBeforeAndAfterTheirName) {
  const Arguments a = parse({"-m", "dir", "--chunk-size", "8", "--seed", "1", "info", "--chunk-size", "16", "--json"});
  EXPECT_EQ(a.command, "info");
  EXPECT_TRUE(a.json);
  EXPECT_THAT(a.model, Optional(std::string("dir")));
  EXPECT_EQ(a.layers.flags, json({{"chunk_size", 16}, {"seed", 1}}));
  for (const char* command : {"info", "bench", "selftest", "tune", "tokenize", "check", "monitor"}) {
    EXPECT_EQ(parse({command, "--device", "cpu", "-s", "2"}).layers.flags, json({{"device", "cpu"}, {"seed", 2}}));
    EXPECT_EQ(parse({command}).command, command);
  }
}

TEST(Commands, BenchHasListsOfItsOwn) {
  const Arguments defaults = parse({"bench"});
  EXPECT_THAT(defaults.bench.n_prompt, ElementsAre(512));
  EXPECT_THAT(defaults.bench.n_gen, ElementsAre(128));
  EXPECT_THAT(defaults.bench.batch, ElementsAre(1));
  EXPECT_EQ(defaults.bench.repeats, 5);
  EXPECT_EQ(defaults.bench.output, "table");

  const Arguments a = parse({"bench", "--shape", "E=64,blocks=2", "-p", "16,32", "-p", "64", "-n", "0", "-b=1,4", "-r",
                             "3", "-o", "jsonl", "--max-new-tokens", "9"});
  EXPECT_EQ(a.bench.shape, "E=64,blocks=2");
  EXPECT_THAT(a.bench.n_prompt, ElementsAre(16, 32, 64));
  EXPECT_THAT(a.bench.n_gen, ElementsAre(0));
  EXPECT_THAT(a.bench.batch, ElementsAre(1, 4));
  EXPECT_EQ(a.bench.repeats, 3);
  EXPECT_EQ(a.bench.output, "jsonl");
  EXPECT_EQ(a.layers.flags, json({{"max_new_tokens", 9}}));
  EXPECT_FALSE(a.prompt);

  expect_refused({{{"bench", "-p", "1,x"}, {"--n-prompt (command line)", "\"x\""}},
                  {{"bench", "-n", "-1"}, {"--n-gen (command line)", "got -1"}},
                  {{"bench", "-b", "0"}, {"--batch (command line)", "from 1 to"}},
                  {{"bench", "-r", "0"}, {"--repeats (command line)", "from 1 to"}},
                  {{"bench", "-o", "xml"}, {"--output (command line): expected one of table, csv, json, jsonl, md"}}});
}

TEST(Commands, TokenizeAddsNoBosUnlessAsked) {
  EXPECT_FALSE(parse({"tokenize", "-p", "x"}).tokenize.add_bos);
  EXPECT_TRUE(parse({"tokenize", "--add-bos"}).tokenize.add_bos);
  EXPECT_TRUE(parse({"tokenize", "--add_bos=true"}).tokenize.add_bos);
  EXPECT_FALSE(parse({"tokenize", "--add-bos", "--no-add-bos"}).tokenize.add_bos);
  const Arguments a = parse({"tokenize", "--decode", "--jsonl", "-f", "-"});
  EXPECT_TRUE(a.tokenize.decode && a.tokenize.jsonl);
  EXPECT_THAT(a.prompt_file, Optional(std::string("-")));
}

TEST(Commands, PerplexityAndCheckTakeTheirInput) {
  const Arguments perplexity = parse({"perplexity", "-f", "docs.json", "--max-ids", "99", "--json"});
  EXPECT_EQ(perplexity.perplexity.file, "docs.json");
  EXPECT_THAT(perplexity.perplexity.max_ids, Optional(int64_t{99}));
  EXPECT_TRUE(perplexity.json);
  expect_refused({{{"perplexity", "-f", "x", "--max-ids", "0"}, {"--max-ids (command line)", "at least 1"}}});
  EXPECT_THAT(parse({"check", "dir"}).model, Optional(std::string("dir")));
  EXPECT_THAT(parse({"check", "-m", "dir"}).model, Optional(std::string("dir")));
  EXPECT_THAT(parse({"check", "--", "-dir"}).model, Optional(std::string("-dir")));
  EXPECT_FALSE(parse({"check"}).model);
}

TEST(Help, ComesBeforeMistakesAndNamesTheVersion) {
  EXPECT_EQ(parse({"--help"}).command, "help");
  EXPECT_EQ(parse({"-h"}).text, help_text("generate"));
  EXPECT_EQ(parse({"bench", "-h", "--unknown"}).text, help_text("bench"));
  EXPECT_EQ(parse({"--version"}).command, "version");
  EXPECT_THAT(parse({"info", "--version"}).text, HasSubstr("xlstm_generate " + version()));
}

TEST(Help, ListsEveryFlagOfACommand) {
  for (const Command& command : commands()) {
    SCOPED_TRACE(command.name);
    const std::string text = help_text(command.name);
    for (const CommandFlag& flag : command_flags()) {
      if (!flag.applies_to(command.name)) continue;
      EXPECT_THAT(text, HasSubstr(join(split_commas(flag.names), ", ")));
    }
  }
  const std::string text = help_text("generate");
  for (const Option& option : runtime_options()) {
    std::string name = cat(std::holds_alternative<SwitchOption>(option.kind) ? "--[no-]" : "--", option.key);
    std::replace(name.begin(), name.end(), '_', '-');
    EXPECT_THAT(text, HasSubstr(name));
  }
  for (const Command& command : commands().subspan(1)) EXPECT_THAT(text, HasSubstr(cat("\n  ", command.name, ' ')));
  EXPECT_THAT(text, HasSubstr("tokens per chunk in prefill [1 to 1024, default 64]"));
}

TEST(Help, StatesTheDefaultsOfBench) {
  const BenchArgs defaults;
  const std::string text = help_text("bench");
  EXPECT_THAT(text, HasSubstr(cat("0: none [default ", defaults.n_prompt.front(), "]")));
  EXPECT_THAT(text, HasSubstr(cat("0: none [default ", defaults.n_gen.front(), "]")));
  EXPECT_THAT(text, HasSubstr(cat("side by side [default ", defaults.batch.front(), "]")));
  EXPECT_THAT(text, HasSubstr(cat("median counts [default ", defaults.repeats, "]")));
  EXPECT_THAT(text, HasSubstr(cat("[default ", defaults.output, "]")));
}

TEST(Help, FitsAHundredColumns) {
  for (const Command& command : commands()) {
    std::istringstream lines(help_text(command.name));
    for (std::string line; std::getline(lines, line);) {
      const auto columns = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
      EXPECT_LE(columns, 100) << line;
      EXPECT_EQ(line.find('\t'), std::string::npos) << line;
    }
  }
}

}  // namespace
}  // namespace xlstm
