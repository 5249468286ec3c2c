// Runs a program as a user would and returns what it printed and how it ended.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

extern char** environ;  // macOS declares it in no header

namespace xlstm::test {

struct ProgramResult {
  int exit_code = -1;  // minus the signal number if a signal ended it: 128 + signal is an orderly end
  std::string out;
  std::string err;
};

struct ProgramInput {
  std::string text;           // standard input
  bool as_file = true;        // a file with that text; false: /dev/null
  std::filesystem::path cwd;  // working directory; empty: the caller's
};

// Of a status from waitpid().
inline int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline ProgramResult run_program(const std::string& program, const std::vector<std::string>& arguments,
                                 const ProgramInput& input = {"", false, {}}) {
  const TempDir dir;
  const std::string in = input.as_file ? dir.file("in", input.text).string() : "/dev/null";
  const std::string out = (dir / "out").string();
  const std::string err = (dir / "err").string();
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  if (!input.cwd.empty()) ::posix_spawn_file_actions_addchdir_np(&actions, input.cwd.c_str());
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot run " + program);
  int status = 0;
  ::waitpid(child, &status, 0);
  return {exit_code_of(status), read_all(out), read_all(err)};
}

}  // namespace xlstm::test
