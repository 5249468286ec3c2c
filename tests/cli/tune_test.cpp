// The command tune, as a user runs it: small searches on the bundled model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli.h"

namespace xlstm::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A working directory of its own, where runs/mps_opt appears.
class Tune : public testing::Test {
 protected:
  ProgramResult tune(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "tune");
    for (const char* flag : {"--device", "cpu"}) arguments.emplace_back(flag);
    return run(arguments, {"", false, dir.path()});
  }

  // The only run's folder.
  [[nodiscard]] fs::path folder() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(dir / "runs/mps_opt")) found.push_back(entry.path());
    EXPECT_EQ(found.size(), 1U);
    return found.front();
  }

  [[nodiscard]] json read(const char* file) const { return json::parse(read_all(folder() / file)); }

  [[nodiscard]] json effective_config(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--print-effective-config", "--device", "cpu"});
    return json::parse(run(arguments, {"", false, dir.path()}).out);
  }

  TempDir dir;
};

const std::vector<std::string> kSmall = {"--prompt-tokens", "40", "--chunks", "8-24", "-r", "1", "--heads", "1-2"};

std::vector<std::string> small(std::vector<std::string> more) {
  more.insert(more.begin(), kSmall.begin(), kSmall.end());
  return more;
}

int lines_of(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

TEST_F(Tune, GaWritesAResultThatTheNextRunPicksUp) {
  const ProgramResult result = tune(small({"--mode", "ga", "--generations", "2", "--population", "3", "--seed", "5"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("chunk_size"), HasSubstr("\nplain: "), HasSubstr("\nbest:  "), HasSubstr("quartiles")));
  EXPECT_THAT(last_line(result.out), HasSubstr("runs/mps_opt/"));
  EXPECT_THAT(folder().filename().string(), EndsWith("_ga"));

  const json best = read("best.json");
  EXPECT_EQ(best["device"], "cpu");
  EXPECT_EQ(best["backend"], "ray_compiled_steps");
  EXPECT_EQ(best["model"]["embedding_dim"], 256);
  EXPECT_EQ(best["model"]["num_blocks"], 8);
  EXPECT_GT(best["metrics"]["prefill_tok_s"], 0);
  const json meta = read("run_meta.json");
  EXPECT_EQ(meta["seed"], 5);
  EXPECT_EQ(meta["search"]["chunks"], json::parse("[8, 24]"));
  EXPECT_EQ(meta["command"][1], "tune");
  EXPECT_EQ(meta["space"]["chunk_size"], json::parse("[8, 16, 24]"));
  const std::string summary = read_all(folder() / "summary.csv");
  EXPECT_THAT(summary, StartsWith("backend,workers,heads_per_band,chunk_size,prefill_tok_s,decode_tok_s,prefill_s,"
                                  "decode_s\nray_compiled_steps,"));
  EXPECT_EQ(lines_of(read_all(folder() / "trials.jsonl")), lines_of(summary) - 1)
      << "the confirmation, but not the plain row";

  const json config = effective_config({});
  EXPECT_EQ(config["chunk_size"], best["params"]["chunk_size"]);
  EXPECT_EQ(config["_origin"]["chunk_size"], "runs/mps_opt/" + folder().filename().string() + "/best.json");
  const json flagged = effective_config({"--chunk-size", "48"});
  EXPECT_EQ(flagged["chunk_size"], 48);
  EXPECT_EQ(flagged["_origin"]["chunk_size"], "command line");
  for (const std::vector<std::string>& other : {std::vector<std::string>{"--chunkwise-backend", "queued"},
                                                {"--no-use-best"},
                                                {"-m", (goldens() / "zoo/bias_f32").string()}}) {
    std::vector<std::string> arguments = other;
    if (other.back() == "queued") arguments.back() = "queued_compiled_steps";
    EXPECT_THAT(effective_config(arguments)["_origin"]["chunk_size"].get<std::string>(), Not(HasSubstr("best.json")))
        << other.front();
  }
  const ProgramResult plain = run({"-p", "Once", "-n", "2", "--device", "cpu"}, {"", false, dir.path()});
  EXPECT_EQ(plain.exit_code, 0);
  EXPECT_THAT(plain.err, HasSubstr("tuned result runs/mps_opt/"));
}

TEST_F(Tune, RandomTriesSoManyCandidatesAndBeginsWithTheEarlierResult) {
  ASSERT_EQ(tune(small({"--mode", "random", "--trials", "2", "--tag", "my run/1"})).exit_code, 0);
  EXPECT_THAT(folder().filename().string(), EndsWith("_my_run_1"));
  EXPECT_EQ(lines_of(read_all(folder() / "trials.jsonl")), 3);
  fs::rename(folder(), dir / "first");
  fs::create_directories(dir / "runs/mps_opt/old");
  (void)dir.file("runs/mps_opt/old/best.json", R"({"chunk_size": 16, "heads_per_band": 2, "device": "cpu"})");
  ASSERT_EQ(tune(small({"--mode", "random", "--trials", "1", "--runs-dir", "runs/mps_opt"})).exit_code, 0);
  fs::remove_all(dir / "runs/mps_opt/old");
  const std::string trials = read_all(folder() / "trials.jsonl");
  const json first = json::parse(trials.substr(0, trials.find('\n')));
  EXPECT_EQ(first["params"]["chunk_size"], 16);
  EXPECT_EQ(first["params"]["heads_per_band"], 2);
}

TEST_F(Tune, GridTriesThemAllOverASettingsFileThatFlagsOverrule) {
  const std::string settings = dir.file("s.json", R"({"chunk_size": 32, "optimizer": {"backend": "queued",
      "mode": "random", "trials": 16, "repeats": 1, "heads": [2, 8], "chunks": [16, 24], "workers": [1, 2],
      "prompt_tokens": 30, "tag": "fromfile"}})")
                                   .string();
  const ProgramResult result = tune({"--settings", settings, "--mode", "grid", "--heads", "4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("--config takes chunk_size"));
  EXPECT_THAT(folder().filename().string(), EndsWith("_fromfile"));
  const json best = read("best.json");
  EXPECT_EQ(best["backend"], "queued_compiled_steps");
  EXPECT_TRUE(best["params"].contains("workers"));
  EXPECT_EQ(read("run_meta.json")["space"],
            json::parse(R"({"chunk_size": [16, 24], "heads_per_band": [4], "workers": [1, 2]})"));
  EXPECT_EQ(lines_of(read_all(folder() / "trials.jsonl")), 2 * 2 + 1);
}

TEST_F(Tune, AKernelWithoutASchedulerIsSearchedForItsChunkSizeOnly) {
  const ProgramResult result =
      tune(small({"--mode", "grid", "--chunkwise-backend", "cpu", "--objective", "total", "--new", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("heads_per_band and workers have no effect with chunkwise--cpu"));
  EXPECT_EQ(read("best.json")["params"].size(), 1U);
  EXPECT_GT(read("best.json")["metrics"]["decode_tok_s"], 0);
  EXPECT_EQ(read("run_meta.json")["space"]["heads_per_band"].size(), 1U);
}

TEST_F(Tune, TakesAPromptFileOrASyntheticShape) {
  const std::string text = dir.file("p.txt", "Once upon a time there was a little fox.").string();
  ASSERT_EQ(tune({"-f", text, "--chunks", "8-8", "--heads", "1", "-r", "1", "--mode", "grid"}).exit_code, 0);
  EXPECT_GT(read("run_meta.json")["prompt"]["tokens"], 5);
  EXPECT_LT(read("run_meta.json")["prompt"]["tokens"], 30);
  fs::remove_all(dir / "runs");
  const std::string shape = "E=32,blocks=1,heads=2,vocab=50";
  ASSERT_EQ(tune(small({"--shape", shape, "--mode", "grid", "--objective", "decode", "--new", "3"})).exit_code, 0);
  EXPECT_EQ(read("best.json")["model"]["vocab_size"], 50);
  fs::remove_all(dir / "runs");
  EXPECT_EQ(tune({"--shape", shape, "-f", text}).exit_code, 3) << "no tokenizer";
  EXPECT_FALSE(fs::exists(dir / "runs") && !fs::is_empty(dir / "runs/mps_opt"))
      << "no folder of a run that never began";
}

TEST_F(Tune, WhatIsInterruptedIsResumed) {
  const std::vector<std::string> arguments = small({"--mode", "grid", "--seed", "9"});
  ASSERT_EQ(tune(arguments).exit_code, 0);
  const fs::path run_folder = folder();
  // As an interruption leaves it: some trials, the last line torn, no result.
  const std::string trials = read_all(run_folder / "trials.jsonl");
  const size_t second = trials.find('\n', trials.find('\n') + 1) + 1;
  const std::string name = "runs/mps_opt/" + run_folder.filename().string();
  (void)dir.file(name + "/trials.jsonl", trials.substr(0, second + 40));
  fs::remove(run_folder / "best.json");
  fs::remove(run_folder / "summary.csv");

  const std::vector<std::pair<std::vector<std::string>, std::string>> refused = {
      {{"--chunks", "8-16"}, "search.chunks"},
      {{"--heads", "1"}, "search.heads"},
      {{"--mode", "ga"}, "search.mode"},
      {{"--prompt-tokens", "41"}, "prompt_tokens"},
      {{"--seed", "8"}, "seed"},
      {{"--chunk-size", "40"}, "plain.chunk_size"},
      {{"--dtype", "float32"}, "dtype"},
      {{"--chunkwise-backend", "queued_compiled_steps"}, "backend"},
      {{"-m", (goldens() / "zoo/bias_f32").string()}, "model"}};
  for (const auto& [flags, what] : refused) {
    std::vector<std::string> other = {"--resume", name};
    other.insert(other.end(), flags.begin(), flags.end());
    const ProgramResult result = tune(other);
    EXPECT_EQ(result.exit_code, 2) << what;
    EXPECT_THAT(last_line(result.err), AllOf(StartsWith("error: "), HasSubstr(what), HasSubstr("run_meta.json")));
  }
  const ProgramResult result = tune({"--resume", name});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("going on after 2 trials"));
  EXPECT_THAT(read_all(run_folder / "trials.jsonl"), StartsWith(trials.substr(0, second)));
  EXPECT_EQ(lines_of(read_all(run_folder / "trials.jsonl")), lines_of(trials));
  EXPECT_TRUE(fs::exists(run_folder / "best.json"));
  EXPECT_TRUE(fs::exists(run_folder / "summary.csv"));

  const ProgramResult again = tune({"--resume", name});
  EXPECT_EQ(again.exit_code, 0) << "a complete run only reports";
  EXPECT_EQ(again.out, result.out);
}

TEST_F(Tune, AnInterruptKeepsTheTrialsAndSaysHowToGoOn) {
  // A search far longer than the test; SIGINT once the first trial is on the disk.
  const std::string script =
      "\"$0\" tune --device cpu --mode grid --chunks 1-512 --prompt-tokens 64 -r 1 & run=$!; "
      "until [ -s \"$(echo runs/mps_opt/*_grid/trials.jsonl)\" ]; do sleep 0.05; done; kill -INT $run; wait $run";
  // A shell without job control starts background programs with SIGINT ignored; `set -m` gives them their own group.
  const ProgramResult result =
      run_program("/bin/bash", {"-c", "set -m; " + script, executable()}, {"", false, dir.path()});
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("--resume runs/mps_opt/" + folder().filename().string()));
  EXPECT_GE(lines_of(read_all(folder() / "trials.jsonl")), 1);
  EXPECT_GE(lines_of(read_all(folder() / "summary.csv")), 2);
  EXPECT_FALSE(fs::exists(folder() / "best.json"));
}

TEST_F(Tune, PlotTuningDrawsARun) {
  const std::string script = std::string(XLSTM_SOURCE_DIR) + "/scripts/plot_tuning.py";
  const std::string params = R"({"chunk_size": 64, "heads_per_band": 1, "workers": 2})";
  (void)dir.file("run_meta.json", R"({"plain": )" + params + R"(, "search": {"objective": "prefill"}})");
  const auto plot = [&](const std::string& trials) {
    (void)dir.file("trials.jsonl", trials);
    return run_program("/usr/bin/env", {"python3", script, dir.path().string(), "-o", (dir / "out.png").string()});
  };
  EXPECT_EQ(plot("").exit_code, 2) << "no trial";
  EXPECT_EQ(plot("nonsense\n").exit_code, 2);
  EXPECT_EQ(run_program("/usr/bin/env", {"python3", script, (dir / "none").string()}).exit_code, 2);
  const std::string trial = R"({"trial": 1, "kind": "candidate", "accepted": true, "vs_plain": 1.1, "params": )" +
                            params + R"(, "speedup": {"median": 1.1, "lower_quartile": 1.0, "upper_quartile": 1.2}})";
  const ProgramResult result = plot(trial + "\n" + R"({"trial": 2, "ki)");
  if (run_program("/usr/bin/env", {"python3", "-c", "import matplotlib"}).exit_code == 0) {
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(read_all(dir / "out.png"), StartsWith("\x89PNG"));
  } else {
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, AllOf(StartsWith("error: matplotlib"), HasSubstr("pip install matplotlib")));
  }
}

TEST_F(Tune, RefusesBadRequests) {
  const std::string bad = dir.file("bad.json", R"({"optimizer": {"chunks": [16, 2000]}})").string();
  const std::vector<std::pair<std::vector<std::string>, std::pair<int, std::string>>> cases = {
      {{"--settings", bad}, {2, "optimizer.chunks (" + bad + ":1)"}},
      {{"--settings", (dir / "none").string()}, {2, "none"}},
      {{"--mode", "best"}, {2, "--mode"}},
      {{"--chunks", "64-16"}, {2, "--chunks"}},
      {{"-f", "x", "--prompt-tokens", "3"}, {2, "prompt"}},
      {{"-f", (dir / "none").string()}, {2, "none"}},
      {{"--resume", dir.path().string()}, {2, "run_meta.json"}},
      {{"--runs-dir", bad}, {6, "run folder"}},
      {{"-m", dir.path().string()}, {3, dir.path().string()}},
      {{"--shape", "13b"}, {2, "--shape"}}};
  for (const auto& [flags, expected] : cases) {
    const ProgramResult result = tune(flags);
    EXPECT_EQ(result.exit_code, expected.first) << flags[0] << ' ' << flags[1] << '\n' << result.err;
    EXPECT_THAT(last_line(result.err), AllOf(StartsWith("error: "), HasSubstr(expected.second)));
    EXPECT_EQ(result.out, "");
  }
}

}  // namespace
}  // namespace xlstm::test
