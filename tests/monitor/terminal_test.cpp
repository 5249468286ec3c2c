#include "xlstm/monitor/terminal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>

#include "xlstm/core/errors.h"
#include "xlstm/core/stop.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

constexpr int kStopped = 130;

// The monitor in a process of its own, on a pseudo terminal.
class MonitorOnTerminal {
 public:
  explicit MonitorOnTerminal(const char* term) : terminal_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    EXPECT_EQ(::grantpt(terminal_), 0);
    EXPECT_EQ(::unlockpt(terminal_), 0);
    const std::string name = ::ptsname(terminal_);
    // Kept open here too, so that the settings left behind can be seen.
    other_end_ = ::open(name.c_str(), O_RDWR | O_NOCTTY);
    winsize size{};
    size.ws_row = 24;
    size.ws_col = 80;
    ::ioctl(other_end_, TIOCSWINSZ, &size);
    EXPECT_EQ(::tcgetattr(other_end_, &before_), 0);
    child_ = ::fork();
    if (child_ == 0) run(name, term);
  }
  ~MonitorOnTerminal() {
    if (!ended_) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(other_end_);
    ::close(terminal_);
  }
  MonitorOnTerminal(const MonitorOnTerminal&) = delete;
  MonitorOnTerminal& operator=(const MonitorOnTerminal&) = delete;

  // What has been drawn, once `text` is in it; or all there was for a long time.
  std::string wait_for(const std::string& text) {
    pollfd waiting{terminal_, POLLIN, 0};
    while (drawn_.find(text) == std::string::npos && ::poll(&waiting, 1, kLongMs) > 0) {
      std::array<char, 4096> block{};
      const ssize_t n = ::read(terminal_, block.data(), block.size());
      if (n <= 0) break;
      drawn_.append(block.data(), static_cast<size_t>(n));
    }
    return drawn_;
  }

  void press(char key) const { EXPECT_EQ(::write(terminal_, &key, 1), 1); }

  // -1 if it was killed, or has not ended after a long time.
  int exit_code() {
    int status = 0;
    for (int waited = 0; !ended_ && waited < kLongMs; waited += kStepMs) {
      ended_ = ::waitpid(child_, &status, WNOHANG) == child_;
      if (!ended_) ::poll(nullptr, 0, kStepMs);
      // g++ 12's ThreadSanitizer defers signals and loses one in some dozens.
      if (kThreadSanitizer && interrupted_ && waited > 0 && waited % kPressAgainMs == 0) press_interrupt();
    }
    EXPECT_TRUE(ended_);
    return ended_ && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  // Ctrl-C.
  void press_interrupt() {
    press('\x03');
    interrupted_ = true;
  }

  [[nodiscard]] bool settings_are_restored() const {
    termios after{};
    return ::tcgetattr(other_end_, &after) == 0 && after.c_lflag == before_.c_lflag &&
           after.c_iflag == before_.c_iflag && after.c_oflag == before_.c_oflag;
  }

 private:
  static constexpr int kLongMs = 20000;
  static constexpr int kStepMs = 10;
  static constexpr int kPressAgainMs = 2000;
#if defined(__SANITIZE_THREAD__)
  static constexpr bool kThreadSanitizer = true;
#else
  static constexpr bool kThreadSanitizer = false;
#endif

  [[noreturn]] static void run(const std::string& name, const char* term) {
    ::setsid();
    const int fd = ::open(name.c_str(), O_RDWR);
    ::ioctl(fd, TIOCSCTTY, 0);
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(fd, stream);
    ::setenv("TERM", term, 1);
    struct sigaction action {};
    action.sa_handler = [](int) { request_stop(StopReason::kInterrupt); };
    ::sigaction(SIGINT, &action, nullptr);
    try {
      run_terminal({});
    } catch (const Stopped&) {
      ::_exit(kStopped);
    } catch (const Error& error) {
      ::_exit(static_cast<int>(error.code()));
    }
    ::_exit(0);
  }

  int terminal_;
  int other_end_ = -1;
  termios before_{};
  pid_t child_ = 0;
  bool ended_ = false;
  bool interrupted_ = false;
  std::string drawn_;
};

TEST(MonitorTerminal, DrawsAndEndsWithQ) {
  MonitorOnTerminal monitor("xterm");
  ASSERT_THAT(monitor.wait_for("every 1 s"), HasSubstr("xlstm_generate monitor"));
  monitor.press('h');
  EXPECT_THAT(monitor.wait_for("SIGUSR1"), HasSubstr("SIGUSR1"));
  monitor.press('x');  // closes the help
  monitor.press('q');
  EXPECT_EQ(monitor.exit_code(), 0);
  EXPECT_TRUE(monitor.settings_are_restored());
}

TEST(MonitorTerminal, AnInterruptEndsItWithTheTerminalRestored) {
  MonitorOnTerminal monitor("xterm");
  ASSERT_THAT(monitor.wait_for("every 1 s"), HasSubstr("xlstm_generate monitor"));
  EXPECT_FALSE(monitor.settings_are_restored());
  monitor.press_interrupt();
  EXPECT_EQ(monitor.exit_code(), kStopped);
  EXPECT_TRUE(monitor.settings_are_restored());
}

TEST(MonitorTerminal, ATerminalThatCannotShowAScreenIsRefused) {
  for (const char* term : {"dumb", "no-such-terminal", ""}) {
    MonitorOnTerminal monitor(term);
    EXPECT_EQ(monitor.exit_code(), static_cast<int>(ExitCode::kUsage)) << term;
    EXPECT_TRUE(monitor.settings_are_restored()) << term;
  }
}

}  // namespace
}  // namespace xlstm
