#include "xlstm/core/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace xlstm {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// Makes stderr a terminal for its lifetime and collects what is written to it.
class TerminalStderr {
 public:
  TerminalStderr() : terminal_(::posix_openpt(O_RDWR | O_NOCTTY)), before_(::dup(STDERR_FILENO)) {
    std::fflush(stderr);
    if (terminal_ < 0 || ::grantpt(terminal_) != 0 || ::unlockpt(terminal_) != 0) return;
    const int program_side = ::open(::ptsname(terminal_), O_RDWR | O_NOCTTY);
    if (program_side < 0) return;
    ::dup2(program_side, STDERR_FILENO);
    ::close(program_side);
    ready_ = true;
  }
  ~TerminalStderr() {
    restore();
    ::close(before_);
    if (terminal_ >= 0) ::close(terminal_);
  }
  TerminalStderr(const TerminalStderr&) = delete;
  TerminalStderr& operator=(const TerminalStderr&) = delete;

  [[nodiscard]] bool ready() const { return ready_; }

  // Ends the capture and returns what the terminal got.
  std::string take() {
    ::fcntl(terminal_, F_SETFL, ::fcntl(terminal_, F_GETFL) | O_NONBLOCK);
    std::fflush(stderr);
    std::string text;
    std::array<char, 4096> block{};
    for (ssize_t n = 0; (n = ::read(terminal_, block.data(), block.size())) > 0;) {
      text.append(block.data(), static_cast<size_t>(n));
    }
    restore();
    return text;
  }

 private:
  void restore() {
    std::fflush(stderr);
    ::dup2(before_, STDERR_FILENO);
  }

  int terminal_;
  int before_;
  bool ready_ = false;
};

void work(int steps) {
  for (int i = 0; i < steps; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(30));
}

TEST(Progress, DrawsNothingWhenStderrIsNoTerminal) {
  testing::internal::CaptureStderr();
  EXPECT_FALSE(stderr_is_terminal());
  {
    Progress progress(RunPhase::kLoad, "load", 10, true);
    work(4);
    progress.advance(5);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Progress, DrawsLabelBarAndPercentOnATerminalAndErasesTheLine) {
  TerminalStderr terminal;
  if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
  EXPECT_TRUE(stderr_is_terminal());
  {
    Progress progress(RunPhase::kLoad, "load", 200, true);
    work(4);
    progress.advance(84);
  }
  const std::string text = terminal.take();
  EXPECT_THAT(text, HasSubstr("load [============      "));
  EXPECT_THAT(text, HasSubstr("] 42%"));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  EXPECT_THAT(text, EndsWith("\r\033[K"));
}

TEST(Progress, DrawsNothingWhenDisabled) {
  TerminalStderr terminal;
  if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
  {
    Progress progress(RunPhase::kLoad, "load", 10, false);
    work(4);
    progress.advance(10);
  }
  EXPECT_EQ(terminal.take(), "");
}

TEST(Progress, RedrawsAtMostTenTimesASecond) {
  TerminalStderr terminal;
  if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
  const auto start = std::chrono::steady_clock::now();
  {
    Progress progress(RunPhase::kLoad, "x", 1'000'000, true);
    while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(350)) progress.advance(1);
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  const std::string text = terminal.take();
  int draws = 0;
  for (size_t at = 0; (at = text.find("x [", at)) != std::string::npos; ++at) ++draws;
  EXPECT_GE(draws, 1);
  EXPECT_LE(draws, elapsed / std::chrono::milliseconds(100));
}

TEST(Progress, MoreThanTheTotalIsShownAsAll) {
  TerminalStderr terminal;
  if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
  {
    Progress progress(RunPhase::kLoad, "load", 0, true);
    work(4);
    progress.advance(50);
  }
  EXPECT_THAT(terminal.take(), HasSubstr("] 100%"));
}

}  // namespace
}  // namespace xlstm
