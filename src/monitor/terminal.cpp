#define NCURSES_NOMACROS 1  // erase, move, timeout … are functions, not macros
#include "xlstm/monitor/terminal.h"

#include <curses.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "xlstm/core/errors.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/reader.h"
#include "xlstm/monitor/screen.h"

namespace xlstm {
namespace {

constexpr const char* kInstead = "one that can show a full screen; or --once, --json or --json-stream";
constexpr std::chrono::milliseconds kPoll{100};  // between looks at the stop request

struct FileCloser {
  void operator()(FILE* file) const { std::fclose(file); }
};
using FilePointer = std::unique_ptr<FILE, FileCloser>;

// Keys come from standard input, or from the terminal itself if that is redirected.
FilePointer open_keyboard() {
  const int fd = ::isatty(STDIN_FILENO) == 1 ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                             : ::open("/dev/tty", O_RDONLY | O_CLOEXEC);
  FilePointer file(fd < 0 ? nullptr : ::fdopen(fd, "r"));
  if (!file) {
    if (fd >= 0) ::close(fd);
    fail(ExitCode::kUsage, "monitor", "standard input", "a terminal; or --once, --json or --json-stream", "none");
  }
  return file;
}

// curses, from start to end. One at a time.
class Terminal {
 public:
  Terminal() : keyboard_(open_keyboard()) {
    std::setlocale(LC_CTYPE, "");  // the characters that the terminal shows
    unicode_ = std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
    const char* name = std::getenv("TERM");
    screen_ = name == nullptr || *name == '\0' ? nullptr : ::newterm(nullptr, stdout, keyboard_.get());
    char place_cursor[] = "cup";  // an array: the curses of macOS takes no const
    if (screen_ == nullptr || ::tigetstr(place_cursor) == nullptr) {
      if (screen_ != nullptr) close();
      fail(ExitCode::kUsage, "terminal", "TERM", kInstead, name == nullptr ? "none" : cat('"', name, '"'));
    }
    ::cbreak();
    ::noecho();
    ::nonl();
    ::keypad(stdscr, TRUE);
    ::nodelay(stdscr, TRUE);
    ::set_escdelay(25);
    ::curs_set(0);
    start_colors();
  }
  ~Terminal() { close(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void show(const MonitorState& state) {
    const ScreenOptions options{static_cast<size_t>(std::max(1, ::getmaxy(stdscr))),
                                static_cast<size_t>(std::max(1, ::getmaxx(stdscr))), unicode_};
    ::erase();
    int row = 0;
    for (const ScreenLine& line : draw_screen(state, options)) {
      ::move(row++, 0);
      for (const StyledText& part : line) {
        ::attrset(static_cast<int>(attributes(part)));
        ::addstr(part.text.c_str());
      }
    }
    ::attrset(A_NORMAL);
    ::refresh();
  }

  // The next key within kPoll, ERR if there was none. False in `open`: the terminal has gone away.
  int next_key(bool& open) {
    if (const int key = ::getch(); key != ERR) return key;
    pollfd waiting{::fileno(keyboard_.get()), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(kPoll.count()));
    const int key = ::getch();
    // Readable without a key to read, again and again, is the end of the input.
    silent_reads_ = ready > 0 && key == ERR ? silent_reads_ + 1 : 0;
    constexpr int kGivenUp = 50;
    open = (waiting.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0 && silent_reads_ < kGivenUp;
    return key;
  }

 private:
  void close() {
    ::endwin();
    ::delscreen(screen_);
    screen_ = nullptr;
  }

  void start_colors() {
    colors_ = std::getenv("NO_COLOR") == nullptr && ::has_colors();
    if (!colors_) return;
    ::start_color();
    const short background = ::use_default_colors() == OK ? short{-1} : short{COLOR_BLACK};
    ::init_pair(kGoodPair, COLOR_GREEN, background);
    ::init_pair(kWarnPair, COLOR_YELLOW, background);
    ::init_pair(kBadPair, COLOR_RED, background);
  }

  [[nodiscard]] chtype attributes(const StyledText& part) const {
    const chtype reverse = part.reverse ? A_REVERSE : A_NORMAL;
    const auto colored = [&](short pair, chtype without) {
      return colors_ ? static_cast<chtype>(COLOR_PAIR(pair)) : without;
    };
    switch (part.style) {
      case Style::kPlain: return reverse;
      case Style::kBold: return reverse | A_BOLD;
      case Style::kDim: return reverse | A_DIM;
      // Colours on a reversed line would be its background.
      case Style::kGood: return reverse | (part.reverse ? A_NORMAL : colored(kGoodPair, A_NORMAL));
      case Style::kWarn: return reverse | A_BOLD | (part.reverse ? A_NORMAL : colored(kWarnPair, A_NORMAL));
      case Style::kBad: return reverse | A_BOLD | colored(kBadPair, A_UNDERLINE);
    }
    return reverse;
  }

  static constexpr short kGoodPair = 1;
  static constexpr short kWarnPair = 2;
  static constexpr short kBadPair = 3;

  FilePointer keyboard_;
  SCREEN* screen_ = nullptr;
  bool unicode_ = false;
  bool colors_ = false;
  int silent_reads_ = 0;
};

int our_key(int key) {
  switch (key) {
    case KEY_UP: return keys::kUp;
    case KEY_DOWN: return keys::kDown;
    case KEY_PPAGE: return keys::kPageUp;
    case KEY_NPAGE: return keys::kPageDown;
    case KEY_HOME: return keys::kHome;
    case KEY_END: return keys::kEnd;
    default: return key;
  }
}

void send(MonitorState& state, const RunRecord& target, int signal, std::string_view what) {
  const std::string problem = signal_process(target, signal);
  show_message(state, problem.empty() ? cat(target.pid, ": ", what) : cat(target.pid, ": not sent, ", problem));
}

}  // namespace

bool has_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

void run_terminal(MonitorState state) {
  using Clock = std::chrono::steady_clock;
  Terminal terminal;
  Clock::time_point last_look;
  bool look_now = true;
  bool open = true;
  while (open) {
    throw_if_stopped();
    if (look_now || Clock::now() - last_look >= std::chrono::duration<double>(state.interval)) {
      last_look = Clock::now();
      look_now = false;
      take_look(state, read_processes());
      terminal.show(state);
    }
    const int key = terminal.next_key(open);
    if (key == ERR) continue;
    if (key != KEY_RESIZE) {
      const KeyEffect effect = press_key(state, our_key(key));
      switch (effect.kind) {
        case KeyEffect::Kind::kNone: break;
        case KeyEffect::Kind::kQuit: return;
        case KeyEffect::Kind::kLook: look_now = true; break;
        case KeyEffect::Kind::kEmptyCache: send(state, effect.target, SIGUSR1, "asked to empty its cache"); break;
        case KeyEffect::Kind::kTerminate: send(state, effect.target, SIGTERM, "asked to end"); break;
      }
    }
    terminal.show(state);
  }
}

}  // namespace xlstm
