// A program that a test talks to while it runs: waits for what it prints, sends it signals.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <functional>
#include <thread>

#include "tests/support/run_program.h"

namespace xlstm::test {

class RunningProgram {
 public:
  RunningProgram(const std::string& program, std::vector<std::string> arguments,
                 const std::filesystem::path& cwd = {}) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (std::string& word : arguments) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    if (!cwd.empty()) ::posix_spawn_file_actions_addchdir_np(&actions, cwd.c_str());
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    const auto add = [&](int stream, const std::filesystem::path& path) {
      ::posix_spawn_file_actions_addopen(&actions, stream, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    };
    add(STDOUT_FILENO, dir_ / "out");
    add(STDERR_FILENO, dir_ / "err");
    const int error = ::posix_spawn(&child_, program.c_str(), &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error("cannot run " + program);
  }
  ~RunningProgram() {
    if (child_ == 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  [[nodiscard]] pid_t pid() const { return child_; }
  [[nodiscard]] std::string out() const { return read_all(dir_ / "out"); }
  [[nodiscard]] std::string err() const { return read_all(dir_ / "err"); }

  // False if it did not come true within a minute, or the program ended before.
  bool wait_until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < deadline) {
      if (condition()) return true;
      if (has_ended()) return condition();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  void send(int signal) const { ::kill(child_, signal); }

  // As an impatient user does: again and again until it ends.
  void send_until_end(int signal) {
    wait_until([&] {
      send(signal);
      return false;
    });
  }

  // A program that does not end fails the test and is killed.
  ProgramResult wait() {
    constexpr std::chrono::minutes kLong(3);
    const auto deadline = std::chrono::steady_clock::now() + kLong;
    while (!has_ended()) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "the program did not end within " << kLong.count() << " minutes; it printed:\n" << err();
        send(SIGKILL);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = 0;
    return {exit_code_of(status), out(), err()};
  }

 private:
  // Leaves the status to wait().
  [[nodiscard]] bool has_ended() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid == child_;
  }

  TempDir dir_;
  pid_t child_ = 0;
};

}  // namespace xlstm::test
